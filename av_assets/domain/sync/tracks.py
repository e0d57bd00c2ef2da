"""Radar tracks of any message layout as (track_id, x, y, vx, vy) in the ego frame.

Belongs here: finding ids, positions and velocities in decoded track messages. Does not belong here: tracking.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.errors import SyncError

if TYPE_CHECKING:
    from av_assets.domain.geometry.transforms import Array

_ID_NAMES = ("track_id", "id", "object_id", "uuid")
ID_MASK = 0x7FFFFFFF


class Track(NamedTuple):
    """One track. Position in metres, velocity in m/s as the radar gives it: relative to the ego vehicle."""

    track_id: int
    x_m: float
    y_m: float
    vx_mps: float
    vy_mps: float


def tracks_of(message: Any, ego_SE3_radar: Array | None) -> list[Track]:  # noqa: N803
    """The finite tracks of a decoded message, in its order.

    Args:
        message: has `tracks`, whose items hold track_id | id | uuid, and position and velocity as x_m,
        y_m, vx_mps,
            vy_mps, or as x, y, vx, vy, or as points `position` and `velocity`.
        ego_SE3_radar: mounting; None leaves positions where the radar put them.

    Raises:
        SyncError: bad_tracks, when the message has another layout.
    """
    items = getattr(message, "tracks", None)
    if items is None:
        items = getattr(message, "objects", None)
    if items is None:
        raise SyncError("the radar message holds no tracks", code="bad_tracks")
    mount = np.eye(4) if ego_SE3_radar is None else ego_SE3_radar
    tracks = [_track(item, index, mount) for index, item in enumerate(items)]
    return [track for track in tracks if all(math.isfinite(value) for value in track)]


def _track(item: Any, index: int, mount: Array) -> Track:
    x, y, z = _point(item, "position", ("x_m", "y_m", "z_m"), ("x", "y", "z"))
    vx, vy, vz = _point(item, "velocity", ("vx_mps", "vy_mps", "vz_mps"), ("vx", "vy", "vz"))
    place = mount @ np.array([x, y, z, 1.0])
    motion = mount[:3, :3] @ np.array([vx, vy, vz])
    return Track(_id(item, index), float(place[0]), float(place[1]), float(motion[0]), float(motion[1]))


def _point(item: Any, nested: str, *flat: tuple[str, str, str]) -> tuple[float, float, float]:
    point = getattr(item, nested, None)
    if point is not None:
        return float(point.x), float(point.y), float(point.z)
    for x, y, z in flat:
        if hasattr(item, x) and hasattr(item, y):
            return float(getattr(item, x)), float(getattr(item, y)), float(getattr(item, z, 0.0))
    raise SyncError(f"a radar track has no {nested}", code="bad_tracks")


def _id(item: Any, index: int) -> int:
    for name in _ID_NAMES:
        value = getattr(item, name, None)
        if value is None:
            continue
        if hasattr(value, "uuid"):
            return int.from_bytes(bytes(int(b) for b in value.uuid[:4]), "little") & ID_MASK
        return int(value) & ID_MASK
    return index
