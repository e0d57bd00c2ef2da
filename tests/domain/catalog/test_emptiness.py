"""Which condition emptied an answer, against counting by hand."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.catalog.emptiness import explain_empty, sentence

ROWS = st.lists(st.lists(st.booleans(), min_size=4, max_size=4), max_size=30)


@given(ROWS)
def test_counts_are_those_of_the_rows(rows: list[list[bool]]) -> None:
    def count(kept: Sequence[int]) -> int:
        return sum(all(row[number] for number in kept) for row in rows)

    found = explain_empty(["a", "b", "c", "d"], count)
    assert [k.predicate for k in found] == ["a", "b", "c", "d"]
    for number, kept in enumerate(found):
        assert kept.kept == sum(all(row[: number + 1]) for row in rows)
        assert kept.without == sum(all(row[:number] + row[number + 1 :]) for row in rows)


def test_sentence_names_the_cause() -> None:
    rows = [(True, False), (True, False)]

    def count(kept: Sequence[int]) -> int:
        return sum(all(row[number] for number in kept) for row in rows)

    said = sentence(explain_empty(["light = 'night'", "speed > 99"], count))
    assert said == "nothing is left after speed > 99; 2 rows without speed > 99"
    assert "several" in sentence(explain_empty(["a", "b"], lambda kept: 0))
    assert "leave rows" in sentence(explain_empty(["a"], lambda kept: 3))
