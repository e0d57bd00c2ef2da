"""The pieces of MCAP records: strings, record runs and the content of chunks.

Belongs here: parsing bytes. Does not belong here: files (`mcap_log`), damage (`mcap_scan`).
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.compression import decompress, decompress_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = struct.Struct("<BQ")  # opcode and length stand before every record


class ChunkHead(NamedTuple):
    """What stands before the records of a chunk: their size and checksum, and where their bytes are in the body."""

    size: int
    crc: int
    codec: str
    start: int
    length: int

    def decode(self, data: bytes) -> bytes:
        """The records out of the `length` bytes that stand at `start`.

        Raises:
            LogError: bad_chunk, bad_crc, chunk_too_large or unknown_compression.
        """
        found = decompress(data, self.codec, self.size)
        if self.crc and zlib.crc32(found) != self.crc:
            raise LogError("the chunk has a wrong checksum", code="bad_crc")
        return found


def chunk_head(body: bytes, size: int) -> ChunkHead:
    """The head of a chunk record of `size` bytes, of which `body` is the beginning.

    Raises:
        LogError: bad_chunk, when the lengths do not add up; bad_index, when the head ends early.
    """
    decoded, crc = struct.unpack_from("<QI", body, 16)
    codec, at = text_at(body, 28)
    length = struct.unpack_from("<Q", body, at)[0] if at + 8 <= len(body) else -1
    if length != size - at - 8:
        raise LogError("the chunk is cut", code="bad_chunk")
    return ChunkHead(decoded, crc, codec, at + 8, length)


def decode_chunk(body: bytes) -> bytes:
    """The records inside a chunk record.

    Raises:
        LogError: as `chunk_head` and `ChunkHead.decode`.
    """
    head = chunk_head(body, len(body))
    return head.decode(body[head.start :])


def decode_prefix(body: bytes) -> bytes:
    """What the beginning of a cut chunk still gives, without a checksum to prove it.

    Raises:
        LogError: chunk_too_large or unknown_compression.
    """
    (size,) = struct.unpack_from("<Q", body, 16)
    codec, at = text_at(body, 28)
    return decompress_prefix(body[at + 8 :], codec, size)


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and body of each record; raises LogError bad_index when the last one is cut."""
    at = 0
    while at + 9 <= len(data):
        opcode, length = RECORD.unpack_from(data, at)
        if at + 9 + length > len(data):
            raise LogError("a record is cut", code="bad_index")
        yield opcode, data[at + 9 : at + 9 + length]
        at += 9 + length


def text_at(body: bytes, at: int) -> tuple[str, int]:
    data, at = blob_at(body, at)
    return data.decode("utf-8", "replace"), at


def blob_at(body: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<I", body, at)
    if at + 4 + length > len(body):
        raise LogError("a string reaches over the end of its record", code="bad_index")
    return body[at + 4 : at + 4 + length], at + 4 + length
