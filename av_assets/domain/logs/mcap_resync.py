"""Where an MCAP file makes sense again after bytes that do not.

Belongs here: recognising a record by nothing but its bytes, and how much a cut chunk lost. Does not belong here:
the scan that asks (`mcap_scan`).
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from av_assets.domain.logs import mcap_log as mcap
from av_assets.domain.logs.compression import CODECS

if TYPE_CHECKING:
    from av_assets.domain.logs.mcap_log import McapLog

WINDOW_BYTES = 4 << 20
MAX_JUMP_NS = 3_600_000_000_000
_CANDIDATE = re.compile(rb"[\x05\x06][\s\S]{4}\0\0\0\0")


def next_record(log: McapLog, at: int) -> int | None:
    """Where the next message or chunk stands that fits all that is known; None without one."""
    while at + 9 < log.size:
        window = log.bytes_at(at, WINDOW_BYTES + 64)
        position = 0
        while (match := _CANDIDATE.search(window, position)) and match.start() < WINDOW_BYTES:
            if _plausible(log, at + match.start(), window[match.start() : match.start() + 64]):
                return at + match.start()
            position = match.start() + 1
        at += WINDOW_BYTES
    return None


def _plausible(log: McapLog, at: int, head: bytes) -> bool:
    try:
        opcode, length = struct.unpack_from("<BQ", head)
        if at + 9 + length > log.size:
            return False
        if opcode == mcap.MESSAGE:
            # Only files without chunks: inside of a broken chunk nothing could prove a message.
            runs = [block for block in log.blocks[-1:] if block.kind == "records"]
            channel, _, log_ns = struct.unpack_from("<HIQ", head, 9)
            near = bool(runs) and abs(log_ns - runs[0].end_ns) < MAX_JUMP_NS
            return near and channel in log.channels and length >= mcap.MESSAGE_HEAD_BYTES
        (text,) = struct.unpack_from("<I", head, 37)
        codec = head[41 : 41 + min(text, 8)].decode("ascii")
        (inner,) = struct.unpack_from("<Q", head, 41 + text)
    except (struct.error, UnicodeDecodeError):
        return False
    return codec in CODECS and bool(length == mcap.CHUNK_HEAD_BYTES + text + 8 + inner)


def lost_share(length: int, used: int, data: bytes, body: bytes) -> int:
    """Bytes of a cut chunk that gave no message; for compressed ones by the share that was decoded."""
    (size, _, text) = struct.unpack_from("<QII", body, 16)
    whole = size if text else len(data)
    return length - int(length * min(1.0, used / whole)) if whole else length
