"""The sequential scan of a ROS 1 bag that has no usable index: `.bag.active`, cut or damaged ones.

Belongs here: walking records, finding the next chunk after a bad one, counting what is lost. Does not belong
here: reading by index (`ros1_log`).
"""

from __future__ import annotations

import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files import ros1_log as ros1
from av_assets.domain.logs.files.blocks import MAX_CHUNK_BYTES, MAX_TIME_NS, Block
from av_assets.domain.logs.files.compression import decompress, decompress_prefix
from av_assets.domain.logs.files.log_bytes import why
from av_assets.domain.logs.files.magic import ROS1_MAGIC

if TYPE_CHECKING:
    from av_assets.domain.logs.files.ros1_log import Header, Ros1Log

WINDOW_BYTES = 4 << 20
_NO_MESSAGES = (ros1.BAG_HEADER, ros1.INDEX, ros1.CHUNK_INFO, ros1.CONNECTION)
_CHUNK_FIELD = b"op=\x05"
_MAX_HEAD = 128


@dataclass
class _Seen:
    """Messages, and the bytes of their data, by connection."""

    counts: Counter[int] = field(default_factory=Counter)
    bytes: Counter[int] = field(default_factory=Counter)


def scan(log: Ros1Log) -> None:
    """Fill channels, counts and blocks of `log` from its records alone; damage is noted on it."""
    at, last, seen = len(ROS1_MAGIC), 0, _Seen()
    while at < log.size:
        try:
            head, start, length = log.head_at(at)
            following = max(_record(log, seen, head, at, start, length), at + 1)
            last = at if head[b"op"][0] in _NO_MESSAGES else 0
        except (LogError, KeyError, struct.error) as error:
            following, last = _resync(log, last or at, at, error), 0
        at = following
    for number, count in sorted(seen.counts.items()):
        if number in log.channels:
            log.counts[number] = count
        else:
            reason = f"{count} messages of connection {number} have no topic"
            log.damage.note("unknown_channel", reason, seen.bytes[number])


def _record(log: Ros1Log, seen: _Seen, head: Header, at: int, start: int, length: int) -> int:
    """Take one record; gives where the next one starts.

    Raises:
        LogError, KeyError, struct.error: it is no record.
    """
    kind = head[b"op"][0]
    if kind == ros1.CHUNK:
        return _chunk(log, seen, head, at, start, length)
    if start + length > log.size:
        raise LogError(f"the record at byte {at} is cut", code="cut_record")
    if kind == ros1.CONNECTION:
        _learn(log, head, log.bytes_at(start, length))
    elif kind == ros1.MESSAGE:
        _keep(log, seen, log.bytes_at(at, start + length - at), at, start + length - at, "records")
    elif kind not in (ros1.BAG_HEADER, ros1.INDEX, ros1.CHUNK_INFO):
        raise LogError(f"no record at byte {at}", code="bad_record")
    return start + length


def _learn(log: Ros1Log, head: Header, data: bytes) -> None:
    """Take a connection; a damaged one costs itself, not what stands behind it."""
    try:
        log.add_connection(head, data)
    except (LogError, KeyError, struct.error) as error:
        code, reason = why(error, "bad_record")
        log.damage.note(code, f"a connection record is damaged: {reason}", len(data))


def _chunk(log: Ros1Log, seen: _Seen, head: Header, at: int, start: int, length: int) -> int:
    codec = head[b"compression"].decode("ascii", "replace")
    (size,) = struct.unpack("<I", head[b"size"])
    if not length:
        return _open_chunk(log, seen, codec, at, start)
    end = start + length
    if end > log.size:
        if _next_chunk(log, start) is not None:
            raise LogError(f"the chunk at byte {at} has an impossible length", code="bad_chunk")
        data = decompress_prefix(log.bytes_at(start, length), codec, size)
        used = _keep(log, seen, data, at, end - at, "cut")
        lost = (log.size - start) * (1 - min(1.0, used / max(1, size if codec != "none" else len(data))))
        log.damage.note("cut_chunk", f"the chunk at byte {at} is cut", round(lost))
        return end
    if codec == "none" and size != length:  # its records follow one by one, whichever is wrong
        log.damage.note("bad_chunk", f"the chunk at byte {at} tells two sizes")
        return start
    try:
        data = decompress(log.bytes_at(start, length), codec, size)
    except LogError as error:
        log.damage.note(error.code, f"chunk at byte {at}: {error.reason}", end - at)
        return end
    if (used := _keep(log, seen, data, at, end - at, "chunk")) != len(data):
        log.damage.note("bad_chunk", f"chunk at byte {at}: a record is damaged", len(data) - used)
    return end


def _open_chunk(log: Ros1Log, seen: _Seen, codec: str, at: int, start: int) -> int:
    """The chunk that a recorder had not closed: its sizes are zero, its data runs to the end."""
    if codec == "none":
        return start  # its records follow one by one
    if _next_chunk(log, start) is not None:
        raise LogError(f"the chunk at byte {at} has an impossible length", code="bad_chunk")
    rest = min(log.size - start, MAX_CHUNK_BYTES)
    data = decompress_prefix(log.bytes_at(start, rest), codec, MAX_CHUNK_BYTES)
    used = _keep(log, seen, data, at, log.size - at, "cut")
    log.damage.note("cut_chunk", f"the chunk at byte {at} was not closed", 0 if used else log.size - at)
    return log.size


def _keep(log: Ros1Log, seen: _Seen, data: bytes, at: int, length: int, kind: str) -> int:
    """Learn the connections and count the messages of one block; gives how many bytes are whole records."""
    counts, start_ns, end_ns, used = Counter[int](), MAX_TIME_NS, 0, 0
    with suppress(
        LogError, KeyError, struct.error
    ):  # a header without its fields ends the block as a cut does
        for head, start, end in ros1.records(data):
            if head[b"op"][0] == ros1.CONNECTION:
                _learn(log, head, data[start:end])
            elif head[b"op"][0] == ros1.MESSAGE:
                (number,) = struct.unpack("<I", head[b"conn"])
                log_ns = ros1.time_ns(head[b"time"])
                counts[number] += 1
                seen.bytes[number] += end - start
                start_ns, end_ns = min(start_ns, log_ns), max(end_ns, log_ns)
            used = end
    if not counts:
        return used
    seen.counts += counts
    last = log.blocks[-1] if log.blocks else None
    joins = last is not None and kind == last.kind == "records" and last.offset + last.length == at
    if last and joins and last.length < WINDOW_BYTES:
        log.blocks.pop()
        at, length = last.offset, last.length + length
        start_ns, end_ns = min(start_ns, last.start_ns), max(end_ns, last.end_ns)
        counts.update(last.channels or ())
    size = length if kind == "records" else len(data)
    kind = "cut" if kind == "chunk" and used != len(data) else kind
    channels = log.same_channels(frozenset(counts))
    log.blocks.append(Block(start_ns, end_ns, at, length, size, channels, kind))
    return used


def _resync(log: Ros1Log, start: int, at: int, error: Exception) -> int:
    """Where to go on after a bad record: the next chunk, else the end.

    A record before it that holds no messages starts at `start`: when its length is wrong, it swallowed a chunk.
    """
    code = error.code if isinstance(error, LogError) else "bad_record"
    found = _next_chunk(log, start + 1)
    following = log.size if found is None else found
    begin = start if following < at else at
    log.damage.note(code, f"{following - begin} bytes at byte {begin} are lost", following - begin)
    return following


def _next_chunk(log: Ros1Log, at: int) -> int | None:
    """The next place where a whole chunk header stands."""
    while at < log.size:
        window = log.bytes_at(at, WINDOW_BYTES + _MAX_HEAD)
        position = window.find(_CHUNK_FIELD)
        while 0 <= position < WINDOW_BYTES:
            begin = _header_start(log, at, window, position)
            if begin is not None:
                return begin
            position = window.find(_CHUNK_FIELD, position + 1)
        at += WINDOW_BYTES
    return None


def _header_start(log: Ros1Log, at: int, window: bytes, position: int) -> int | None:
    """The record that the op field at `position` belongs to: headers are short, so all starts are tried."""
    for back in range(8, _MAX_HEAD):
        begin = position - back
        if begin < 0:
            return None
        (length,) = struct.unpack_from("<I", window, begin)
        if not back <= length + 4 <= _MAX_HEAD:
            continue
        try:
            head, start, size = log.head_at(at + begin)
            if head[b"op"][0] == ros1.CHUNK and b"compression" in head and start + size <= log.size:
                return at + begin
        except (LogError, struct.error):
            continue
    return None
