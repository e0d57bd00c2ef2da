"""Fields of small messages read by offset from their serialised bytes: no message class is built.

Belongs here: cursors over CDR and ROS 1 bytes, and the messages that come in thousands per second. Does not belong
here: what the numbers mean (signals), point clouds (pointclouds).
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from av_assets.domain.errors import LogError, SyncError
from av_assets.domain.logs.messages import foxglove

if TYPE_CHECKING:
    from av_assets.domain.logs.files.blocks import RawMessage

CDR_HEADER = 4
GNSS_TYPES = foxglove.GNSS_TYPES
POSE_TYPES = (
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "foxglove_msgs/msg/PoseInFrame",
    "foxglove.PoseInFrame",
)
ODOMETRY_TYPES = ("nav_msgs/msg/Odometry", "foxglove_msgs/msg/Odometry", "foxglove.Odometry")
CAN_TYPES = ("can_msgs/msg/Frame", "ros2_socketcan_msgs/msg/FdFrame")
CAN_EXTENDED_FLAG, CAN_REMOTE_FLAG, CAN_ERROR_FLAG = 1 << 31, 1 << 30, 1 << 29
CAN_ID_MASK = 0x1FFF_FFFF
MAX_CAN_BYTES, MAX_CAN_FD_BYTES = 8, 64
_SIZES = {"b": 1, "B": 1, "?": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "d": 8, "q": 8, "Q": 8}


class Cursor:
    """Reads a message from its start. CDR aligns each number to its size, ROS 1 packs them.

    Raises:
        SyncError: bad_message, from any method, where the bytes end too early.
    """

    def __init__(self, raw: RawMessage) -> None:
        self.raw = raw
        self.data = memoryview(raw.data)
        self.aligned = raw.serialization == "cdr"
        self.is_ros = self.aligned or raw.serialization == "ros1"
        self.order = "<" if not self.aligned or (len(raw.data) > 1 and raw.data[1] & 1) else ">"
        self.at = CDR_HEADER if self.aligned else 0

    def _cut(self) -> SyncError:
        return SyncError(f"{self.raw.topic}: a {self.raw.msgtype} message is cut", code="bad_message")

    def align(self, size: int) -> None:
        if self.aligned:
            self.at += -(self.at - CDR_HEADER) % size

    def numbers(self, kind: str, count: int = 1) -> tuple[float, ...]:
        """`count` numbers of one struct kind ("d", "I", ...)."""
        if not self.is_ros:
            raise SyncError(f"{self.raw.topic} is {self.raw.serialization} encoded", code="bad_message")
        self.align(_SIZES[kind])
        try:
            values = struct.unpack_from(f"{self.order}{count}{kind}", self.data, self.at)
        except struct.error as error:
            raise self._cut() from error
        self.at += _SIZES[kind] * count
        return values

    def uint(self) -> int:
        return int(self.numbers("I")[0])

    def skip(self, kind: str, count: int) -> None:
        self.align(_SIZES[kind])
        self.at += _SIZES[kind] * count

    def blob(self) -> memoryview:
        length = self.uint()
        if self.at + length > len(self.data):
            raise self._cut()
        self.at += length
        return self.data[self.at - length : self.at]

    def text(self) -> str:
        return bytes(self.blob()).rstrip(b"\0").decode("utf-8", "replace")

    def stamp_ns(self) -> int:
        """The stamp of a std_msgs/Header (or of a foxglove_msgs type, which has no seq), as int64 ns."""
        if not self.aligned and not self.raw.msgtype.startswith("foxglove_msgs/"):
            self.skip("I", 1)
        seconds = int(self.numbers("i" if self.aligned else "I")[0])
        return seconds * 1_000_000_000 + self.uint()

    def header(self) -> str:
        """Passes a std_msgs/Header, or stamp and frame of a Foxglove type, and gives its frame_id."""
        if not self.is_ros:
            return str(by_name(self.raw)["frame_id"])
        has_seq = not self.aligned and not self.raw.msgtype.startswith("foxglove_msgs/")
        self.skip("I", 3 if has_seq else 2)
        return self.text()


def by_name(raw: RawMessage) -> dict[str, Any]:
    """The fields of a foxglove.* message in protobuf or JSON, as `foxglove.members`.

    Raises:
        SyncError: bad_message, or unknown_type for other schemas.
    """
    try:
        return foxglove.members(raw)
    except LogError as error:
        raise SyncError(error.reason, code=error.code) from error


class ImuSample(NamedTuple):
    """Rates in rad/s and accelerations in m/s2, in the sensor frame."""

    frame: str
    rates: tuple[float, ...]
    accelerations: tuple[float, ...]


def imu(raw: RawMessage) -> ImuSample:
    """A sensor_msgs/Imu."""
    cursor = Cursor(raw)
    frame = cursor.header()
    cursor.skip("d", 4 + 9)
    rates = cursor.numbers("d", 3)
    cursor.skip("d", 9)
    return ImuSample(frame, rates, cursor.numbers("d", 3))


def gnss(raw: RawMessage) -> tuple[int, tuple[float, ...]]:
    """Status (negative: no fix) and latitude, longitude in degrees, altitude in m of one of GNSS_TYPES.

    foxglove.LocationFix has no status: coordinates that are numbers count as a fix.
    """
    if foxglove.is_encoded(raw):
        found = by_name(raw)
        place: tuple[float, ...] = (found["latitude"], found["longitude"], found["altitude"])
        return _has_fix(place), place
    cursor = Cursor(raw)
    cursor.header()
    if raw.msgtype.startswith("foxglove_msgs/"):
        place = cursor.numbers("d", 3)
        return _has_fix(place), place
    status = int(cursor.numbers("b")[0])
    cursor.skip("H", 1)
    return status, cursor.numbers("d", 3)


def _has_fix(place: tuple[float, ...]) -> int:
    return 0 if math.isfinite(place[0]) and math.isfinite(place[1]) else -1


class CanFrame(NamedTuple):
    """One CAN or CAN FD frame; `can_id` without flags, `data` as long as the frame says."""

    can_id: int
    is_extended: bool
    is_data: bool
    data: bytes


def can_frame(raw: RawMessage) -> CanFrame:
    """One of CAN_TYPES."""
    cursor = Cursor(raw)
    cursor.header()
    can_id = cursor.uint()
    if raw.msgtype == CAN_TYPES[0]:
        remote, extended, error, length = (int(v) for v in cursor.numbers("B", 4))
        data = bytes(cursor.data[cursor.at : cursor.at + min(length, MAX_CAN_BYTES)])
        return _can(can_id, bool(extended), not remote and not error, data)
    extended, error, length = (int(v) for v in cursor.numbers("B", 3))
    data = bytes(cursor.blob()[: min(length, MAX_CAN_FD_BYTES)])
    return _can(can_id, bool(extended), not error, data)


def can_frame_of(message: Any) -> CanFrame:
    """A decoded frame of any other type: `id`, `data`, and where it has them `is_extended`, `is_rtr`, `is_error`
    and `len` or `dlc`.

    Raises:
        SyncError: bad_message, when it has no id and data.
    """
    try:
        data = bytes(message.data)
        length = next((int(getattr(message, n)) for n in ("len", "length") if hasattr(message, n)), len(data))
        is_data = not any(getattr(message, name, False) for name in ("is_rtr", "is_remote", "is_error"))
        is_extended = bool(getattr(message, "is_extended", False))
        return _can(int(message.id), is_extended, is_data, data[: min(length, MAX_CAN_FD_BYTES)])
    except (AttributeError, TypeError, ValueError) as error:
        raise SyncError("the message is no CAN frame", code="bad_message") from error


def _can(can_id: int, is_extended: bool, is_data: bool, data: bytes) -> CanFrame:
    """Some recorders leave the flags of SocketCAN in the identifier."""
    is_data = is_data and not can_id & (CAN_REMOTE_FLAG | CAN_ERROR_FLAG)
    return CanFrame(can_id & CAN_ID_MASK, is_extended or bool(can_id & CAN_EXTENDED_FLAG), is_data, data)


def pose(raw: RawMessage) -> tuple[float, ...]:
    """x, y, z in m and qx, qy, qz, qw of one of POSE_TYPES."""
    if foxglove.is_encoded(raw):
        return pose7(by_name(raw)["pose"])
    cursor = Cursor(raw)
    cursor.header()
    return cursor.numbers("d", 7)


def pose7(found: dict[str, Any] | None) -> tuple[float, ...]:
    """x, y, z, qx, qy, qz, qw of a foxglove.Pose; an absent part is at zero and not turned."""
    place = (found and found["position"]) or dict.fromkeys("xyz", 0.0)
    turn = (found and found["orientation"]) or {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
    return (*(place[axis] for axis in "xyz"), *(turn[axis] for axis in "xyzw"))


def odometry(raw: RawMessage) -> tuple[float, ...]:
    """As pose, then forward speed in m/s and yaw rate in rad/s, of one of ODOMETRY_TYPES."""
    if foxglove.is_encoded(raw):
        found = by_name(raw)
        speed, turn = found["linear_velocity"] or {"x": 0.0}, found["angular_velocity"] or {"z": 0.0}
        return (*pose7(found["pose"]), speed["x"], turn["z"])
    cursor = Cursor(raw)
    cursor.header()
    cursor.text()
    at = cursor.numbers("d", 7)
    if raw.msgtype == ODOMETRY_TYPES[0]:
        cursor.skip("d", 36)
    twist = cursor.numbers("d", 6)
    return (*at, twist[0], twist[5])
