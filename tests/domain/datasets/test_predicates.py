"""Saved predicates: what SQL says of the same words, and nothing but columns and literals."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.datasets.frames import frame_columns
from av_assets.domain.datasets.predicates import compile_predicate, passing
from av_assets.domain.errors import DatasetError
from av_assets.policies.golden import GoldenPolicy

COLUMNS = frame_columns(("vehicle", "pedestrian"))
RNG = np.random.default_rng(3)
ROWS = pa.table(
    {
        "mean_speed_mps": pa.array(
            [None if n % 5 == 0 else float(v) for n, v in enumerate(RNG.integers(0, 30, 200))]
        ),
        "light": pa.array([(None, "day", "night")[v] for v in RNG.integers(0, 3, 200)]),
        "boxes": pa.array(RNG.integers(0, 9, 200), pa.int32()),
        "tags": pa.array([["cut_in"] if v else [] for v in RNG.integers(0, 2, 200)], pa.list_(pa.string())),
    }
)
tests = st.one_of(
    st.tuples(st.sampled_from(["mean_speed_mps", "boxes"]), st.sampled_from(["<", ">=", "=", "<>"]), st.integers(0, 30))
    .map(lambda t: f"{t[0]} {t[1]} {t[2]}"),
    st.sampled_from(["light = 'day'", "light <> 'night'", "light IN ('day', 'dusk')", "light NOT IN ('day')",
                     "light IS NULL", "mean_speed_mps IS NOT NULL", "light LIKE 'n%'", "boxes BETWEEN 2 AND 4"]),
)  # fmt: skip
texts = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "or"]), inner).map(lambda t: f"({t[0]}) {t[1]} {t[2]}"),
        inner.map(lambda t: f"NOT ({t})"),
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=60)
@given(texts)
def test_a_predicate_keeps_what_sql_keeps(text: str) -> None:
    found = int(passing(ROWS, compile_predicate(text, COLUMNS)).sum())
    with duckdb.connect() as sql:
        sql.register("rows_", ROWS)
        assert sql.sql(f"SELECT count(*) FROM rows_ WHERE {text}").fetchall() == [(found,)]


def test_lists_are_asked_for_what_they_hold_and_an_empty_text_keeps_all() -> None:
    wanted = [bool(tags) for tags in ROWS["tags"].to_pylist()]
    assert passing(ROWS, compile_predicate("has(tags, 'cut_in')", COLUMNS)).tolist() == wanted
    assert passing(ROWS, compile_predicate(" ", COLUMNS)).all()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("speed > 3", "unknown_column"), ("light > 3", "bad_predicate"), ("boxes = 'x'", "bad_predicate"),
        ("boxes > 1; DROP TABLE frames", "bad_predicate"), ("boxes > (SELECT 1)", "bad_predicate"),
        ("random() > 0.5", "bad_predicate"), ("getenv('HOME') = 'x'", "bad_predicate"),
        ("boxes > 1 --", "bad_predicate"),
        ("tags = 'x'", "bad_predicate"), ("has(light, 'x')", "bad_predicate"), ("(" * 200, "bad_predicate"),
        ("boxes > 1 " * 1000, "bad_predicate"), ("read_csv('/etc/passwd')", "bad_predicate"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str, code: str) -> None:
    with pytest.raises(DatasetError) as caught:
        compile_predicate(text, COLUMNS)
    assert caught.value.code == code
    assert "mean_speed_mps" in caught.value.remedy


def test_the_shipped_slices_are_predicates() -> None:
    policy = GoldenPolicy.load()
    for predicate in policy.slices.values():
        compile_predicate(predicate.frames, frame_columns(policy.classes))
