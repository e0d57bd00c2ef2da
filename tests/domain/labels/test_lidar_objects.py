"""A box on a plane is found, with the right class and the right place."""

from __future__ import annotations

import numpy as np
import pytest
from label_scenes import CAR, CONE, MOUNT_M, WALKER, Solid, calibration, project, road_mask, sweep

from av_assets.domain.geometry.transforms import apply
from av_assets.domain.labels.matching import iou_matrix
from av_assets.domain.labels.sensing.drivable import decode_mask, drivable_mask, encode_mask, road_edges
from av_assets.domain.labels.sensing.ground import ground_plane, heights
from av_assets.domain.labels.sensing.lidar_objects import LidarObject, find_objects
from av_assets.domain.labels.sensing.views import View
from av_assets.policies.autolabels import AutolabelPolicy

POLICY = AutolabelPolicy.load()
VIEW = View.of(calibration()["cameras"]["camera_front"])


def ego_points(solids: list[Solid], seed: int = 0, slope: float = 0.0) -> np.ndarray:
    points = sweep(solids, seed, slope).astype(np.float64)
    points[:, :3] = apply(np.array(calibration()["lidars"]["lidar_top"]["ego_SE3_lidar"]), points[:, :3])
    return points


def found(solids: list[Solid], slope: float = 0.0) -> list[LidarObject]:
    points = ego_points(solids, slope=slope)
    return find_objects(
        points, ground_plane(points, POLICY.ground_tolerance_m), np.array(MOUNT_M[:2]), POLICY
    )


def test_an_empty_road_has_no_objects() -> None:
    assert found([]) == []


def test_a_sloping_ground_is_still_ground() -> None:
    points = ego_points([CAR], slope=0.03)
    plane = ground_plane(points, POLICY.ground_tolerance_m)
    assert plane == pytest.approx([0.03, 0.0, 0.0], abs=0.01)
    assert np.median(np.abs(heights(points, plane)[points[:, 3] < 0.2])) < 0.05


@pytest.mark.parametrize(
    ("cls", "solid", "iou"), [("vehicle", CAR, 0.75), ("pedestrian", WALKER, 0.6), ("cone", CONE, 0.5)]
)
def test_one_thing_is_found_named_and_placed(cls: str, solid: Solid, iou: float) -> None:
    (thing,) = found([solid])
    assert thing.cls == cls
    assert (thing.box.x_m, thing.box.y_m) == pytest.approx(solid[:2], abs=0.4)
    assert 0 < thing.score <= 1
    box = VIEW.picture_box(thing.box)
    assert box is not None
    assert iou_matrix([box], [project(solid)])[0, 0] >= iou


def test_all_three_are_found_together() -> None:
    assert sorted(thing.cls for thing in found([CAR, WALKER, CONE])) == ["cone", "pedestrian", "vehicle"]


def test_a_wall_and_a_pole_are_neither_cars_nor_people() -> None:
    wall: Solid = (20.0, 12.0, 20.0, 4.0, 9.0, 0.35)
    pole: Solid = (18.0, -4.0, 0.2, 0.2, 6.0, 0.5)
    assert found([wall, pole]) == []


def test_a_thing_behind_the_vehicle_is_not_in_the_picture() -> None:
    behind = found([(-12.0, 0.0, 4.4, 1.8, 1.48, 0.45)])
    assert all(VIEW.picture_box(thing.box) is None for thing in behind)


def test_the_road_is_the_dark_strip() -> None:
    points = ego_points([CAR])
    plane = ground_plane(points, POLICY.ground_tolerance_m)
    edges = road_edges(points, plane, POLICY)
    assert edges is not None
    assert edges[0][0] == pytest.approx(7.0, abs=0.4)
    assert edges[1][0] == pytest.approx(-7.0, abs=0.4)
    empty = drivable_mask(edges, plane, [], VIEW, POLICY.road_reach_m) > 0
    truth = road_mask() > 0
    assert (empty & truth).sum() / (empty | truth).sum() > 0.93


def test_what_stands_on_the_road_is_not_drivable() -> None:
    points = ego_points([CAR])
    plane = ground_plane(points, POLICY.ground_tolerance_m)
    edges = road_edges(points, plane, POLICY)
    assert edges is not None
    mask = drivable_mask(edges, plane, [thing.box for thing in found([CAR])], VIEW, POLICY.road_reach_m)
    x1, y1, x2, y2 = (round(v) for v in project(CAR))
    assert mask[(y1 + y2) // 2, (x1 + x2) // 2] == 0
    assert np.array_equal(decode_mask(encode_mask(mask)), mask)


def test_no_road_is_seen_where_all_ground_is_alike() -> None:
    points = ego_points([])
    points[:, 3] = 0.1
    assert road_edges(points, np.zeros(3), POLICY) is None
