"""What is seen of things in front of each other, and what track figures say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_scenes import WIDTH, calibration

from av_assets.domain.labels.automatic.candidates import Candidate
from av_assets.domain.labels.sensing.box_fit import Box3D
from av_assets.domain.labels.sensing.views import View
from av_assets.domain.labels.sensing.visible import nearest_m, seen_boxes
from av_assets.domain.labels.tracks.consistency import (
    residual_px,
    self_consistency,
    size_spread,
    speed_residual_mps,
)
from av_assets.domain.labels.tracks.odometry import Pose
from av_assets.domain.labels.tracks.smoothing import Placed

VIEW = View.of(calibration()["cameras"]["camera_front"])
CAR = Box3D(20.0, 0.0, 4.4, 1.8, 0.0, 1.5, 0.0)
STILL = Pose(0.0, 0.0, 0.0, True)


def test_what_stands_alone_is_seen_whole() -> None:
    (seen,) = seen_boxes([CAR], VIEW, 0.2)
    assert seen is not None
    assert (seen.xyxy, seen.occlusion) == (VIEW.picture_box(CAR), 0.0)


def test_what_stands_behind_is_seen_in_part_or_not_at_all() -> None:
    behind = replace(CAR, x_m=30.0)
    assert (
        seen_boxes([behind, CAR], VIEW, 0.2)[0] is None
        or seen_boxes([behind, CAR], VIEW, 0.2)[0].occlusion > 0.9
    )  # type: ignore[union-attr]
    aside, near = replace(behind, y_m=1.6), VIEW.picture_box(CAR)
    seen = seen_boxes([CAR, aside], VIEW, 0.2)[1]
    whole = VIEW.picture_box(aside)
    assert seen is not None
    assert whole is not None
    assert near is not None
    assert 0.2 < seen.occlusion < 0.8
    assert seen.xyxy[0] == pytest.approx(whole[0], abs=1.0)
    assert seen.xyxy[2] <= near[0] + 2.0 < whole[2]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.floats(8, 45), st.floats(-6, 6), st.floats(-1.5, 1.5)), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_order_changes_nothing_and_a_mirror_mirrors(places: list, rng) -> None:
    boxes = [Box3D(x, y, 4.4, 1.8, 0.0, 1.5, yaw) for x, y, yaw in places]
    # Things at the very same distance have no order.
    boxes = list({round(nearest_m(b, VIEW), 6): b for b in boxes}.values())
    plain = seen_boxes(boxes, VIEW, 0.2)
    order = list(range(len(boxes)))
    rng.shuffle(order)
    assert seen_boxes([boxes[i] for i in order], VIEW, 0.2) == [plain[i] for i in order]
    mirror = seen_boxes([replace(b, y_m=-b.y_m, yaw_rad=-b.yaw_rad) for b in boxes], VIEW, 0.2)
    for one, other in zip(plain, mirror, strict=True):
        if one is not None and other is not None and max(one.occlusion, other.occlusion) < 0.5:
            x1, y1, x2, y2 = other.xyxy
            assert one.xyxy == pytest.approx((WIDTH - x2, y1, WIDTH - x1, y2), abs=2.5)


def test_the_nearest_point_is_that_of_a_dense_outline() -> None:
    rng = np.random.default_rng(3)
    eye = VIEW.ego_SE3_camera[:2, 3]
    for _ in range(20):
        box = Box3D(*rng.uniform([5, -9], [40, 9]), 4.4, 1.8, 0, 1.5, float(rng.uniform(-3, 3)))
        dense = box.outline(300)[:, :2] - eye
        assert nearest_m(box, VIEW) == pytest.approx(np.hypot(*dense.T).min(), abs=0.02)


def placed(xs: list[float], velocity: float, lengths: list[float] | None = None) -> list[Placed]:
    found = []
    for frame, x in enumerate(xs):
        length = lengths[frame] if lengths else 4.4
        raw = Candidate("c", frame, "vehicle", 0.8, None, replace(CAR, x_m=x, length_m=length), 9)
        found.append(Placed(frame, raw, raw, (velocity, 0.0)))
    return found


def test_speed_and_size_figures_are_zero_for_perfect_tracks_only() -> None:
    times = [0.1 * i for i in range(25)]
    even = placed([10 + 0.5 * i for i in range(25)], 5.0)
    assert speed_residual_mps(even, [STILL] * 25, times) == pytest.approx(0.0, abs=1e-9)
    assert speed_residual_mps(
        placed([10 + 0.5 * i for i in range(25)], 3.0), [STILL] * 25, times
    ) == pytest.approx(2.0)
    assert speed_residual_mps(even[:5], [STILL] * 25, times) is None
    assert size_spread(even) == pytest.approx(0.0)
    assert size_spread(even[:1]) is None
    assert size_spread(placed([0, 0], 0, [4.0, 5.0])) == pytest.approx(0.5 / 4.5 / 3)


def test_figures_of_a_drive_weigh_tracks_by_their_frames() -> None:
    rows = [
        {"speed_residual_mps": 1.0, "size_spread": None, "reprojection_px": 2.0, "observed": 9, "frames": 10},
        {
            "speed_residual_mps": 3.0,
            "size_spread": None,
            "reprojection_px": None,
            "observed": 1,
            "frames": 10,
        },
    ]
    assert self_consistency(rows) == {
        "speed_residual_mps": 1.2, "size_spread": None, "reprojection_px": 2.0, "continuity": 0.5,
    }  # fmt: skip
    assert self_consistency([])["continuity"] is None
    assert residual_px((0, 0, 10, 10), (1, 1, 11, 9)) == 1.0
