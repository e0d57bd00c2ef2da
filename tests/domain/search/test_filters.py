from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.errors import AvError
from av_assets.domain.search.filters import parse_filter
from av_assets.domain.search.fusion import reciprocal_rank_fusion
from av_assets.domain.search.recall import recall_at


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("speed > 20", ("speed > 20",)),
        ("speed > 20 and has(kinds, 'cut_in')", ("speed > 20", "array_has(kinds, 'cut_in')")),
        ("speed > 1 OR light = 'it''s'", ("speed > 1 OR light = 'it''s'",)),
        ("not weather in ('rain','fog')", ("(NOT weather IN ('rain', 'fog'))",)),
        ("max_level between 1 and 3 AND weather is not null",
         ("(max_level >= 1 AND max_level <= 3)", "weather IS NOT NULL")),
    ],
)  # fmt: skip
def test_filter_is_written_anew(text: str, parts: tuple[str, ...]):
    assert parse_filter(text).parts == parts


@pytest.mark.parametrize(
    "text",
    ["", "1 = 1", "speed", "vector = 1", "content = 'x'", "speed > 'a'", "light = 3", "kinds = 'a'", "has(light, 'a')",
     "speed > (select 1)", "drive = 'a'; drop table x", "speed > 20 -- x", "sleep(3) > 1", "max_level > 1.5",
     "(" * 41 + "speed > 1" + ")" * 41, "speed > 1 or " * 400 + "speed > 1", "notspeed > 1", "speed > 1 2"],
)  # fmt: skip
def test_anything_else_is_refused(text: str):
    with pytest.raises(AvError) as caught:
        parse_filter(text)
    assert caught.value.code == "bad_filter"


@given(st.text(max_size=60))
def test_no_text_gets_through_or_crashes(text: str):
    with contextlib.suppress(AvError):
        assert parse_filter(parse_filter(text).sql.replace("array_has", "has")).parts


@given(st.lists(st.lists(st.sampled_from("abcdef"), unique=True), max_size=4))
def test_fusion_is_the_sum_of_reciprocal_ranks(lists: list[list[str]]):
    found = reciprocal_rank_fusion(lists)
    for name, score in found:
        assert score == pytest.approx(
            sum(1 / (61 + ranked.index(name)) for ranked in lists if name in ranked)
        )
    assert found == sorted(found, key=lambda item: (-item[1], item[0]))
    assert {name for name, _ in found} == {name for ranked in lists for name in ranked}


def test_recall_counts_what_is_as_near():
    exact = [[("a", 0.9), ("b", 0.8)], [("c", 0.7), ("d", 0.7)]]
    assert recall_at(exact, exact, 2) == 1
    assert (
        recall_at([[("a", 0.9), ("x", 0.1)], [("e", 0.7), ("d", 0.7)]], exact, 2) == 0.75
    )  # e is as near as d
    assert recall_at([[("a", 0.9), ("a", 0.9)], []], exact, 2) == 0.25
    assert recall_at([[]], [[]], 2) is None
