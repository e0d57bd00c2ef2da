"""Numbers over time out of small messages: IMU, GNSS, CAN, poses and any other message that holds numbers.

Belongs here: names, units and collection of signals. Does not belong here: resampling (match), payloads
(streams).
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import LogError, SyncError
from av_assets.domain.geometry.transforms import Array
from av_assets.domain.sync import wire

if TYPE_CHECKING:
    from av_assets.domain.logs.blocks import RawMessage
    from av_assets.domain.sync.canbus import CanDecoder
    from av_assets.domain.sync.grid import Ns

POSE_FIELDS = ("x_m", "y_m", "z_m", "qx", "qy", "qz", "qw")
POSE_TYPES = ("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped")
# A forward-right-down IMU turned into forward-left-up.
FRD_TO_FLU = np.diag([1.0, -1.0, -1.0])

Rotate = Callable[[str], Array | None]
Numbers = Iterable[tuple[str, float]]


def topic_slug(topic: str) -> str:
    """`/vehicle/wheel_speeds` -> `vehicle_wheel_speeds`."""
    return "_".join(part for part in topic.lower().replace("-", "_").split("/") if part)


class SignalLog:
    """Samples of all signals of a drive: 16 bytes a value, so hours of signals fit where payloads never
    would.

    Samples name their message by its position in the topic, because the clock of a topic is judged
    afterwards.
    Where two topics give one canonical name, the first topic of the contract wins: mixing sources would
    make jumps.
    """

    def __init__(self) -> None:
        self._ordinals: dict[str, array[int]] = defaultdict(lambda: array("q"))
        self._values: dict[str, array[float]] = defaultdict(lambda: array("d"))
        self._source: dict[str, str] = {}

    def add(self, topic: str, ordinal: int, numbers: Numbers) -> None:
        for name, value in numbers:
            if self._source.setdefault(name, topic) == topic:
                self._ordinals[name].append(ordinal)
                self._values[name].append(value)

    def names(self) -> list[str]:
        return sorted(self._source)

    def source(self, name: str) -> str:
        return self._source[name]

    def series(self, name: str, topic_stamps_ns: Ns) -> tuple[Ns, Array]:
        """Stamps (N,) and values (N,) in recorded order, given the stamps of all messages of its topic."""
        return topic_stamps_ns[np.array(self._ordinals[name], np.int64)], np.array(
            self._values[name], np.float64
        )


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
        if kind == "sensor_msgs/msg/NavSatFix":
            status, values = wire.gnss(raw)
            names = ("latitude_deg", "longitude_deg", "altitude_m")
            return zip(names, values, strict=True) if status >= 0 else ()
        if kind == "can_msgs/msg/Frame":
            decoder = self._can.get(raw.topic)
            return decoder.decode(wire.can_frame(raw)) if decoder is not None else ()
        slug = topic_slug(raw.topic)
        if kind in POSE_TYPES:
            return [(f"{slug}_{n}", v) for n, v in zip(POSE_FIELDS, wire.pose(raw), strict=True)]
        if kind == "nav_msgs/msg/Odometry":
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
    `limit`.

    Headers, stamps, arrays and constants (upper-case names) are left out.
    """
    found: list[tuple[str, float]] = []
    _collect(message, "", found, limit)
    return found


def _collect(message: Any, prefix: str, found: list[tuple[str, float]], limit: int) -> None:
    for name in getattr(message, "__dataclass_fields__", {}):
        if name == "header" or name.startswith("__") or name.isupper() or len(found) >= limit:
            continue
        value = getattr(message, name)
        if isinstance(value, bool | int | float | np.number | np.bool_):
            found.append((prefix + name, float(value)))
        elif hasattr(value, "__dataclass_fields__") and not hasattr(value, "nanosec"):
            _collect(value, f"{prefix}{name}_", found, limit)
