"""When in a lidar turn a camera should expose: at the moment the beam looks the camera's way.

Belongs here: the expected offset of cameras to sweeps, from per-point times. Does not belong here: offsets
measured from stamps (match), motion compensation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.errors import SyncError
from av_assets.domain.geometry.transforms import invert
from av_assets.domain.sync.grid import ReferenceGrid
from av_assets.domain.sync.pointclouds import CloudReader
from av_assets.domain.sync.streams import Survey, read_messages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.domain.geometry.calibration import Calibration
    from av_assets.domain.logs.reader import LogReader, RawMessage

HALF_WIDTH_RAD = np.deg2rad(5.0)
MIN_POINTS = 20


def azimuth_phases(reader: LogReader, found: Survey, grid: ReferenceGrid) -> dict[str, int]:
    """camera role -> ns after the sweep stamp at which the reference lidar looks along that camera's axis.

    Empty without a lidar reference, its calibration, or per-point times in its first cloud.
    """
    if grid.kind != "lidar" or grid.role not in found.calibration.lidars:
        return {}
    raw = next(read_messages(reader, {found.streams[grid.role].topic}), None)
    if raw is None:
        return {}
    try:
        return phases_in_cloud(raw, grid.period_ns, camera_azimuths(found.calibration, grid.role))
    except SyncError:
        return {}


def camera_azimuths(calibration: Calibration, lidar: str) -> dict[str, float]:
    """camera role -> azimuth of its optical axis in the lidar frame, rad."""
    lidar_SE3_ego = invert(calibration.lidars[lidar].ego_SE3_lidar)  # noqa: N806
    axes = {role: np.asarray(c.ego_SE3_camera)[:3, 2] for role, c in calibration.cameras.items()}
    turned = {role: lidar_SE3_ego[:3, :3] @ axis for role, axis in axes.items()}
    return {role: float(np.arctan2(axis[1], axis[0])) for role, axis in turned.items()}


def phases_in_cloud(raw: RawMessage, period_ns: int, azimuths: Mapping[str, float]) -> dict[str, int]:
    """role -> ns after the stamp at which points of that azimuth were measured, in [-period/4, 3 period/4).

    The mean is circular: where the turn begins and ends, both times are right.

    Raises:
        SyncError: the message is no point cloud.
    """
    if not period_ns:
        return {}
    points, offset_ns, _ = CloudReader(period_ns).read_timed(raw)
    if offset_ns is None:
        return {}
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    phases = {}
    for role, wanted in azimuths.items():
        near = np.abs((azimuth - wanted + np.pi) % (2 * np.pi) - np.pi) <= HALF_WIDTH_RAD
        if near.sum() >= MIN_POINTS:
            angle = np.angle(np.exp(2j * np.pi * offset_ns[near] / period_ns).mean())
            share = (angle / (2 * np.pi) + 0.25) % 1.0 - 0.25
            phases[role] = round(share * period_ns)
    return phases


def same_cycle(measured_ns: int, expected_ns: int, period_ns: int) -> int:
    """The measured offset moved by whole periods to where it is nearest to the expected one.

    Stamps alone cannot tell an exposure half a turn after its sweep from one half a turn before the next.
    """
    return (
        measured_ns + round((expected_ns - measured_ns) / period_ns) * period_ns if period_ns else measured_ns
    )
