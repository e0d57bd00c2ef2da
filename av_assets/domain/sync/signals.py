"""Numbers over time out of small messages: IMU, GNSS, CAN, poses and any other message that holds numbers.

Belongs here: names and units of the numbers of one message. Does not belong here: keeping them (signal_log),
batches (signal_batches), resampling.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import LogError, SyncError
from av_assets.domain.geometry.transforms import Array
from av_assets.domain.logs.messages.json_messages import JsonObject
from av_assets.domain.sync import wire

if TYPE_CHECKING:
    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.sync.canbus import CanDecoder

POSE_FIELDS = ("x_m", "y_m", "z_m", "qx", "qy", "qz", "qw")
TIME_FIELDS = ("nanosec", "nsec", "nanos", "nsecs")  # a nested message with one of these is a time
MAX_DEPTH = 16
# A forward-right-down IMU turned into forward-left-up.
FRD_TO_FLU = np.diag([1.0, -1.0, -1.0])

Rotate = Callable[[str], Array | None]
Numbers = Iterable[tuple[str, float]]


def topic_slug(topic: str) -> str:
    """`/vehicle/wheel_speeds` -> `vehicle_wheel_speeds`."""
    return "_".join(part for part in topic.lower().replace("-", "_").split("/") if part)


class SignalReader:
    """Turns raw messages of small streams into (name, number) pairs.

    Args:
        decode: turns a raw message into an object with fields (used for types that are not read by offset).
        rotation: frame -> ego_R_frame (3, 3), None where unknown.
        can: topic -> decoder of its CAN frames.
        aliases: field name -> canonical name.
        max_fields: most numbers that are taken from one generic message.
    """

    def __init__(
        self,
        decode: Callable[[RawMessage], Any],
        rotation: Rotate,
        can: dict[str, CanDecoder],
        aliases: dict[str, str],
        max_fields: int,
    ) -> None:
        self._decode, self._rotation, self._can = decode, rotation, can
        self._aliases, self._max_fields = aliases, max_fields
        self._rotations: dict[str, Array] = {}
        self.failed: dict[str, int] = defaultdict(int)

    def read(self, raw: RawMessage) -> Numbers:
        """The numbers of one message; a message that cannot be read counts in `failed` and gives none."""
        try:
            return self._read(raw)
        except (SyncError, LogError):
            self.failed[raw.topic] += 1
            return ()

    def _read(self, raw: RawMessage) -> Numbers:
        kind = raw.msgtype
        if kind == "sensor_msgs/msg/Imu":
            return self._imu(wire.imu(raw))
        if kind in wire.GNSS_TYPES:
            status, values = wire.gnss(raw)
            names = ("latitude_deg", "longitude_deg", "altitude_m")
            return zip(names, values, strict=True) if status >= 0 else ()
        if raw.topic in self._can:
            fast = kind in wire.CAN_TYPES
            frame = wire.can_frame(raw) if fast else wire.can_frame_of(self._decode(raw))
            return self._can[raw.topic].decode(frame)
        if kind in wire.CAN_TYPES:
            return ()
        slug = topic_slug(raw.topic)
        if kind in wire.POSE_TYPES:
            return [(f"{slug}_{n}", v) for n, v in zip(POSE_FIELDS, wire.pose(raw), strict=True)]
        if kind in wire.ODOMETRY_TYPES:
            *pose, speed, yaw_rate = wire.odometry(raw)
            named = [(f"{slug}_{n}", v) for n, v in zip(POSE_FIELDS, pose, strict=True)]
            return [*named, ("speed_mps", speed), ("yaw_rate_radps", yaw_rate)]
        return self._generic(slug, raw)

    def _imu(self, sample: wire.ImuSample) -> Numbers:
        rotation = self._rotations.get(sample.frame)
        if rotation is None:
            rotation = self._rotations[sample.frame] = self._ego_rotation(sample.frame)
        ax, ay, az = rotation @ sample.accelerations
        yaw_rate = float(rotation[2] @ sample.rates)
        return (
            ("imu_ax_mps2", float(ax)),
            ("imu_ay_mps2", float(ay)),
            ("imu_az_mps2", float(az)),
            ("yaw_rate_radps", yaw_rate),
        )

    def _ego_rotation(self, frame: str) -> Array:
        known = self._rotation(frame)
        if known is not None:
            return known
        return FRD_TO_FLU if frame.lower().endswith("_frd") else np.eye(3)

    def _generic(self, slug: str, raw: RawMessage) -> Numbers:
        numbers = list(numbers_of(self._decode(raw), self._max_fields))
        return [(self._aliases.get(name, f"{slug}_{name}"), v) for name, v in numbers]


def numbers_of(message: Any, limit: int) -> Numbers:
    """(field, value) of the numeric scalars of a decoded message, nested fields joined by `_`, at most
    `limit`. The message is one of rosbags, of protobuf, or a JSON object.

    Headers, stamps, arrays and constants (upper-case names of ROS types) are left out.
    """
    found: list[tuple[str, float]] = []
    _collect(message, "", found, limit, 0)
    return found


def _collect(message: Any, prefix: str, found: list[tuple[str, float]], limit: int, depth: int) -> None:
    for name, value in _members(message):
        if name == "header" or name.startswith("__") or len(found) >= limit:
            continue
        if isinstance(value, bool | int | float | np.number | np.bool_):
            found.append((prefix + name, _float(value)))
        elif depth < MAX_DEPTH and not any(hasattr(value, field) for field in TIME_FIELDS):
            _collect(value, f"{prefix}{name}_", found, limit, depth + 1)


def _members(message: Any) -> Iterable[tuple[str, Any]]:
    """The fields of a decoded message that it holds; none for what is no message."""
    if hasattr(message, "__dataclass_fields__"):
        names = [name for name in message.__dataclass_fields__ if not name.isupper()]
        return [(name, getattr(message, name)) for name in names]
    if isinstance(message, JsonObject):
        return list(vars(message).items())
    descriptor = getattr(message, "DESCRIPTOR", None)
    if descriptor is None:
        return ()
    single = [field for field in descriptor.fields if not field.is_repeated]
    held = [field for field in single if field.message_type is None or message.HasField(field.name)]
    return [(field.name, getattr(message, field.name)) for field in held]


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # JSON integers have no bounds
        return math.inf if value > 0 else -math.inf
