"""The parts of a change sum to it exactly, favour nobody, and go to the ingredient that made it."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden_folder import golden_folder
from hypothesis import given, settings
from scored import QUICK, evaluation, predict

from av_assets.domain.errors import ModelError
from av_assets.domain.metrics.evaluate import ALL
from av_assets.domain.reproduction.parts import Scored, shapley, take_apart
from av_assets.domain.reproduction.rescoring import (
    TOGETHER,
    Evaluation,
    Exchange,
    UnknownFigureError,
    changes,
    slices_of,
)

NAMES = ("labels", "model", "thresholds")
FIGURES = st.floats(-1e6, 1e6)


@st.composite
def games(draw: Any) -> tuple[Scored, Scored, dict[frozenset[str], float]]:
    sides = [Scored(draw(FIGURES), draw(FIGURES)) for _ in range(2)]
    groups = [
        frozenset(n for n, held in zip(NAMES, f"{mask:03b}", strict=True) if held == "1") for mask in range(8)
    ]
    return sides[0], sides[1], {group: draw(FIGURES) for group in groups}


@given(games())
def test_parts_sum_to_the_change_exactly_whatever_the_figures_are(
    game: tuple[Scored, Scored, dict[frozenset[str], float]],
) -> None:
    before, after, values = game
    found = take_apart(before, after, NAMES, values.__getitem__)
    assert sum(found.parts.values(), Fraction(0)) == found.change
    assert found.before + sum(found.parts.values(), Fraction(0)) == Fraction(after.recorded)


@given(games())
def test_going_backwards_gives_the_same_parts_with_the_other_sign(
    game: tuple[Scored, Scored, dict[frozenset[str], float]],
) -> None:
    before, after, values = game
    there = take_apart(before, after, NAMES, values.__getitem__)
    back = take_apart(after, before, NAMES, lambda group: values[frozenset(NAMES) - group])
    assert back.parts == {name: -value for name, value in there.parts.items()}


@given(games())
def test_shapley_values_are_the_mean_over_all_orders(
    game: tuple[Scored, Scored, dict[frozenset[str], float]],
) -> None:
    *_, values = game
    total = dict.fromkeys(NAMES, Fraction(0))
    orders = list(permutations(NAMES))
    for order in orders:
        for place, name in enumerate(order):
            group = frozenset(order[:place])
            total[name] += Fraction(values[group | {name}]) - Fraction(values[group])
    assert shapley(NAMES, values.__getitem__) == {n: v / len(orders) for n, v in total.items()}


SPLITS = {"drive-c": "test", "drive-d": "test"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_folder(tmp_path_factory.mktemp("first"), SPLITS, frames=5)


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same drives and one more."""
    return golden_folder(tmp_path_factory.mktemp("wider"), SPLITS | {"drive-e": "test"}, frames=5)


@pytest.fixture(scope="module")
def relabelled(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same frames, on which a person moved every third box."""
    root = golden_folder(tmp_path_factory.mktemp("relabelled"), SPLITS, frames=5)
    for path in root.glob("drives/*/labels.parquet"):
        rows = pq.read_table(path).to_pylist()
        for row in rows[::3]:
            row["x1"], row["x2"] = row["x1"] + 30.0, row["x2"] + 30.0
        pq.write_table(pa.Table.from_pylist(rows), path)
    return root


@pytest.fixture
def good(first: Path, tmp_path: Path) -> Path:
    return predict(first, tmp_path / "good.parquet", 1, 2.0, 0.9)


def parts_of(
    before: Evaluation, after: Evaluation, metric: str = "map50", name: str = ALL
) -> dict[str, float]:
    found = Exchange(before, after).parts(metric, name)
    assert sum(found.parts.values(), Fraction(0)) == found.change
    return {part: float(value) for part, value in found.parts.items()}


def only(parts: dict[str, float], name: str) -> float:
    assert parts[name] != 0
    assert all(value == 0 for part, value in parts.items() if part != name), parts
    return parts[name]


def test_nothing_changed_and_every_part_is_nothing(first: Path, good: Path) -> None:
    assert set(parts_of(evaluation(first, good), evaluation(first, good)).values()) == {0.0}


@pytest.mark.parametrize("metric", ["map50", "ece"])
def test_another_model_is_the_whole_change(first: Path, good: Path, tmp_path: Path, metric: str) -> None:
    bad = predict(first, tmp_path / "bad.parquet", 2, 6.0, 0.5)
    before, after = evaluation(first, good), evaluation(first, bad)
    change = after.report["slices"][ALL][metric] - before.report["slices"][ALL][metric]
    assert only(parts_of(before, after, metric), "model") == pytest.approx(change)


def test_other_labels_on_the_same_frames_are_the_whole_change(
    first: Path, relabelled: Path, good: Path
) -> None:
    assert only(parts_of(evaluation(first, good), evaluation(relabelled, good)), "labels") < 0


def test_frames_that_came_are_the_whole_change_and_so_are_those_that_left(
    first: Path, wider: Path, good: Path, tmp_path: Path
) -> None:
    rows = pq.read_table(good)
    more = predict(wider, tmp_path / "more.parquet", 3, 9.0, 0.3)
    new = pq.read_table(more).filter(pa.compute.field("drive") == "drive-e")
    pq.write_table(pa.concat_tables([rows, new]), tmp_path / "both.parquet")
    narrow, wide = evaluation(first, good), evaluation(wider, tmp_path / "both.parquet")
    assert only(parts_of(narrow, wide), "data") < 0
    assert only(parts_of(wide, narrow), "data") > 0
    assert Exchange(narrow, wide).frames == {"both": 10, "before": 0, "after": 5}


def test_what_the_same_ingredients_do_not_give_any_more_is_the_part_of_the_code(
    first: Path, good: Path
) -> None:
    parts = parts_of(evaluation(first, good, lie=0.125), evaluation(first, good))
    assert only(parts, "code") == pytest.approx(-0.125)


def test_other_thresholds_are_the_whole_change(first: Path, good: Path) -> None:
    strict = QUICK.model_copy(update={"score_floor": 0.6})
    assert only(parts_of(evaluation(first, good), evaluation(first, good, strict)), "thresholds") < 0


@settings(max_examples=5)
@given(
    seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    floor=st.floats(0.05, 0.7),
    lie=st.floats(-0.1, 0.1),
)
def test_everything_at_once_still_sums_exactly_and_backwards_is_the_opposite(
    tmp_path_factory: pytest.TempPathFactory,
    first: Path,
    wider: Path,
    seeds: tuple[int, int],
    floor: float,
    lie: float,
) -> None:
    folder = tmp_path_factory.mktemp("everything")
    before = evaluation(first, predict(first, folder / "a.parquet", seeds[0], 2.0, 0.9), lie=lie)
    strict = QUICK.model_copy(update={"score_floor": floor})
    after = evaluation(wider, predict(wider, folder / "b.parquet", seeds[1], 4.0, 0.7), strict)
    known = [name for name in slices_of(before, after) if before.report["slices"][name]["map50"] is not None]
    assert ALL in known
    for name in known:
        there, back = parts_of(before, after, name=name), parts_of(after, before, name=name)
        assert there == {part: -value for part, value in back.items()}


def test_without_a_common_frame_everything_but_the_code_is_one_part(
    first: Path, good: Path, tmp_path: Path
) -> None:
    other = golden_folder(tmp_path / "other", {"drive-x": "test"}, frames=5)
    far = evaluation(other, predict(other, tmp_path / "far.parquet", 4, 5.0, 0.6))
    parts = parts_of(evaluation(first, good), far)
    assert set(parts) == {"code", TOGETHER}
    assert only(parts, TOGETHER)


def test_a_figure_that_is_not_known_gives_a_reason_and_other_classes_an_error(
    first: Path, good: Path, tmp_path: Path
) -> None:
    side = evaluation(first, good)
    with pytest.raises(UnknownFigureError, match="not known in one"):
        Exchange(side, side).parts("map3d", ALL)
    found = changes(Exchange(side, side), [ALL])
    assert "reason" in found[ALL]["nds"]
    assert math.isclose(found[ALL]["map50"]["change"], 0)
    other = golden_folder(tmp_path / "classes", SPLITS, frames=2)
    spec = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps(spec | {"classes": [*spec["classes"], "bicycle"]}))
    with pytest.raises(ModelError, match="class_mismatch"):
        Exchange(side, evaluation(other, predict(other, tmp_path / "c.parquet", 5, 2.0, 0.9)))
