"""A recorded message as bytes, and ways to change it.

Belongs here: stamps by offset, and decoding and encoding of standard types. Does not belong here: files (`rewrite`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import PoisonError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Message:
    """A raw message: `index` counts the messages of its topic, `count` is how many the topic has."""

    topic: str
    log_ns: int
    raw: bytes
    index: int
    count: int
    msgtype: str = ""
    serialization: str = "cdr"
    stamp_offset: int | None = 4

    @property
    def _stamp_layout(self) -> tuple[str, int]:
        """How seconds and nanoseconds are packed, and where.

        Raises:
            PoisonError: the message carries no stamp.
        """
        if self.stamp_offset is None or self.serialization not in ("cdr", "ros1"):
            raise PoisonError(f"{self.topic} carries no stamp", code="fault_needs_stamp")
        if self.serialization == "ros1":
            return "<II", self.stamp_offset
        return "<iI" if self.raw[1] & 1 else ">iI", self.stamp_offset

    @property
    def sensor_ns(self) -> int:
        layout, at = self._stamp_layout
        seconds, nanoseconds = struct.unpack_from(layout, self.raw, at)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def stamped(self, sensor_ns: int) -> Message:
        """The same message with another header stamp."""
        return self.with_stamp(*divmod(sensor_ns, 1_000_000_000))

    def with_stamp(self, seconds: int, nanoseconds: int) -> Message:
        """The same message with these two fields in its header, whether they make sense or not."""
        layout, at = self._stamp_layout
        stamp = struct.pack(layout, seconds, nanoseconds)
        return replace(self, raw=self.raw[:at] + stamp + self.raw[at + 8 :])

    def changed(self, change: Callable[[Any], None]) -> Message:
        """The same message, decoded, changed in place by `change`, and encoded again.

        Raises:
            PoisonError: the type is none of the standard ones.
        """
        store = _store(self.serialization == "ros1")
        if self.msgtype not in store.types:
            reason = f"{self.topic}: {self.msgtype} cannot be changed"
            raise PoisonError(reason, code="fault_needs_standard_type")
        ros1 = self.serialization == "ros1"
        decode = store.deserialize_ros1 if ros1 else store.deserialize_cdr
        encode = store.serialize_ros1 if ros1 else store.serialize_cdr
        message = decode(self.raw, self.msgtype)
        change(message)
        return replace(self, raw=bytes(encode(message, self.msgtype)))


@lru_cache(maxsize=2)
def _store(ros1: bool) -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)
