"""Matching and agreement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.labels.agreement import agreement, cohen_kappa, pair_boxes
from av_assets.domain.labels.annotators import DrawnBox
from av_assets.domain.labels.matching import iou_matrix, match_boxes
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
