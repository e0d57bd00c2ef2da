from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.privacy.boxes import NO_BOXES, iou_matrix, plausible, suppress
from av_assets.domain.privacy.crops import crops_around, in_frame, tiles
from av_assets.policies.detection import CropRule, ShapeRule

ANYTHING = ShapeRule(min_score=0, aspect=(0, 1e9), max_width_share=1, wide_share=1, wide_min_score=0)


@st.composite
def boxes(draw: st.DrawFn, width: int = 640, height: int = 384) -> np.ndarray:
    """(N, 5) boxes inside a picture of 640 x 384, best first."""
    side = st.tuples(
        st.integers(0, width - 4), st.integers(0, height - 4), st.integers(2, 400), st.integers(2, 300)
    )
    rows = [
        (x, y, min(width, x + w), min(height, y + h), score)
        for (x, y, w, h), score in draw(st.lists(st.tuples(side, st.floats(0.01, 1)), max_size=12))
    ]
    return np.array(sorted(rows, key=lambda r: -r[4]), np.float32).reshape(-1, 5)


def test_suppression_keeps_the_best_of_overlapping_boxes():
    found = np.array([[0, 0, 10, 10, 0.9], [1, 1, 10, 10, 0.8], [20, 20, 30, 30, 0.7]], np.float32)
    assert suppress(found, 0.3)[:, 4].tolist() == pytest.approx([0.9, 0.7])
    assert suppress(NO_BOXES, 0.3).shape == (0, 5)


@given(boxes(), st.floats(0, 0.9))
def test_after_suppression_no_two_boxes_overlap_more_and_every_lost_one_has_a_better_neighbour(
    found: np.ndarray, limit: float
):
    kept = suppress(found, limit)
    assert (iou_matrix(kept, kept)[~np.eye(len(kept), dtype=bool)] <= limit).all()
    for row in found:
        better = kept[kept[:, 4] >= row[4]]
        same = (kept == row).all(1).any()
        assert same or (iou_matrix(row[None], better) > limit).any()


@given(boxes())
def test_plausible_boxes_lie_in_the_picture_and_keep_the_rule(found: np.ndarray):
    rule = ANYTHING.model_copy(update={"min_score": 0.3, "aspect": (0.5, 3.0), "max_width_share": 0.25})
    kept = plausible(found * [1.2, 1.2, 1.2, 1.2, 1.0], (384, 640, 3), rule, 1.0)
    wide, high = kept[:, 2] - kept[:, 0], kept[:, 3] - kept[:, 1]
    assert (kept[:, :2] >= 0).all()
    assert (kept[:, 2] <= 640).all()
    assert (kept[:, 3] <= 384).all()
    assert ((wide >= 0.5 * high) & (wide <= 3 * high) & (wide <= 160)).all()
    assert (kept[:, 4] >= 0.3).all()


def test_boxes_that_are_no_numbers_are_dropped():
    odd = np.array([[np.nan, 0, 5, 5, 0.9], [3, 3, 3, 9, 0.7], [1, 1, 5, 5, 0.6]], np.float32)
    kept = plausible(odd, (10, 10, 3), ANYTHING, 0.3)
    assert np.isfinite(kept).all()
    assert kept[-1].tolist() == pytest.approx([1, 1, 5, 5, 0.6])


@given(boxes(), st.integers(1, 20), st.floats(1, 4))
def test_crops_lie_inside_show_every_box_and_are_bounded(found: np.ndarray, most: int, around: float):
    rule = CropRule(tile_px=64, around=around, least_px=24, most=most)
    crops = crops_around(found, (384, 640, 3), rule, frame=3)
    assert len(crops) <= min(most, len(found))
    for crop in crops:
        assert crop.frame == 3
        assert 0 <= crop.x <= 640 - crop.side
        assert 0 <= crop.y <= 384 - crop.side
    if len(crops) < most:
        centres = (found[:, :2] + found[:, 2:4]) / 2
        for x, y in centres:
            assert any(c.x - 1 <= x <= c.x + c.side + 1 and c.y - 1 <= y <= c.y + c.side + 1 for c in crops)


@given(st.integers(0, 500), st.integers(0, 300), st.integers(20, 80), st.sampled_from([32, 64, 128]))
def test_what_is_seen_in_a_tile_is_brought_back_to_its_place(x: int, y: int, size: int, tile_px: int):
    picture = np.zeros((384, 640, 3), np.uint8)
    picture[y : y + size, x : x + size] = 255
    place = np.array([[x, y, min(640, x + size), min(384, y + size), 1]], np.float32)
    [crop] = crops_around(place, picture.shape, CropRule(tile_px=tile_px, around=2, least_px=24, most=1))
    [tile] = tiles([picture], [crop], tile_px)
    rows, columns = np.nonzero(tile[..., 0] > 127)
    seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 1]], np.float32)
    assert tile.shape == (tile_px, tile_px, 3)
    assert np.abs(in_frame(seen, crop, tile_px) - place).max() <= crop.side / tile_px + 1
