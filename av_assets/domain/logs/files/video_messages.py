"""Messages around frames that came without one, in CDR.

Belongs here: foxglove_msgs/msg/CompressedVideo and sensor_msgs/msg/CompressedImage, built by hand. Does not
belong here: reading messages (`payloads`).
"""

from __future__ import annotations

import struct

_RULE = "=" * 80
_TIME = f"{_RULE}\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
_VIDEO = f"builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n{_TIME}"
_IMAGE = (
    "std_msgs/Header header\nstring format\nuint8[] data\n"
    f"{_RULE}\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n{_TIME}"
)
# Encoding -> type and definition of its messages; both types start with a time and a frame id.
CHANNELS = {
    "h264": ("foxglove_msgs/msg/CompressedVideo", _VIDEO),
    "h265": ("foxglove_msgs/msg/CompressedVideo", _VIDEO),
    "jpeg": ("sensor_msgs/msg/CompressedImage", _IMAGE),
}
_LITTLE_ENDIAN_CDR = b"\0\1\0\0"


def wrap(encoding: str, sensor_ns: int, frame_id: str, data: bytes) -> bytes:
    """One message of the type that `CHANNELS` names; `encoding` is one of its keys."""
    body = struct.pack("<iI", *divmod(sensor_ns, 1_000_000_000)) + _text(frame_id)
    payload = struct.pack("<I", len(data)) + data
    if encoding == "jpeg":
        return _LITTLE_ENDIAN_CDR + _aligned(_aligned(body) + _text(encoding)) + payload
    return _LITTLE_ENDIAN_CDR + _aligned(_aligned(body) + payload) + _text(encoding)


def _text(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return struct.pack("<I", len(raw)) + raw


def _aligned(body: bytes) -> bytes:
    return body + b"\0" * (-len(body) % 4)
