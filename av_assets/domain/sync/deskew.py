"""Lidar points moved to one moment: where each would have been seen at the time of its row.

A spinning lidar measures a turn while the vehicle drives on. Of point i, measured at t_i, the shard keeps
    p_i' = lidar_SE3_ego . ego(ref)_SE3_ego(t_i) . ego_SE3_lidar . p_i
Times of points count forward from the stamp of their sweep: offset_ns > 0 was measured after it, so a driver
that stamps the end of a turn gives negative offsets. Other conventions turn the correction into its opposite,
which doubles the error instead of taking it away; they are put right where clouds are read (pointclouds).
Belongs here: ego motion within a sweep and its use. Does not belong here: per-point times, tracking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.geometry.transforms import invert, quaternions_to_matrices
from av_assets.domain.sync.grid import NS_PER_S, Ns
from av_assets.domain.sync.match import interpolate, interpolate_rotations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import ArrayLike, NDArray

    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.sync.signal_log import SignalStore

NODE_NS = 1_000_000  # ego motion is blended between moments this far apart: at 2 rad/s an error of 1e-6 rad
MAX_SWEEP_NS = NS_PER_S  # a cloud that claims to last longer has no sensible times
MAX_GAP_NS = NS_PER_S // 4  # between samples of the motion
POSE_PARTS = ("x_m", "y_m", "z_m")
_QUATERNION = ("qx", "qy", "qz", "qw")


class EgoMotion(NamedTuple):
    """Samples of the ego motion: poses where there are any, else speed and yaw rate.

    Attributes:
        pose: stamps (N,), positions (N, 3) in m and quaternions (N, 4), of ego in any fixed frame.
        speed, yaw_rate: stamps (N,) and values (N,) in m/s along x and rad/s about z.
    """

    pose: tuple[Ns, Array, Array] | None
    speed: tuple[Ns, Array] | None
    yaw_rate: tuple[Ns, Array] | None

    def relative(self, ref_ns: int, times_ns: Ns, with_translation: bool) -> Array | None:
        """ego(ref)_SE3_ego(t) for each of times_ns (M,), evenly spaced, one of them ref_ns: (M, 4, 4).

        None where the samples do not cover the times.
        """
        motion = self._from_pose(ref_ns, times_ns) if self.pose else self._from_rates(ref_ns, times_ns)
        if motion is None or not np.isfinite(motion).all():
            return None
        if not with_translation:
            motion[:, :3, 3] = 0.0
        return motion

    def _from_pose(self, ref_ns: int, times_ns: Ns) -> Array | None:
        assert self.pose is not None
        stamps, positions, quaternions = self.pose
        turned = interpolate_rotations(times_ns, stamps, quaternions, MAX_GAP_NS)
        if not np.isfinite(turned).all():
            return None
        world = np.tile(np.eye(4), (len(times_ns), 1, 1))
        world[:, :3, :3] = quaternions_to_matrices(turned)
        for axis in range(3):
            world[:, axis, 3] = interpolate(times_ns, stamps, positions[:, axis], MAX_GAP_NS)
        return invert(world[int(np.searchsorted(times_ns, ref_ns))]) @ world

    def _from_rates(self, ref_ns: int, times_ns: Ns) -> Array | None:
        """Planar: the integral of the yaw rate, and of the speed along the heading (trapezoids)."""
        if self.yaw_rate is None:
            return None
        at_ref = int(np.searchsorted(times_ns, ref_ns))
        yaw = _integral(times_ns, interpolate(times_ns, *self.yaw_rate, MAX_GAP_NS), at_ref)
        motion = np.tile(np.eye(4), (len(times_ns), 1, 1))
        motion[:, 0, 0] = motion[:, 1, 1] = np.cos(yaw)
        motion[:, 1, 0], motion[:, 0, 1] = np.sin(yaw), -np.sin(yaw)
        if self.speed is not None:
            speed = interpolate(times_ns, *self.speed, MAX_GAP_NS)
            motion[:, 0, 3] = _integral(times_ns, speed * np.cos(yaw), at_ref)
            motion[:, 1, 3] = _integral(times_ns, speed * np.sin(yaw), at_ref)
        return motion


def _integral(times_ns: Ns, values: Array, zero_at: int) -> Array:
    steps = np.diff(times_ns) / NS_PER_S * (values[1:] + values[:-1]) / 2
    total = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(total - total[zero_at])


def can_deskew(names: Collection[str], mode: str) -> bool:
    """Whether signals of these names are enough: a pose, or the yaw rate, for `full` with the speed."""
    if _pose_stem(names) is not None:
        return True
    return "yaw_rate_radps" in names and (mode == "rotation" or "speed_mps" in names)


def _pose_stem(names: Collection[str]) -> str | None:
    stems = (n.removesuffix("qw") for n in sorted(names) if n.endswith("_qw"))
    return next((s for s in stems if {s + p for p in (*POSE_PARTS, *_QUATERNION)} <= set(names)), None)


def ego_motion(store: SignalStore, series: Callable[[str], tuple[Ns, Array]]) -> EgoMotion:
    """The motion in a window of signals; the first pose by name, where there is one."""
    names = set(store.names())
    stem = _pose_stem(names)
    if stem is not None:
        stamps = series(stem + "x_m")[0]
        parts = [series(stem + part)[1] for part in (*POSE_PARTS, *_QUATERNION)]
        if len(stamps) and all(len(part) == len(stamps) for part in parts):
            table = np.stack(parts, axis=1)
            return EgoMotion((stamps, table[:, :3], table[:, 3:]), None, None)
    speed = series("speed_mps") if "speed_mps" in names else None
    return EgoMotion(None, speed, series("yaw_rate_radps") if "yaw_rate_radps" in names else None)


def deskewed(
    points: NDArray[np.float32], offset_ns: Ns, stamp_ns: int, ref_ns: int, motion: EgoMotion,
    ego_SE3_lidar: ArrayLike, with_translation: bool,  # noqa: N803
) -> NDArray[np.float32] | None:  # fmt: skip
    """Points (N, 4) of a sweep at ref_ns, in the sensor frame of that moment; None where that cannot be said.

    Args:
        offset_ns: (N,) time of each point after stamp_ns.
    """
    if not len(points):
        return points
    times_ns = stamp_ns - ref_ns + offset_ns  # small numbers from here on
    first, last = min(int(times_ns.min()), 0), max(int(times_ns.max()), 0)
    if last - first > MAX_SWEEP_NS:
        return None
    nodes = np.arange(first // NODE_NS, -(-last // NODE_NS) + 2, dtype=np.int64) * NODE_NS
    ego = motion.relative(ref_ns, ref_ns + nodes, with_translation)
    if ego is None:
        return None
    mount = np.asarray(ego_SE3_lidar, np.float64)
    moves: Any = invert(mount) @ ego @ mount
    place = (times_ns - nodes[0]) / NODE_NS
    low = place.astype(np.int64)
    share = (place - low)[:, None]
    xyz1 = np.concatenate([points[:, :3].astype(np.float64), np.ones((len(points), 1))], axis=1)
    before = np.einsum("nij,nj->ni", moves[low, :3], xyz1)
    after = np.einsum("nij,nj->ni", moves[low + 1, :3], xyz1)
    moved = points.copy()
    moved[:, :3] = before * (1 - share) + after * share
    return moved
