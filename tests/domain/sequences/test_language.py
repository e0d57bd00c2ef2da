"""Sentences and their mistakes: every error says where it is and what was expected."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.errors import AvError
from av_assets.domain.sequences.expressions import Allen, Both, Either, Keep, Kept, Then, Without, walk
from av_assets.domain.sequences.language import MAX_CHARACTERS, MAX_DEPTH, parse
from av_assets.domain.sequences.search import find
from av_assets.policies.scenes import ScenesPolicy

POLICY = ScenesPolicy.load()


def kinds_of(text: str) -> list[type]:
    return [type(node) for node in walk(parse(text, 30.0)) if hasattr(node, "left")]


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        (
            "cut_in then harsh_brake within 5 s during rain not turn near junction",
            [Then, Kept, Without, Kept],
        ),
        ("cut_in or turn and night", [Both, Either]),
        ("cut_in and turn and not night", [Both, Without]),
        ("cut_in and not turn during rain", [Kept, Without]),
        ("(cut_in or turn) meets night", [Either, Allen]),
        ("cut_in not turn within 2 min then conflict", [Without, Then]),
    ],
)
def test_order_of_operators(text: str, nodes: list[type]) -> None:
    assert kinds_of(text) == nodes


@pytest.mark.parametrize(
    ("text", "ns"), [("500 ms", 500_000_000), ("5 s", 5_000_000_000), ("2min", 120_000_000_000), ("0 s", 0)]
)
def test_durations(text: str, ns: int) -> None:
    tree: Any = parse(f"cut_in then turn within {text}", 30.0)
    assert (tree.within_ns, tree.of_start) == (ns, False)
    assert parse(f"cut_in then turn within {text} of start", 30.0).of_start  # type: ignore[union-attr]


def test_words_of_the_language_may_be_values_and_begin_names() -> None:
    tree: Any = parse("thenx(side = near) strictly   during nightfall", 30.0)
    assert (tree.left.label, tree.left.filters[0].value, tree.right.label) == ("thenx", "near", "nightfall")
    at_junction: Any = parse("night\n  near junction", 50.0)
    assert (at_junction.at, at_junction.right.filters[0].value) == ((2, 3), 50.0)
    assert parse("turn while night", 30.0).how is Keep.WHILE  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", "line 1, column 1", "found the end"),
        ("cut_in then", "line 1, column 12", "expected '(' or"),
        ("cut_in then\n  then turn", "line 2, column 8", "found 'turn'"),
        ("not turn", "line 1, column 1", "'not' needs something before it"),
        ("cut_in within 5 s", "line 1, column 8", "must follow 'then X' or 'not X'"),
        ("cut_in then turn within 5 m", "line 1, column 25", "expected a time"),
        ("cut_in then turn within -5 s", "line 1, column 25", "expected a time"),
        ("cut_in then turn within 99 h", "line 1, column 25", "longer than 24 h"),
        ("cut_in within 50 s of a junction", "line 1, column 15", "expected a distance"),
        ("cut_in near crossing", "line 1, column 13", "expected 'junction'"),
        ('in cell "xyz"', "line 1, column 9", "is no H3 cell"),
        ('in cell "8a1f8d7a0c8ffff"', "line 1, column 9", "resolution 0 to 9"),
        ("cut_in(level >=)", "line 1, column 16", "expected a name or a number or a text"),
        ("cut_in $ turn", "line 1, column 8", "found '$'"),
        ("cut_in; DROP TABLE events", "line 1, column 7", "found ';'"),
        ("speed > 1e999", "line 1, column 9", "too large"),
        ("cut_in not turn within 5 s of start", "line 1, column 8", "belongs to 'then' only"),
    ],
)
def test_mistakes_say_where_and_what_was_expected(text: str, at: str, says: str) -> None:
    with pytest.raises(AvError) as caught:
        parse(text, 30.0)
    assert caught.value.code == "sequence_syntax"
    assert caught.value.reason.startswith(at), caught.value.reason
    assert says in caught.value.reason


def test_size_is_bounded() -> None:
    for text in (
        "a " * MAX_CHARACTERS,
        "(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1),
        "a or " * 250 + "a",
    ):
        with pytest.raises(AvError, match="more than") as caught:
            parse(text, 30.0)
        assert caught.value.code == "sequence_too_long"
    parse("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH, 30.0)
    parse("a or " * 199 + "a", 30.0)


@given(st.text(alphabet="abn otdurig()\"'<>=,.0123456789/;-\n{}\\%", max_size=60))
def test_any_text_is_a_sentence_or_a_mistake(text: str) -> None:
    reason = ""
    try:
        parse(text, 30.0)
    except AvError as error:
        reason = error.reason
    assert not reason or reason.startswith("line ")


class TestNamesAndTypes:
    """Over a table of two events; there is no table scenes."""

    @pytest.fixture
    def connection(self) -> duckdb.DuckDBPyConnection:
        connected = duckdb.connect()
        rows = {"drive": ["a", "a"], "kind": ["cut_in", "odd"], "level": [2, 1]}
        rows |= {"start_ns": [0, 9], "end_ns": [5, 3], "clip_id": ["a/00000", None]}
        rows |= {"evidence": ['{"side": "left", "gap_m": 6.2, "ttc_s": null}', "{}"]}
        connected.register("events", pa.table(rows))
        connected.register(
            "clips", pa.table({"drive": ["a"], "clip_id": ["a/00000"], "start_ns": [0], "end_ns": [9]})
        )
        return connected

    @pytest.mark.parametrize(
        ("text", "code", "says"),
        [
            (
                "cut_inn",
                "unknown_kind",
                "column 1: no kind of event is called 'cut_inn' (did you mean 'cut_in'?)",
            ),
            (
                "cut_in(sidee = left)",
                "unknown_name",
                "column 8: 'sidee' is not known of cut_in events (did you mean",
            ),
            (
                "cut_in(side > 3)",
                "type_mismatch",
                "column 8: 'side' is a text, and was compared with a number",
            ),
            ("cut_in(gap_m = left)", "type_mismatch", "'gap_m' is a number, and was compared with a text"),
            ("cut_in(side < left)", "type_mismatch", "only numbers have an order"),
            ("cut_in(level = true)", "type_mismatch", "compared with true or false"),
            ("cut_in(level has x)", "type_mismatch", "only lists, are asked by 'has'"),
            ("cut_in(gap_m < 3 s)", "unit_mismatch", "'gap_m' takes m, km, not s"),
            ("cut_in(level < 3 s)", "unit_mismatch", "'level' takes no unit"),
            ("cut_in(evidence = x)", "unknown_name", "'evidence' is not known"),
            ("scene", "table_missing", "there is no table scenes yet"),
            ("rain", "unknown_name", "there is no table clip_context yet"),
            (
                "similar to a/00000 above 0.5",
                "no_similarities",
                "nothing is known of what is similar to a/00000",
            ),
        ],
    )
    def test_mistakes(self, connection: duckdb.DuckDBPyConnection, text: str, code: str, says: str) -> None:
        with pytest.raises(AvError) as caught:
            find(connection, text, POLICY)
        assert caught.value.code == code
        assert says in caught.value.reason

    def test_known_kind_without_an_event_and_key_that_is_null_everywhere_match_nothing(
        self, connection: duckdb.DuckDBPyConnection
    ) -> None:
        for text in ("harsh_brake(whatever = 3)", "cut_in(ttc_s < 2)", "cut_in(ttc_s = x)"):
            assert find(connection, text, POLICY).total == 0

    def test_event_without_a_possible_time_is_told(self, connection: duckdb.DuckDBPyConnection) -> None:
        found = find(connection, "odd", POLICY)
        assert found.total == 0
        assert found.notes == ("1 rows of events have no drive or no time and were left out",)

    def test_value_cannot_leave_its_place(self, connection: duckdb.DuckDBPyConnection) -> None:
        hostile = "x' OR 1=1; DROP VIEW events; --"
        assert find(connection, f'cut_in(side = "{hostile}")', POLICY).total == 0
        assert find(connection, "cut_in", POLICY).total == 1

    def test_limit_is_told_and_nothing_is_left_behind(self, connection: duckdb.DuckDBPyConnection) -> None:
        found = find(connection, "cut_in or clip", POLICY, limit=1)
        assert (len(found.matches), found.total, found.limited) == (1, 2, True)
        assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]

    def test_operator_that_explodes_is_refused(self, connection: duckdb.DuckDBPyConnection) -> None:
        many = pa.table(
            {"drive": ["a"] * 50, "kind": ["turn"] * 50, "level": [1] * 50}
            | {"start_ns": list(range(0, 500, 10)), "end_ns": list(range(5, 505, 10))}
            | {"clip_id": ["a/00000"] * 50, "evidence": ["{}"] * 50}
        )
        connection.register("events", many)
        tight = POLICY.model_copy(update={"search": POLICY.search.model_copy(update={"max_matches": 100})})
        with pytest.raises(AvError, match="line 1, column 6: 'then' alone has more than 100") as caught:
            find(connection, "turn then turn", tight)
        assert caught.value.code == "too_many_matches"
        assert find(connection, "turn then turn", POLICY).total == 50 * 49 // 2

    @pytest.mark.parametrize(
        ("text", "guilty"),
        [
            ("cut_in then harsh_brake within 5 s", "line 1, column 13: 'harsh_brake' gives nothing"),
            ("cut_in not clip", "line 1, column 8: 'not' gives nothing"),
            ("(cut_in then clip) during cut_in", "line 1, column 9: 'then' gives nothing"),
            ("turn or (cut_in during harsh_brake)", "line 1, column 1: 'turn' gives nothing"),
        ],
    )
    def test_empty_result_says_what_emptied_it(
        self, connection: duckdb.DuckDBPyConnection, text: str, guilty: str
    ) -> None:
        assert find(connection, text, POLICY).emptied_by == guilty
