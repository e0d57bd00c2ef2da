"""Fields of small messages read by offset from their serialised bytes: no message class is built.

Belongs here: cursors over CDR and ROS 1 bytes, and the messages that come in thousands per second. Does
not belong
here: what the numbers mean (signals), point clouds (pointclouds).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from av_assets.domain.errors import SyncError

if TYPE_CHECKING:
    from av_assets.domain.logs.blocks import RawMessage

CDR_HEADER = 4
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
        self.order = "<" if not self.aligned or (len(raw.data) > 1 and raw.data[1] & 1) else ">"
        self.at = CDR_HEADER if self.aligned else 0

    def _cut(self) -> SyncError:
        return SyncError(f"{self.raw.topic}: a {self.raw.msgtype} message is cut", code="bad_message")

    def align(self, size: int) -> None:
        if self.aligned:
            self.at += -(self.at - CDR_HEADER) % size

    def numbers(self, kind: str, count: int = 1) -> tuple[float, ...]:
        """`count` numbers of one struct kind ("d", "I", ...)."""
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

    def header(self) -> str:
        """Passes a std_msgs/Header and gives its frame_id."""
        self.skip("I", 2 if self.aligned else 3)
        return self.text()


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
    """Status (negative: no fix) and latitude, longitude in degrees, altitude in m of a
    sensor_msgs/NavSatFix."""
    cursor = Cursor(raw)
    cursor.header()
    status = int(cursor.numbers("b")[0])
    cursor.skip("H", 1)
    return status, cursor.numbers("d", 3)


class CanFrame(NamedTuple):
    """One classic CAN frame."""

    can_id: int
    is_extended: bool
    is_data: bool
    data: bytes


def can_frame(raw: RawMessage) -> CanFrame:
    """A can_msgs/Frame."""
    cursor = Cursor(raw)
    cursor.header()
    can_id = cursor.uint()
    remote, extended, error, length = (int(v) for v in cursor.numbers("B", 4))
    data = bytes(cursor.data[cursor.at : cursor.at + min(length, 8)])
    return CanFrame(can_id, bool(extended), not remote and not error, data)


def pose(raw: RawMessage) -> tuple[float, ...]:
    """x, y, z in m and qx, qy, qz, qw of a geometry_msgs/PoseStamped or PoseWithCovarianceStamped."""
    cursor = Cursor(raw)
    cursor.header()
    return cursor.numbers("d", 7)


def odometry(raw: RawMessage) -> tuple[float, ...]:
    """As pose, then forward speed in m/s and yaw rate in rad/s, of a nav_msgs/Odometry."""
    cursor = Cursor(raw)
    cursor.header()
    cursor.text()
    pose7 = cursor.numbers("d", 7)
    cursor.skip("d", 36)
    twist = cursor.numbers("d", 6)
    return (*pose7, twist[0], twist[5])
