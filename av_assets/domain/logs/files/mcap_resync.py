"""Where an MCAP file makes sense again after bytes that do not.

A record is told by nothing but its bytes: every kind but messages says in its own fields how long it is, and a
message belongs to a known channel and to its time.
Belongs here: recognising records, and how much a cut chunk lost. Does not belong here: the scan that asks
(`mcap_scan`).
Format: https://mcap.dev/spec
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files import mcap_log as mcap
from av_assets.domain.logs.files.compression import CODECS
from av_assets.domain.logs.files.magic import MCAP_MAGIC
from av_assets.domain.logs.files.mcap_records import RECORD, text_at

if TYPE_CHECKING:
    from av_assets.domain.logs.files.mcap_log import McapLog

WINDOW_BYTES = 4 << 20
MAX_JUMP_NS = 3_600_000_000_000
PLAIN = ("", "none")  # codecs of chunks that are stored as they are
_CHAIN = 2  # records that must follow a message when no other message vouches for its time
FIRST_PRIVATE = 0x80
_MAX_PRIVATE = 4  # private records in a row that are looked past
_HEAD_BYTES = 256
_MESSAGE_BYTES = RECORD.size + mcap.MESSAGE_HEAD_BYTES
_CHANNEL_AND_TIME = struct.Struct("<HIQ")
_CANDIDATE = re.compile(rb"[\x01-\x0f][\s\S]{4}\0\0\0\0")
_CHUNK_START = re.compile(rb"\x06[\s\S]{4}\0\0\0\0")
# Fields of each kind: bytes of fixed ones, s what 32 bits tell the length of, S 64 bits.
_FIELDS: dict[int, tuple[int | str, ...]] = {
    0x01: ("s", "s"),
    0x02: (20,),
    0x03: (2, "s", "s", "s"),
    0x04: (4, "s", "s", "s"),
    0x06: (28, "s", "S"),
    0x07: (2, "s"),
    0x08: (32, "s", 8, "s", 16),
    0x09: (16, "s", "s", "S", 4),
    0x0A: (40, "s", "s"),
    0x0B: (42, "s"),
    0x0C: ("s", "s"),
    0x0D: (16, "s"),
    0x0E: (17,),
    0x0F: (4,),
}


def header_at(log: McapLog, at: int, limit: int) -> tuple[int, int] | None:
    """Opcode and end of the record at `at`; None where its head or its length does not fit before `limit`."""
    if at + RECORD.size > limit:
        return None
    opcode, length = RECORD.unpack(log.bytes_at(at, RECORD.size))
    end = at + RECORD.size + length
    return None if end > limit or not opcode else (opcode, end)


def is_exact(log: McapLog, at: int, opcode: int, end: int) -> bool:
    """Whether the fields of a record take exactly its length. Messages and unknown kinds never do."""
    place, head, start = at + RECORD.size, b"", 0
    if opcode not in _FIELDS:
        return False
    for field in _FIELDS[opcode]:
        if isinstance(field, int):
            place += field
            continue
        size = 4 if field == "s" else 8
        if not head or not start <= place <= start + len(head) - size:
            start, head = place, log.bytes_at(place, _HEAD_BYTES)
        place += size + int.from_bytes(head[place - start : place - start + size], "little")
        if place > end:
            return False
    return place == end


def joins(log: McapLog, at: int, limit: int, private: int = 0) -> bool:
    """Whether a record can stand at `at`, or what ends there may end there."""
    if at == limit or (at + len(MCAP_MAGIC) == limit and log.bytes_at(at, len(MCAP_MAGIC)) == MCAP_MAGIC):
        return True
    found = header_at(log, at, limit)
    if found is None:
        return False
    opcode, end = found
    if opcode == mcap.MESSAGE:
        return end - at >= RECORD.size + mcap.MESSAGE_HEAD_BYTES
    if opcode >= FIRST_PRIVATE:
        return private < _MAX_PRIVATE and joins(log, end, limit, private + 1)
    return is_exact(log, at, opcode, end)


def next_record(log: McapLog, at: int, limit: int, near_ns: int | None, alone: bool) -> int | None:
    """Where the next record stands that fits all that is known; None without one before `limit`.

    Args:
        near_ns: log time of a message close by, outside of chunks.
        alone: take a message without such a neighbour when the next records follow from it. That is for messages
            that no checksum covers: inside of a broken chunk with one nothing could prove them.
    """
    while at + RECORD.size < limit:
        window = log.bytes_at(at, min(WINDOW_BYTES + RECORD.size, limit - at))
        position = 0
        while (match := _CANDIDATE.search(window, position)) and match.start() < WINDOW_BYTES:
            if _is_plausible(log, at + match.start(), limit, near_ns, alone):
                return at + match.start()
            position = match.start() + 1
        at += WINDOW_BYTES
    return None


def _is_plausible(log: McapLog, at: int, limit: int, near_ns: int | None, alone: bool) -> bool:
    found = header_at(log, at, limit)
    if found is None:
        return False
    opcode, end = found
    if opcode == mcap.MESSAGE:
        if near_ns is not None and _is_near(log, at, near_ns):
            return end - at >= _MESSAGE_BYTES
        return alone and end - at >= _MESSAGE_BYTES and _leads_on(log, end, limit, _message_head(log, at)[1])
    if not is_exact(log, at, opcode, end):
        return False
    if opcode == mcap.CHUNK:
        return chunk_codec(log, at) is not None
    if opcode in (mcap.SCHEMA, mcap.CHANNEL):
        return _has_name(log, at, 2 if opcode == mcap.SCHEMA else 4)
    return joins(log, end, limit)


def _leads_on(log: McapLog, at: int, limit: int, near_ns: int) -> bool:
    """Whether records that fit follow, each where the one before ends."""
    for _ in range(_CHAIN):
        if at == limit:
            return True
        found = header_at(log, at, limit)
        if found is None:
            return False
        if found[0] == mcap.MESSAGE:
            # Its channel may be one whose record is damaged.
            if found[1] - at < _MESSAGE_BYTES or abs(_message_head(log, at)[1] - near_ns) >= MAX_JUMP_NS:
                return False
        elif not is_exact(log, at, *found):
            return False
        at = found[1]
    return True


def _message_head(log: McapLog, at: int) -> tuple[int, int]:
    """Channel and log time of the message at `at`; (-1, -1) where the file ends."""
    head = log.bytes_at(at + RECORD.size, _CHANNEL_AND_TIME.size)
    if len(head) < _CHANNEL_AND_TIME.size:
        return -1, -1
    channel, _, log_ns = _CHANNEL_AND_TIME.unpack(head)
    return int(channel), int(log_ns)


def _is_near(log: McapLog, at: int, near_ns: int) -> bool:
    channel, log_ns = _message_head(log, at)
    return channel in log.channels and abs(log_ns - near_ns) < MAX_JUMP_NS


def ends_at(log: McapLog, at: int, limit: int, near_ns: int) -> bool:
    """Whether a message may well end at `at`, though no whole record stands there: its traces do."""
    head = log.bytes_at(at, min(RECORD.size, limit - at))
    if len(head) < RECORD.size or _is_near(log, at, near_ns):
        return True
    opcode, length = RECORD.unpack(head)
    if at + RECORD.size + length > limit:
        return not length >> 32 and (opcode == mcap.MESSAGE or opcode in _FIELDS)
    return bool(length) and joins(log, at + RECORD.size + length, limit)


def _has_name(log: McapLog, at: int, skip: int) -> bool:
    head = log.bytes_at(at + RECORD.size, _HEAD_BYTES)
    length = int.from_bytes(head[skip : skip + 4], "little")
    name = head[skip + 4 : skip + 4 + length].decode("utf-8", "replace")
    return bool(name) and name.isprintable()


def chunk_codec(log: McapLog, at: int) -> tuple[str, int, int] | None:
    """Codec, checksum and start of the data of the chunk at `at`; None where its head makes no sense."""
    head = log.bytes_at(at + RECORD.size, 64)
    try:
        (crc,) = struct.unpack_from("<I", head, 24)
        codec, place = text_at(head, 28)
    except (struct.error, LogError):
        return None
    return (codec, crc, at + RECORD.size + place + 8) if codec in CODECS else None


def has_checked_chunks(log: McapLog) -> bool:
    """Whether any chunk of the file carries a checksum."""
    at = len(MCAP_MAGIC)
    while at < log.size:
        window = log.bytes_at(at, WINDOW_BYTES + RECORD.size)
        for match in _CHUNK_START.finditer(window):
            found = header_at(log, at + match.start(), log.size)
            if found and is_exact(log, at + match.start(), *found):
                head = chunk_codec(log, at + match.start())
                if head and head[1]:
                    return True
        at += WINDOW_BYTES
    return False


def lost_share(length: int, used: int, data: bytes, body: bytes) -> int:
    """Bytes of a cut chunk that gave no message; for compressed ones by the share that was decoded."""
    (size, _, text) = struct.unpack_from("<QII", body, 16)
    whole = size if text else len(data)
    return length - int(length * min(1.0, used / whole)) if whole else length
