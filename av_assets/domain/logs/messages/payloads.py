"""Stamps and image payloads straight from the serialised bytes, without decoding the whole message.

Belongs here: reading headers of CDR and ROS 1 messages by offset. Does not belong here: decoding pixels; protobuf
and JSON by field (`foxglove`).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from av_assets.domain.errors import LogError
from av_assets.domain.logs.messages import foxglove, json_messages, protobuf_wire
from av_assets.domain.logs.messages.video_units import VIDEO_CODECS, is_keyframe

if TYPE_CHECKING:
    from av_assets.domain.logs.files.blocks import RawMessage

__all__ = ["IMAGE_TYPES", "VIDEO_CODECS", "ImagePayload", "header_stamp_ns", "image_payload", "is_keyframe"]

_COMPRESSED = frozenset({"sensor_msgs/msg/CompressedImage"})
_RAW = frozenset({"sensor_msgs/msg/Image"})
_FOXGLOVE_COMPRESSED = frozenset(
    f"foxglove_msgs/msg/{name}" for name in ("CompressedImage", "CompressedVideo")
)
_FOXGLOVE_RAW = frozenset({"foxglove_msgs/msg/RawImage"})
_BY_FIELD = frozenset(f"foxglove.{name}" for name in ("CompressedImage", "CompressedVideo", "RawImage"))
_IN_ROS_ENCODING = _COMPRESSED | _RAW | _FOXGLOVE_COMPRESSED | _FOXGLOVE_RAW
IMAGE_TYPES = _IN_ROS_ENCODING | _BY_FIELD


_CDR, _CDR_BIG, _ROS1 = struct.Struct("<iI"), struct.Struct(">iI"), struct.Struct("<II")
_WORD, _WORD_BIG = struct.Struct("<I"), struct.Struct(">I")


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
    """The sensor stamp of a message in ns: its header or first time, a protobuf or JSON `timestamp`; None without."""
    at = raw.stamp_offset
    if at is None:
        return None
    data, serialization = raw.data, raw.serialization
    if serialization == "cdr":
        if len(data) < at + 8:
            return None
        seconds, nanoseconds = (_CDR if data[1] & 1 else _CDR_BIG).unpack_from(data, at)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)
    if serialization == "protobuf":
        return protobuf_wire.header_stamp_ns(data, at)
    if serialization == "json":
        return json_messages.header_stamp_ns(data)
    if len(data) < at + 8:
        return None
    seconds, nanoseconds = _ROS1.unpack_from(data, at)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def image_payload(raw: RawMessage) -> ImagePayload:
    """Stamp, frame, encoding and payload of an image or video message; the payload is not copied.

    Raises:
        LogError: not_an_image for other types, bad_message when lengths do not fit.
    """
    if raw.msgtype in _BY_FIELD and raw.serialization in ("protobuf", "json"):
        return _read_by_field(foxglove.members(raw))
    if raw.msgtype not in _IN_ROS_ENCODING or raw.serialization not in ("cdr", "ros1"):
        raise LogError(f"{raw.topic}: {raw.msgtype} holds no image", code="not_an_image")
    try:
        return _read(_Fields(raw), raw)
    except (struct.error, IndexError) as error:
        raise LogError(f"{raw.topic}: the image message is cut", code="bad_message") from error


def _read_by_field(found: dict[str, Any]) -> ImagePayload:
    stamp_ns, frame_id, data = found["timestamp"], found["frame_id"], found["data"]
    if "format" in found:
        return ImagePayload(stamp_ns, frame_id, _compressed_encoding(found["format"], data), data)
    size = (found["height"], found["width"], found["step"])
    return ImagePayload(stamp_ns, frame_id, found["encoding"], data, *size)


def _read(fields: _Fields, raw: RawMessage) -> ImagePayload:
    has_seq = raw.serialization == "ros1" and (raw.msgtype in _COMPRESSED or raw.msgtype in _RAW)
    if has_seq:
        fields.word()
    seconds, nanoseconds = fields.signed(), fields.word()
    stamp_ns = seconds * 1_000_000_000 + nanoseconds
    frame_id = fields.text()
    if raw.msgtype in _FOXGLOVE_COMPRESSED:
        data = fields.blob()
        return ImagePayload(stamp_ns, frame_id, _compressed_encoding(fields.text(), data), data)
    if raw.msgtype in _COMPRESSED:
        declared = fields.text()
        data = fields.blob()
        return ImagePayload(stamp_ns, frame_id, _compressed_encoding(declared, data), data)
    if raw.msgtype in _FOXGLOVE_RAW:
        width, height, encoding, step = fields.word(), fields.word(), fields.text(), fields.word()
        return ImagePayload(stamp_ns, frame_id, encoding, fields.blob(), height, width, step)
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
        self._unpack = (_WORD if not self._cdr or raw.data[1] & 1 else _WORD_BIG).unpack_from
        self._at = 4 if self._cdr else 0

    def word(self) -> int:
        at = self._at
        if self._cdr:
            at += -at % 4  # the payload starts at 4, so alignment counts the same from either
        self._at = at + 4
        return int(self._unpack(self._data, at)[0])

    def signed(self) -> int:
        """Seconds: signed in CDR, unsigned in ROS 1."""
        value = self.word()
        return value - (1 << 32) if self._cdr and value >> 31 else value

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
