"""A turning lidar before a wall: what it measures on the way is put where the wall stands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.geometry.transforms import invert, matrices_to_quaternions, se3
from av_assets.domain.sync.deskew import EgoMotion, can_deskew, deskewed

START = 1_748_764_800_000_000_000
PERIOD_NS = 100_000_000
WALL_M = np.array([12.0, -7.0, 9.0])  # walls: x = 12, y = -7, y = 9 in the world
MOUNT = se3([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [1.2, 0.3, 1.9])  # turned by a quarter


def _pose(t_s: np.ndarray, speed: float, yaw_rate: float) -> np.ndarray:
    """world_SE3_ego (N, 4, 4) of a vehicle on a circle, through the origin at zero."""
    turn = yaw_rate if abs(yaw_rate) > 1e-9 else 1e-9
    yaw = turn * t_s
    poses = np.tile(np.eye(4), (len(t_s), 1, 1))
    poses[:, 0, 0] = poses[:, 1, 1] = np.cos(yaw)
    poses[:, 1, 0], poses[:, 0, 1] = np.sin(yaw), -np.sin(yaw)
    poses[:, 0, 3], poses[:, 1, 3] = speed * np.sin(yaw) / turn, speed * 2 * np.sin(yaw / 2) ** 2 / turn
    return poses


def _scan(speed: float, yaw_rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 4) in the sensor frame as measured, their offsets in ns, and the walls they lie on."""
    offsets = np.linspace(0, PERIOD_NS, 720, endpoint=False).astype(np.int64)
    world = _pose(offsets / 1e9, speed, yaw_rate) @ MOUNT
    azimuth = 2 * np.pi * offsets / PERIOD_NS
    beams = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth)], axis=1)
    beams = np.einsum("nij,nj->ni", world[:, :3, :3], beams)
    origins = world[:, :3, 3]
    with np.errstate(divide="ignore"):
        reach = np.stack(
            [(WALL_M[k] - origins[:, axis]) / beams[:, axis] for k, axis in enumerate((0, 1, 1))]
        )
    reach[reach <= 0] = np.inf
    wall, nearest = reach.argmin(axis=0), reach.min(axis=0)
    hit = nearest < 60.0
    places = origins + beams * np.where(hit, nearest, 0.0)[:, None]
    inverse = np.stack([invert(pose) for pose in world])
    local = np.einsum("nij,nj->ni", inverse[:, :3], np.c_[places, np.ones(len(places))])
    points = np.c_[local, np.linspace(0, 1, len(local))].astype(np.float32)
    return points[hit], offsets[hit], wall[hit]


def _distance_m(
    points: np.ndarray, wall: np.ndarray, ref_s: float, speed: float, yaw_rate: float
) -> np.ndarray:
    """How far points, seen from the pose at ref_s, are from the walls that they were measured on."""
    world = (_pose(np.array([ref_s]), speed, yaw_rate) @ MOUNT)[0]
    places = points[:, :3] @ world[:3, :3].T + world[:3, 3]
    return np.abs(places[np.arange(len(wall)), np.where(wall == 0, 0, 1)] - WALL_M[wall])


def _rates(speed: float, yaw_rate: float) -> EgoMotion:
    stamps = START + np.arange(-500, 700, 10, dtype=np.int64) * 1_000_000
    of = np.ones(len(stamps))
    return EgoMotion(None, (stamps, speed * of), (stamps, yaw_rate * of))


def _poses(speed: float, yaw_rate: float) -> EgoMotion:
    stamps = START + np.arange(-500, 700, 20, dtype=np.int64) * 1_000_000
    poses = _pose((stamps - START) / 1e9, speed, yaw_rate)
    return EgoMotion((stamps, poses[:, :3, 3], matrices_to_quaternions(poses[:, :3, :3])), None, None)


@settings(max_examples=30)
@given(st.floats(-5, 25), st.floats(-0.8, 0.8), st.integers(-60, 160), st.booleans())
def test_points_lie_on_the_wall_at_any_moment_of_the_row(
    speed: float, yaw_rate: float, ref_ms: int, from_poses: bool
) -> None:
    points, offsets, wall = _scan(speed, yaw_rate)
    motion = (_poses if from_poses else _rates)(speed, yaw_rate)
    ref_ns = START + ref_ms * 1_000_000
    moved = deskewed(points, offsets, START, ref_ns, motion, MOUNT, True)
    assert moved is not None
    assert (moved.shape, moved.dtype) == (points.shape, np.float32)
    np.testing.assert_array_equal(moved[:, 3], points[:, 3])
    assert _distance_m(moved, wall, ref_ms / 1e3, speed, yaw_rate).max() < 0.02


def test_without_it_or_with_the_wrong_sign_of_time_the_wall_is_bent() -> None:
    """The sign convention decides between no error and twice the error."""
    points, offsets, wall = _scan(20.0, 0.5)
    raw = _distance_m(points, wall, 0.0, 20.0, 0.5).max()
    wrong = deskewed(points, -offsets, START, START, _rates(20.0, 0.5), MOUNT, True)
    assert wrong is not None
    assert raw > 0.5
    assert _distance_m(wrong, wall, 0.0, 20.0, 0.5).max() > 1.5 * raw


def test_the_turn_alone_puts_a_turning_vehicle_right() -> None:
    points, offsets, wall = _scan(0.0, 0.7)
    moved = deskewed(points, offsets, START, START, _rates(0.0, 0.7), MOUNT, False)
    assert moved is not None
    assert _distance_m(points, wall, 0.0, 0.0, 0.7).max() > 0.3
    assert _distance_m(moved, wall, 0.0, 0.0, 0.7).max() < 0.02


def test_where_motion_or_times_are_not_known_nothing_is_moved() -> None:
    points, offsets, _ = _scan(10.0, 0.1)
    far = START + 10**12
    assert deskewed(points, offsets, far, far, _rates(10.0, 0.1), MOUNT, True) is None
    assert deskewed(points, offsets * 100, START, START, _rates(10.0, 0.1), MOUNT, True) is None
    assert deskewed(points, offsets, START, START, EgoMotion(None, None, None), MOUNT, True) is None
    empty = points[:0]
    assert deskewed(empty, offsets[:0], far, far, EgoMotion(None, None, None), MOUNT, True) is empty


@pytest.mark.parametrize(
    ("names", "mode", "enough"),
    [
        ({"yaw_rate_radps"}, "rotation", True),
        ({"yaw_rate_radps"}, "full", False),
        ({"yaw_rate_radps", "speed_mps"}, "full", True),
        ({f"odom_{p}" for p in ("x_m", "y_m", "z_m", "qx", "qy", "qz", "qw")}, "full", True),
        ({"odom_qw", "odom_x_m"}, "full", False),
    ],
)
def test_which_signals_are_enough(names: set[str], mode: str, enough: bool) -> None:
    assert can_deskew(names, mode) is enough
