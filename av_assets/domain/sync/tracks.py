"""Radar tracks and detections of any message layout as (track_id, x, y, vx, vy) in the ego frame.

Belongs here: finding ids, positions and velocities in decoded track messages. Does not belong here: tracking.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.errors import SyncError

if TYPE_CHECKING:
    from av_assets.domain.geometry.transforms import Array

Point = tuple[float, float, float]

_LIST_NAMES = ("tracks", "objects", "returns", "detections", "targets")
_RADIAL_NAMES = ("doppler_velocity", "range_rate", "radial_velocity", "radial_speed")
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
        message: has `tracks`, `objects`, `returns`, `detections` or `targets`. Their items hold track_id | id |
            uuid, and position and velocity as x_m, y_m, vx_mps, vy_mps, or as x, y, vx, vy, or as points
            `position` and `velocity` (with covariance or without), or as `range` in m and `azimuth` in rad.
        ego_SE3_radar: mounting; None leaves positions where the radar put them.

    A detection in polar form (radar_msgs/RadarReturn) tells only how fast it comes or goes: its velocity is that
    along the beam, and its id is its position in the message.

    Raises:
        SyncError: bad_tracks, when the message has another layout.
    """
    items = next((getattr(message, name) for name in _LIST_NAMES if hasattr(message, name)), None)
    if items is None:
        raise SyncError("the radar message holds no tracks", code="bad_tracks")
    points = [point for item in items for point in _points(item)]
    if not points:
        return []
    mount = np.eye(4) if ego_SE3_radar is None else ego_SE3_radar
    with np.errstate(invalid="ignore", over="ignore"):
        turned = np.array(points, np.float64).reshape(-1, 2, 3) @ mount[:3, :3].T
    places, motions = turned[:, 0] + mount[:3, 3], turned[:, 1]
    found = np.concatenate([places[:, :2], motions[:, :2]], axis=1)
    finite = np.isfinite(found).all(axis=1)
    return [
        Track(_id(item, index), *numbers)
        for index, (item, numbers) in enumerate(zip(items, found.tolist(), strict=True))
        if finite[index]
    ]


def _points(item: Any) -> tuple[Point, Point]:
    """Place and velocity in the frame of the radar."""
    if hasattr(item, "range") and hasattr(item, "azimuth"):
        return _from_polar(item)
    return _place(item), _motion(item)


def _from_polar(item: Any) -> tuple[Point, Point]:
    """Azimuth counts from x to y, elevation from the x-y plane to z (radar_msgs/RadarReturn)."""
    azimuth, elevation = float(item.azimuth), float(getattr(item, "elevation", 0.0))
    level = math.cos(elevation)
    beam = (level * math.cos(azimuth), level * math.sin(azimuth), math.sin(elevation))
    speed = next((float(getattr(item, name)) for name in _RADIAL_NAMES if hasattr(item, name)), 0.0)
    reach = float(item.range)
    return _scaled(beam, reach), _scaled(beam, speed)


def _scaled(beam: Point, length: float) -> Point:
    return beam[0] * length, beam[1] * length, beam[2] * length


def _place(item: Any) -> Point:
    nested = _nested(item, ("position", "pose"), ("pose", "position"))
    return _point(item, nested, "position", ("x_m", "y_m", "z_m"), ("x", "y", "z"))


def _motion(item: Any) -> Point:
    nested = _nested(item, ("velocity", "relative_velocity", "twist"), ("twist", "linear"))
    return _point(item, nested, "velocity", ("vx_mps", "vy_mps", "vz_mps"), ("vx", "vy", "vz"))


def _nested(item: Any, names: tuple[str, ...], inner: tuple[str, str]) -> Any:
    """The point under one of these names, unpacked from PoseWithCovariance, Pose and their like."""
    found = next((getattr(item, name) for name in names if hasattr(item, name)), None)
    for name in inner:
        found = getattr(found, name, found)
    return found


def _point(item: Any, point: Any, what: str, *flat: tuple[str, str, str]) -> Point:
    if hasattr(point, "x") and hasattr(point, "y"):
        return float(point.x), float(point.y), float(getattr(point, "z", 0.0))
    for x, y, z in flat:
        if hasattr(item, x) and hasattr(item, y):
            return float(getattr(item, x)), float(getattr(item, y)), float(getattr(item, z, 0.0))
    raise SyncError(f"a radar track has no {what}", code="bad_tracks")


def _id(item: Any, index: int) -> int:
    for name in _ID_NAMES:
        value = getattr(item, name, None)
        if value is None:
            continue
        if hasattr(value, "uuid"):
            return int.from_bytes(bytes(int(b) for b in value.uuid[:4]), "little") & ID_MASK
        return int(value) & ID_MASK
    return index
