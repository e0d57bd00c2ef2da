"""Matching and agreement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.labels.matching import iou_matrix, match_boxes
from av_assets.domain.labels.people.agreement import (
    agreement,
    cohen_kappa,
    krippendorff_alpha,
    pair_boxes,
    shared,
)
from av_assets.domain.labels.people.annotators import DrawnBox
from av_assets.domain.labels.schema import CLASSES

coordinate = st.floats(0, 600)
boxes = st.lists(
    st.builds(
        lambda cls, x, y, w, h: DrawnBox(cls, (x, y, x + w, y + h)),
        st.sampled_from(CLASSES), coordinate, coordinate, st.floats(1, 100), st.floats(1, 100),
    ),
    max_size=12,
)  # fmt: skip
tables = st.integers(1, 4).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 50), min_size=k, max_size=k), min_size=k, max_size=k)
)


def test_kappa_of_a_textbook_table() -> None:
    assert cohen_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)


@settings(deadline=None)
@given(tables)
def test_kappa_is_at_most_one_and_symmetric(table: list[list[int]]) -> None:
    kappa = cohen_kappa(table)
    assert kappa is None or kappa <= 1.0
    assert kappa == cohen_kappa(np.array(table).T)


@settings(deadline=None)
@given(boxes)
def test_everybody_agrees_with_themselves(drawn: list[DrawnBox]) -> None:
    pairs = pair_boxes(drawn, drawn, 0.5)
    assert len(pairs) == len(drawn)
    same = agreement(pairs)
    assert same.matched == len(drawn)
    assert same.mean_iou is None or same.mean_iou == pytest.approx(1.0)


@settings(deadline=None)
@given(boxes, boxes)
def test_every_box_is_in_exactly_one_pair(a: list[DrawnBox], b: list[DrawnBox]) -> None:
    pairs = pair_boxes(a, b, 0.5)
    assert sum(x is not None for x, _, _ in pairs) == len(a)
    assert sum(y is not None for _, y, _ in pairs) == len(b)
    assert 0.0 <= agreement(pairs).share <= 1.0


@settings(deadline=None)
@given(boxes, boxes)
def test_overlap_is_symmetric_and_bounded(a: list[DrawnBox], b: list[DrawnBox]) -> None:
    x, y = [box.xyxy for box in a], [box.xyxy for box in b]
    overlap = iou_matrix(x, y)
    assert overlap.shape == (len(a), len(b))
    assert np.allclose(overlap, iou_matrix(y, x).T)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-9)).all()


def test_matching_takes_the_best_total_and_not_the_first_come() -> None:
    a = [(0, 0, 10, 10), (0, 0, 10, 8)]
    b = [(0, 0, 10, 9), (0, 0, 10, 7)]
    assert {(i, j) for i, j, _ in match_boxes(a, b, 0.5)} == {(0, 0), (1, 1)}


def test_nothing_drawn_is_full_agreement_without_a_kappa() -> None:
    nothing = agreement([])
    assert (nothing.objects, nothing.share, nothing.kappa) == (0, 1.0, None)


def things(*rows: str) -> list[dict[str, str]]:
    """A reliability table, one row of digits per person, a dot where they said nothing."""
    columns = zip(*(row.split() for row in rows), strict=True)
    return [{str(n): word for n, word in enumerate(column) if word != "."} for column in columns]


def test_alpha_of_published_tables() -> None:
    """Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), examples B and C (nominal data)."""
    four = things(
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    )
    assert krippendorff_alpha(four) == pytest.approx(0.743, abs=5e-4)
    two = things("a a b b d c c c e d d a", "b a b b b c c c e d d d")
    assert krippendorff_alpha(two) == pytest.approx(0.692, abs=5e-4)


def coincidences(rows: list[dict[str, str]]) -> float | None:
    """Alpha from the coincidence matrix, by its definition."""
    words = sorted({w for row in rows if len(row) > 1 for w in row.values()})
    matrix = np.zeros((len(words), len(words)))
    for row in rows:
        said = [words.index(w) for w in row.values()] if len(row) > 1 else []
        for i, a in enumerate(said):
            for j, b in enumerate(said):
                matrix[a, b] += (i != j) / (len(said) - 1)
    n, margins = matrix.sum(), matrix.sum(axis=1)
    if n <= 1 or np.count_nonzero(margins) < 2:
        return None
    observed = 1 - np.trace(matrix) / n
    expected = 1 - (margins * (margins - 1)).sum() / (n * (n - 1))
    return float(1 - observed / expected)


opinions = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from([*CLASSES, "none"]), min_size=1), max_size=12
)


@settings(deadline=None)
@given(opinions)
def test_alpha_is_that_of_the_coincidence_matrix(rows: list[dict[str, str]]) -> None:
    expected, alpha = coincidences(rows), krippendorff_alpha(rows)
    if expected is not None:
        assert alpha == pytest.approx(expected, abs=1e-5)


def test_shared_boxes_at_two_overlaps() -> None:
    a, b = DrawnBox("cone", (0, 0, 10, 10)), DrawnBox("cone", (0, 0, 10, 6))
    pairs = pair_boxes([a], [b], 0.5)
    assert (shared(pairs, 0.5), shared(pairs, 0.7), shared([], 0.5)) == (1.0, 0.0, None)
