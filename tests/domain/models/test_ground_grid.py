"""Lidar and radar on the grid: where points come to lie, and what happens to those that have no place."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.loading.shard_file import TRACK
from av_assets.domain.models.grid import (
    FULL_SPEED_MPS,
    HIGHEST_M,
    LIDAR_GRID_PLANES,
    REACH_M,
    Grid,
    lidar_raster,
    radar_raster,
    speed_byte,
    track_rows,
)
from av_assets.domain.simulation.signals import RADAR_NOISE, radar
from av_assets.domain.simulation.world import Actor, States
from av_assets.policies.training import TrainingPolicy

GRID = Grid(near_m=0.0, side_m=8.0, cell_m=0.5, rows=24, columns=32)


def cloud(*points: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(points, np.float32).reshape(-1, 4)


def raster_one_by_one(points: np.ndarray, grid: Grid) -> np.ndarray:
    """The same planes by another way: a loop over cells."""
    planes = np.zeros((4, grid.rows, grid.columns), np.uint8)
    for row in range(grid.rows):
        for column in range(grid.columns):
            x, y = grid.near_m + row * grid.cell_m, -grid.side_m + column * grid.cell_m
            here = [
                p for p in points
                if x <= p[0] < x + grid.cell_m and y <= p[1] < y + grid.cell_m and p[2] < HIGHEST_M
            ]  # fmt: skip
            if here:
                z = [round(min(max((float(p[2]) + 1) / 5, 1 / 255), 1) * 255) for p in here]
                density = min(np.log2(1 + len(here)) / 6, 1)
                bright = float(np.mean([p[3] for p in here]))
                planes[:, row, column] = (
                    round(density * 255), max(z), min(z), round(min(max(bright, 1 / 255), 1) * 255),
                )  # fmt: skip
    return planes


def test_the_shipped_grid_has_the_cells_that_its_policy_says() -> None:
    grid = Grid.of(TrainingPolicy.load())
    assert Grid(**grid.describe()) == grid
    centres = grid.centres()
    assert centres.shape == (96, 96, 2)
    assert centres[0, 0].tolist() == [0.25, -23.75]
    assert centres[-1, -1].tolist() == [47.75, 23.75]
    assert np.allclose(grid.position(centres.reshape(-1, 2)) % 1, 0.5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 150))
def test_lidar_planes_equal_those_of_a_loop_over_cells(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    points = np.float32(rng.uniform((-2, -10, -3, 0), (14, 10, 6, 1), (count, 4)))
    points[: count // 2, :2] = np.float32(
        rng.uniform((3, 3), (4, 4), (count // 2, 2))
    )  # some share their cells
    found = lidar_raster(points, GRID).astype(int)
    # A value that lies exactly between two bytes may go either way.
    assert np.abs(found - raster_one_by_one(points, GRID)).max() <= 1
    assert ((found > 0) == (raster_one_by_one(points, GRID) > 0)).all()


def test_order_of_points_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    points = np.float32(rng.uniform((0, -8, -1, 0), (12, 8, 4, 1), (2000, 4)))
    assert (lidar_raster(points, GRID) == lidar_raster(points[rng.permutation(2000)], GRID)).all()


def test_points_without_intensity_have_the_other_planes() -> None:
    points = cloud((1.1, 0.1, 1.0, 0.9))
    three, four = lidar_raster(points[:, :3], GRID), lidar_raster(points, GRID)
    assert (three[:3] == four[:3]).all()
    assert three[3].max() == 1


@pytest.mark.parametrize("points", [None, np.empty((0, 4), np.float32)], ids=["no lidar", "empty cloud"])
def test_nothing_gives_empty_planes(points: np.ndarray | None) -> None:
    assert lidar_raster(points, GRID).shape == (len(LIDAR_GRID_PLANES), 24, 32)
    assert not lidar_raster(points, GRID).any()


def test_points_that_have_no_place_are_left_out() -> None:
    nan, inf = np.nan, np.inf
    nowhere = [
        (nan, 0, 0, 0),
        (1, nan, 0, 0),
        (1, 0, nan, 0),
        (inf, 0, 0, 0),
        (-inf, 0, 0, 0),
        (1, inf, 0, 0),
    ]
    outside = [
        (-0.1, 0, 0, 0),
        (12.0, 0, 0, 0),
        (1, 8.0, 0, 0),
        (1, -8.1, 0, 0),
        (1, 0, HIGHEST_M, 0),
        (3e38, 0, 0, 0),
    ]
    assert not lidar_raster(cloud(*nowhere, *outside), GRID).any()
    with_one = lidar_raster(cloud(*nowhere, *outside, (1, 0, 1.5, nan)), GRID)
    assert (with_one > 0).sum() == 4


def test_millions_of_points_take_bounded_time_and_one_cell_does_not_overflow() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform((-50, -50, -2, 0), (50, 50, 5, 1), (2_000_000, 4)).astype(np.float32)
    points[:1_000_000] = (5.2, 0.2, 1.0, 0.5)
    began = time.process_time()
    planes = lidar_raster(points, GRID)
    assert time.process_time() - began < 5
    assert planes[0, 10, 16] == 255


def test_radar_tracks_lie_where_they_are_and_carry_their_velocity() -> None:
    planes = radar_raster(np.array([[5.2, -3.1, -4.0, 8.0]], np.float32), GRID)
    assert planes[:, 10, 9].tolist() == [255, 112, 160]
    assert (planes[0] > 0).sum() == 5
    there = np.argwhere(planes[1:].all(0))
    assert np.hypot(*(there - (10, 9)).T).max() * GRID.cell_m == REACH_M
    assert (planes[1:, *there.T] == [[112], [160]]).all()
    assert (planes[1:].astype(bool).sum(axis=(1, 2)) == len(there)).all()


def velocity_one_by_one(rows: np.ndarray, grid: Grid) -> np.ndarray:
    """The velocity planes by another way: a loop over cells, each of which asks all tracks."""
    planes = np.zeros((2, grid.rows, grid.columns), np.uint8)
    at = np.floor(grid.position(rows))
    for cell in np.ndindex(grid.rows, grid.columns):
        away = [
            (float(np.sum((own - cell) ** 2)), float(np.hypot(*row[:2])), row)
            for own, row in zip(at, rows, strict=True)
        ]
        squared, _, row = min(away, key=lambda one: one[:2])
        if squared <= (REACH_M / grid.cell_m) ** 2 and np.isfinite(row[2:]).all():
            planes[:, *cell] = speed_byte(row[2:])
    return planes


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_each_cell_near_a_track_has_the_velocity_of_the_nearest(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.uniform((-4, -11, -30, -30), (16, 11, 30, 30), (count, 4)).astype(np.float32)
    rows[0, 2] = np.nan
    assert (radar_raster(rows, GRID)[1:] == velocity_one_by_one(rows, GRID)).all()


def test_the_nearer_of_two_tracks_counts() -> None:
    far, near = (5.4, 0.4, 10.0, 0.0), (5.1, 0.1, -10.0, 0.0)
    for rows in ([far, near], [near, far]):
        assert radar_raster(np.array(rows, np.float32), GRID)[1, 10, 16] == speed_byte(np.float32(-10))


def test_tracks_that_have_no_place_are_left_out() -> None:
    rows = [(np.nan, 0, 0, 0), (1, np.inf, 0, 0), (1e30, 0, 0, 0), (-5, 0, 0, 0), (1, 100, 0, 0)]
    assert not radar_raster(np.array(rows, np.float32), GRID).any()
    assert not radar_raster(None, GRID).any()
    assert not radar_raster(np.empty((0, 4), np.float32), GRID).any()


@given(st.floats(-100, 100))
def test_a_speed_byte_keeps_a_quarter_metre_per_second_and_turns_around(speed_mps: float) -> None:
    byte = int(speed_byte(np.array([speed_mps]))[0])
    assert 1 <= byte <= 255
    held = (byte - 128) / 127 * FULL_SPEED_MPS
    assert abs(held - np.clip(speed_mps, -FULL_SPEED_MPS, FULL_SPEED_MPS)) <= 0.13
    assert int(speed_byte(np.array([-speed_mps]))[0]) == 256 - byte


def records(*tracks: tuple[float, ...]) -> np.ndarray:
    return np.array([(number, *track) for number, track in enumerate(tracks)], TRACK)


def test_tracks_come_over_ground() -> None:
    heard = records((1, 2, -3, 4), (5, 6, 7, 8))
    rows = track_rows(heard, 10.0)
    assert rows.tolist() == [[1, 2, 7, 4], [5, 6, 17, 8]]
    assert rows.dtype == np.float32
    assert heard["vx_mps"].tolist() == [-3, 7]
    assert track_rows(heard[:0], 10.0).shape == (0, 4)
    assert track_rows(None, 10.0) is None


@dataclass
class CircularDrive:
    """What the rig's radar asks of the ego: a drive on a circle at constant speed."""

    speed_mps: float
    turn_radps: float

    def at(self, name: str, t_s: float) -> float:
        return getattr(self, name)

    def pose(self, t_s: float) -> tuple[float, float, float]:
        yaw, radius_m = self.turn_radps * t_s, self.speed_mps / self.turn_radps
        return radius_m * float(np.sin(yaw)), radius_m * (1 - float(np.cos(yaw))), yaw


@dataclass
class Street:
    """Things at known places ahead of the ego, with known velocities, in the world frame."""

    ego: CircularDrive
    moving: States

    @property
    def actors(self) -> list[Actor]:
        return [Actor(i, "vehicle", "car", np.empty(0), np.empty(0)) for i in range(len(self.moving.x_m))]

    def states(self, t_s: float) -> States:
        return self.moving


@settings(deadline=None)
@given(
    st.floats(0, 30), st.floats(-0.6, 0.6).filter(lambda rate: abs(rate) > 0.01), st.floats(0, 20),
    st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_what_the_rigs_radar_tells_becomes_velocity_over_ground(
    speed_mps: float, turn_radps: float, t_s: float, standing: bool, seed: int
) -> None:
    """Also of things that stand while the vehicle drives and turns: they do not move."""
    rng, ego = np.random.default_rng(seed), CircularDrive(speed_mps, turn_radps)
    x, y, yaw = ego.pose(t_s)
    ego_axes = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    place = rng.uniform((10, -8), (60, 8), (6, 2))
    over_ground = np.zeros((6, 2)) if standing else rng.uniform(-20, 20, (6, 2))
    world, moves = place @ ego_axes.T + (x, y), over_ground @ ego_axes.T
    street = Street(ego, States(*world.T, np.zeros(6), *moves.T))
    heard = radar(street, t_s, rng)
    rows = track_rows(records(*(track[1:] for track in heard)), speed_mps)
    assert len(rows)
    assert rows[:, 2:] == pytest.approx(over_ground[[track[0] for track in heard]], abs=8 * RADAR_NOISE[2])


@pytest.mark.parametrize("lost", ["speed", "vx", "vy", "infinite"])
def test_an_unknown_motion_shows_the_place_and_no_velocity(lost: str) -> None:
    known = (4.0, -3.0, 1.0, -1.0)
    nothing = {"vx": (2, np.nan), "vy": (3, np.nan), "infinite": (2, np.inf)}
    other = [5.2, 3.1, 2.0, 1.0]
    if lost in nothing:
        other[nothing[lost][0]] = nothing[lost][1]
    rows = track_rows(records(known, tuple(other)), np.nan if lost == "speed" else 5.0)
    assert np.isnan(rows[1, 2:]).all()
    planes = radar_raster(rows, GRID)
    assert planes[:, 10, 22].tolist() == [255, 0, 0]
    assert planes[:, 8, 10].tolist() == ([255, 0, 0] if lost == "speed" else [255, 152, 124])


@given(st.integers(0, 2**32 - 1))
def test_a_mirrored_scene_is_the_grid_with_its_columns_reversed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform((0, -8, -1, 0), (12, 8, 4, 1), (500, 4)).astype(np.float32)
    # On an edge between cells the mirrored point belongs to the other one.
    points = points[(np.abs(points[:, 1] / 0.5 - np.rint(points[:, 1] / 0.5)) > 1e-3)]
    assert (
        lidar_raster(points * np.float32([1, -1, 1, 1]), GRID) == lidar_raster(points, GRID)[..., ::-1]
    ).all()
    tracks = rng.uniform((0, -8, -30, -30), (12, 8, 30, 30), (10, 4)).astype(np.float32)
    tracks = tracks[(np.abs(tracks[:, 1] / 0.5 - np.rint(tracks[:, 1] / 0.5)) > 1e-3)]
    there, mirrored = (
        radar_raster(track_rows(records(*(tracks * side).tolist()), 12.0), GRID)
        for side in (np.float32(1), np.float32([1, -1, 1, -1]))
    )
    expected = there[..., ::-1].astype(int)
    expected[2] = np.where(expected[2] > 0, 256 - expected[2], 0)
    assert (mirrored == expected).all()
