"""The protobuf wire format: fields by number, and stamps, without descriptors or message classes.

Belongs here: bytes to numbers. Does not belong here: descriptors (`protobuf_messages`), what fields mean (`foxglove`).
Wire format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError

if TYPE_CHECKING:
    from collections.abc import Iterator

Wire = int | memoryview  # a varint, or the bytes of any other kind
Bytes = bytes | memoryview

HEADER_SHIFT = 32  # a stamp inside a header: the number of the header field above these bits
_VARINT, _FIXED64, _BLOB, _FIXED32 = 0, 1, 2, 5


def scan(data: Bytes) -> Iterator[tuple[int, Wire]]:
    """(field number, value) in written order; nested messages, strings and fixed numbers come as their bytes.

    Raises:
        LogError: bad_message where a field reaches over the end, or for groups.
    """
    view, at, end = memoryview(data), 0, len(data)
    while at < end:
        tag, at = _varint(view, at, end)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(view, at, end)
            yield tag >> 3, value
            continue
        if kind == _BLOB:
            length, at = _varint(view, at, end)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise LogError(f"wire type {kind} is not used by protobuf 3", code="bad_message")
        if length > end - at:
            raise LogError("a protobuf field reaches over the end of its message", code="bad_message")
        yield tag >> 3, view[at : at + length]
        at += length


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(min(10, end - at)):
        byte = view[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + place + 1
    raise LogError("a protobuf number does not end", code="bad_message")


def fields(data: Bytes) -> dict[int, Wire]:
    """Field number -> value, the last one where it repeats, as protobuf has it.

    Raises:
        LogError: as `scan`.
    """
    return dict(scan(data))


def blob(value: Wire | None) -> memoryview:
    """The bytes of a field; none where it is absent, which in protobuf 3 means empty."""
    return value if isinstance(value, memoryview) else memoryview(b"")


def text(value: Wire | None) -> str:
    return bytes(blob(value)).decode("utf-8", "replace")


def whole(value: Wire | None) -> int:
    """A varint or fixed32 as an unsigned number; 0 where it is absent."""
    if isinstance(value, int):
        return value
    return int.from_bytes(value, "little") if value is not None else 0


def number(value: Wire | None) -> float:
    """A double, float or integer field; 0 where it is absent."""
    if isinstance(value, memoryview) and len(value) in (4, 8):
        return float(struct.unpack("<d" if len(value) == 8 else "<f", value)[0])
    return float(value) if isinstance(value, int) else 0.0


def stamp_ns(time: Bytes) -> int:
    """A google.protobuf.Timestamp, or any message of seconds in field 1 and nanoseconds in field 2."""
    found = fields(time)
    return _ns(whole(found.get(1)), whole(found.get(2)))


def header_stamp_ns(data: bytes, path: int) -> int | None:
    """The stamp at `path` (see `stamp_path`), reading no further than to it; None where it is not written."""
    quick = _leading_ns(data, path)
    if quick is not None:
        return quick
    within: Bytes | None = data
    try:
        if path >> HEADER_SHIFT:
            within = first_blob(data, path >> HEADER_SHIFT)
        time = None if within is None else first_blob(within, path & ((1 << HEADER_SHIFT) - 1))
        return None if time is None else stamp_ns(time)
    except LogError:
        return None


def _leading_ns(data: bytes, path: int) -> int | None:
    """The time at `path` where it comes first and is plainly written, as by most writers; called for each message."""
    if path > 15 or len(data) < 2 or data[0] != path << 3 | _BLOB or data[1] > 0x7F:
        return None
    at, end = 2, 2 + data[1]
    if end > len(data):
        return None
    parts = [0, 0]
    while at < end:
        tag, value, shift = data[at], 0, 0
        if tag not in (0x08, 0x10):  # a varint in field 1 or 2
            return None
        byte = 0x80
        while byte & 0x80:
            at += 1
            if at >= end or shift > 63:
                return None
            byte = data[at]
            value |= (byte & 0x7F) << shift
            shift += 7
        parts[tag >> 4] = value & 0xFFFF_FFFF_FFFF_FFFF
        at += 1
    return _ns(*parts)


def _ns(seconds: int, nanoseconds: int) -> int:
    """Both as unsigned varints; negative ones are written in two's complement."""
    seconds -= (1 << 64) if seconds >> 63 else 0
    return seconds * 1_000_000_000 + (nanoseconds & 0xFFFF_FFFF)


def first_blob(data: Bytes, wanted: int) -> memoryview | None:
    for found, value in scan(data):
        if found == wanted and isinstance(value, memoryview):
            return value
    return None
