"""What is drawn fast is what a plain drawing draws: bit by bit, for clouds of every kind and layout."""

from __future__ import annotations

import numpy as np
import pytest
from golden_folder import EGO_SE3_CAMERA, HEIGHT, WIDTH, K
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.models import grid as grids
from av_assets.domain.models import inputs
from av_assets.domain.models.examples import in_ego_frame
from av_assets.domain.models.grid import Grid, lidar_raster
from av_assets.domain.models.inputs import CameraView, draw_picture, lidar_planes, prepare, project

VIEW = CameraView(WIDTH, HEIGHT, np.array(K), np.array(EGO_SE3_CAMERA, float))
GRID = Grid(near_m=0.0, side_m=24.0, cell_m=0.5, rows=96, columns=96)


def planes_point_by_point(points: np.ndarray, view: CameraView, width: int, height: int) -> np.ndarray:
    """All points projected in float64 and drawn one after another, the far ones first."""
    planes = np.zeros((height, width, 2), np.uint8)
    pixels, depth_m = project(points, view)
    scaled = pixels * (width / view.width, height / view.height)
    seen = (depth_m > 0.5) & (scaled > -2).all(1) & (scaled < (width + 2, height + 2)).all(1)
    far_first = np.flatnonzero(seen)[np.argsort(-depth_m[seen], kind="stable")]
    low, high = inputs.LOWEST_M, inputs.HIGHEST_M
    for dx, dy in inputs.SPLAT:
        for i in far_first:
            x, y = (int(v) for v in np.floor(scaled[i]) + np.array([dx, dy]))
            if 0 <= x < width and 0 <= y < height:
                both = np.clip(
                    [inputs.NEAREST_M / depth_m[i], (points[i, 2] - low) / (high - low)], 1 / 255, 1
                )
                planes[y, x] = np.rint(both * 255)
    return planes


def raster_by_sorting(points: np.ndarray, grid: Grid) -> np.ndarray:
    """All points placed in float64, and one sort of (cell, height)."""
    planes = np.zeros((4, grid.rows * grid.columns), np.uint8)
    position = grid.position(points)
    kept = grid.inside(position) & (points[:, 2] < grids.HIGHEST_M)
    at, points = position[kept].astype(np.int64), points[kept]
    share = np.clip((points[:, 2] - grids.LOWEST_M) / (grids.HIGHEST_M - grids.LOWEST_M), 1 / 255, 1)
    cell = at[:, 0] * grid.columns + at[:, 1]
    order = np.sort(cell * 256 + np.rint(share * 255).astype(np.int64))
    first = np.flatnonzero(np.diff(order >> 8, prepend=-1))
    count, cells = np.diff(first, append=len(order)), order[first] >> 8
    density = np.clip(np.log2(1 + count) / np.log2(1 + grids.FULL_DENSITY), 1 / 255, 1)
    bright = np.bincount(cell, np.nan_to_num(points[:, 3]), planes.shape[1])[cells] / count
    planes[:, cells] = np.rint(
        [density * 255, order[first + count - 1] & 255, order[first] & 255, np.clip(bright, 1 / 255, 1) * 255]
    )
    return planes.reshape(-1, grid.rows, grid.columns)


@st.composite
def clouds(draw: st.DrawFn) -> np.ndarray:
    """(n, 4) around the vehicle, some far outside, some no numbers, many on one cell and on edges of cells."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(0, 600))
    reach_m = draw(st.sampled_from([1.0, 30.0, 60.0, 5000.0]))
    points = rng.uniform((-reach_m, -reach_m, -3, 0), (reach_m, reach_m, 6, 1), (count, 4)).astype(np.float32)
    near = rng.random(count) < draw(st.floats(0, 1))
    points[near, :2] = rng.uniform((9, -1), (12, 1), (int(near.sum()), 2))
    if draw(st.booleans()):
        points[:, :3] = np.rint(points[:, :3] * 2) / 2 + np.float32(1e-4) * rng.random((count, 1))
    for value in (np.nan, np.inf, -np.inf):
        points[rng.random(count) < 0.02, draw(st.integers(0, 2))] = value
    points[rng.random(count) < 0.02, 3] = np.nan
    return np.asfortranarray(points) if draw(st.booleans()) else points


@settings(max_examples=40, deadline=None)
@given(clouds(), st.sampled_from([(WIDTH, HEIGHT), (320, 192), (32, 64)]))
def test_lidar_in_the_picture(points: np.ndarray, size: tuple[int, int]) -> None:
    assert (lidar_planes(points, VIEW, *size) == planes_point_by_point(points, VIEW, *size)).all()


@settings(max_examples=60, deadline=None)
@given(clouds(), st.sampled_from([GRID, Grid(-3.0, 8.0, 0.4, 24, 40)]))
def test_lidar_on_the_ground(points: np.ndarray, grid: Grid) -> None:
    with np.errstate(invalid="ignore"):
        expected = raster_by_sorting(points, grid)
    assert (lidar_raster(points, grid) == expected).all()


def test_a_whole_turn_and_points_in_double_precision() -> None:
    rng = np.random.default_rng(0)
    angle, distance_m = rng.uniform(0, 2 * np.pi, 16_000), rng.gamma(2.0, 10.0, 16_000)
    x, y = distance_m * np.cos(angle), distance_m * np.sin(angle)
    turn = np.stack([x, y, rng.uniform(-0.1, 4, 16_000), rng.random(16_000)], axis=1)
    for points in (turn, turn.astype(np.float32)):
        assert (lidar_planes(points, VIEW, 320, 192) == planes_point_by_point(points, VIEW, 320, 192)).all()
        assert (lidar_raster(points, GRID) == raster_by_sorting(points, GRID)).all()


def test_of_equally_near_points_on_a_pixel_the_last_one_counts() -> None:
    pair = np.array([[11.5, 0, 1.4, 0], [11.5, 0, 1.4 + 1e-9, 0]])
    higher = pair + np.array([0, 0, 0.05, 0])
    for points in (np.concatenate([pair, higher]), np.concatenate([higher, pair])):
        planes = lidar_planes(points, VIEW, 160, 96)
        assert (planes == planes_point_by_point(points, VIEW, 160, 96)).all()


@pytest.mark.parametrize("planes", [3, 5])
@pytest.mark.parametrize("size", [(320, 192), (640, 384)])
def test_the_picture_by_pixel_and_by_plane_is_the_same(planes: int, size: tuple[int, int]) -> None:
    import cv2

    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (384, 640, 3), np.uint8)
    points = rng.uniform((2, -10, 0, 0), (40, 10, 3, 1), (500, 4)).astype(np.float32)
    by_plane = draw_picture(pixels, points, VIEW, *size, planes)
    assert by_plane.shape == (planes, size[1], size[0])
    assert by_plane.flags.c_contiguous
    assert (prepare(pixels, points, VIEW, *size, planes).transpose(2, 0, 1) == by_plane).all()
    plain = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    assert (by_plane[:3] == plain.transpose(2, 0, 1)).all()
    assert (by_plane[3:].transpose(1, 2, 0) == lidar_planes(points, VIEW, *size)[..., : planes - 3]).all()


def test_a_cloud_in_the_ego_frame_keeps_its_intensity_and_its_place() -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform(-80, 80, (1000, 4)).astype(np.float32)
    points[3, 3], points[4, 0] = np.nan, np.nan
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3], pose[:3, 3] = np.linalg.qr(rng.normal(size=(3, 3)))[0], (1, -2, 1.9)
    cloud = in_ego_frame(points, pose)
    assert np.allclose(cloud[:, :3], points[:, :3] @ pose[:3, :3].T + pose[:3, 3], atol=2e-5, equal_nan=True)
    assert np.array_equal(cloud[:, 3], points[:, 3], equal_nan=True)
    assert np.isfinite(cloud[3, :3]).all()
