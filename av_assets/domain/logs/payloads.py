"""Stamps and image payloads straight from the serialised bytes, without decoding the whole message.

Belongs here: reading headers of CDR and ROS 1 messages by offset. Does not belong here: decoding pixels.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from av_assets.domain.errors import LogError

if TYPE_CHECKING:
    from av_assets.domain.logs.blocks import RawMessage

IMAGE_TYPES = frozenset(
    {"sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image", "foxglove_msgs/msg/CompressedVideo"}
)
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_RAW = "sensor_msgs/msg/Image"


class ImagePayload(NamedTuple):
    """One image or access unit. `encoding` is jpeg, png, h264, ... or a raw one as ROS names it (rgb8).

    `height`, `width` and `step` (bytes a row) are zero for compressed payloads.
    """

    sensor_ns: int
    frame_id: str
    encoding: str
    data: memoryview
    height: int = 0
    width: int = 0
    step: int = 0
    bigendian: bool = False


def header_stamp_ns(raw: RawMessage) -> int | None:
    """The sensor stamp of a message that starts with a header or a time, in ns; None without one."""
    at = raw.stamp_offset
    if at is None or len(raw.data) < at + 8:
        return None
    data = raw.data
    if raw.serialization == "cdr":
        seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, at)
    else:
        seconds, nanoseconds = struct.unpack_from("<II", data, at)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def image_payload(raw: RawMessage) -> ImagePayload:
    """Stamp, frame, encoding and payload of an image or video message; the payload is not copied.

    Raises:
        LogError: not_an_image for other types, bad_message when lengths do not fit.
    """
    if raw.msgtype not in IMAGE_TYPES or raw.serialization not in ("cdr", "ros1"):
        raise LogError(f"{raw.topic}: {raw.msgtype} holds no image", code="not_an_image")
    try:
        return _read(_Fields(raw), raw)
    except (struct.error, IndexError) as error:
        raise LogError(f"{raw.topic}: the image message is cut", code="bad_message") from error


def _read(fields: _Fields, raw: RawMessage) -> ImagePayload:
    is_video = raw.msgtype not in (_COMPRESSED, _RAW)
    if raw.serialization == "ros1" and not is_video:
        fields.word()  # seq
    seconds, nanoseconds = fields.signed(), fields.word()
    stamp_ns = seconds * 1_000_000_000 + nanoseconds
    frame_id = fields.text()
    if is_video:
        data = fields.blob()
        return ImagePayload(stamp_ns, frame_id, fields.text().lower(), data)
    if raw.msgtype == _COMPRESSED:
        declared = fields.text()
        data = fields.blob()
        return ImagePayload(stamp_ns, frame_id, _compressed_encoding(declared, data), data)
    height, width, encoding = fields.word(), fields.word(), fields.text()
    bigendian, step = fields.byte(), fields.word()
    return ImagePayload(stamp_ns, frame_id, encoding, fields.blob(), height, width, step, bool(bigendian))


def _compressed_encoding(declared: str, data: memoryview) -> str:
    """The bytes know best: image_transport writes `rgb8; jpeg compressed bgr8`, others `jpg` or nothing."""
    head = bytes(data[:12])
    if head.startswith(b"\xff\xd8"):
        return "jpeg"
    if head.startswith(b"\x89PNG"):
        return "png"
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "webp"
    return declared.strip().lower()


class _Fields:
    """A cursor over fields: CDR pads to alignment and counts the NUL of strings, ROS 1 does neither."""

    def __init__(self, raw: RawMessage) -> None:
        self._data = memoryview(raw.data)
        self._cdr = raw.serialization == "cdr"
        self._order = "<" if not self._cdr or raw.data[1] & 1 else ">"
        self._at = 4 if self._cdr else 0

    def word(self, kind: str = "I") -> int:
        if self._cdr:
            self._at += -self._at % 4  # the payload starts at 4, so alignment counts the same from either
        (value,) = struct.unpack_from(self._order + kind, self._data, self._at)
        self._at += 4
        return int(value)

    def signed(self) -> int:
        """Seconds: signed in CDR, unsigned in ROS 1."""
        return self.word("i" if self._cdr else "I")

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def blob(self) -> memoryview:
        length = self.word()
        if self._at + length > len(self._data):
            raise IndexError(length)
        self._at += length
        return self._data[self._at - length : self._at]

    def text(self) -> str:
        return bytes(self.blob()).rstrip(b"\0").decode("utf-8", "replace")
