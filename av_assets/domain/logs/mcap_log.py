"""MCAP files: by their index where it is whole, by a scan of all records where it is not.

Belongs here: opening an MCAP file and reading its blocks. Does not belong here: the scan of damaged files
(`mcap_scan`), merging and decoding of messages.
Format: https://mcap.dev/spec
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.blocks import (
    MAX_CHUNK_BYTES,
    MAX_TIME_NS,
    Block,
    Channel,
    Damage,
    RawMessage,
    sorted_by_time,
)
from av_assets.domain.logs.compression import decompress_prefix
from av_assets.domain.logs.definitions import ros2_name, stamp_offset
from av_assets.domain.logs.formats import MCAP_MAGIC
from av_assets.domain.logs.log_bytes import LogBytes, why
from av_assets.domain.logs.mcap_records import RECORD, blob_at, decode_chunk, decode_prefix, records, text_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS = 0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x0B
CHUNK_HEAD_BYTES = 32  # times, size, checksum and the length of the codec name
MESSAGE_HEAD_BYTES = 22
MAX_SUMMARY_BYTES = 256 << 20
_MESSAGE = struct.Struct("<BQHIQQ")


class McapLog(LogBytes):
    """One MCAP file. Fields as in `LogSource`; `indexed` tells whether the file's own index was used."""

    format = "mcap"

    def __init__(self, path: Path, salvage: bool = False, message_codec: str = "") -> None:
        """Open by the index, or by a scan when there is none, it is broken, or `salvage` asks for it.

        Raises:
            LogError: the file system refused, or it is no MCAP file at all.
        """
        super().__init__(path)
        self._codec = message_codec
        self.schemas: dict[int, tuple[str, str, str]] = {}
        self.channels: dict[int, Channel] = {}
        self.counts: dict[int, int] = {}
        self.blocks: list[Block] = []
        self.damage = Damage(self.size)
        self.indexed = False
        try:
            self._open(salvage)
        except BaseException:
            self.close()
            raise

    def _open(self, salvage: bool) -> None:
        from av_assets.domain.logs.mcap_scan import scan

        if not salvage:
            try:
                self._read_index()
                self.indexed = True
            except (LogError, struct.error, UnicodeDecodeError, OverflowError) as error:
                self.__dict__.update(schemas={}, channels={}, counts={}, blocks=[])
                if why(error, "")[0] != "no_index":  # some recorders write none, and lose nothing by it
                    self.damage.note(*why(error, "bad_index"))
        if not self.indexed:
            scan(self)

    def _read_index(self) -> None:
        foot = self.bytes_at(max(0, self.size - 37), 37)
        if len(foot) != 37 or not foot.endswith(MCAP_MAGIC) or foot[:9] != RECORD.pack(FOOTER, 20):
            raise LogError("the file ends without a footer", code="no_footer")
        summary_start, _, crc = struct.unpack_from("<QQI", foot, 9)
        if not summary_start:
            raise LogError("the file was written without an index", code="no_index")
        length = self.size - 37 - summary_start
        if not summary_start >= 8 or not 0 <= length <= MAX_SUMMARY_BYTES:
            raise LogError("the footer points outside of the file", code="bad_index")
        summary = self.bytes_at(summary_start, length)
        if crc and zlib.crc32(foot[:25], zlib.crc32(summary)) != crc:
            raise LogError("the index has a wrong checksum", code="bad_index")
        statistics = self._read_summary(summary)
        self._check_index(statistics, summary_start)

    def _read_summary(self, summary: bytes) -> bytes:
        statistics = b""
        for opcode, body in records(summary):
            if opcode == SCHEMA:
                self.add_schema(body)
            elif opcode == CHANNEL:
                self.add_channel(body)
            elif opcode == CHUNK_INDEX:
                self.blocks.append(_indexed_block(body))
            elif opcode == STATISTICS:
                statistics = body
        return statistics

    def _check_index(self, statistics: bytes, end: int) -> None:
        """An index is used only if it agrees with itself; whatever else goes through the scan.

        Raises:
            LogError: no_index or bad_index.
        """
        if len(statistics) < 46:
            raise LogError("the index has no statistics", code="no_index")
        messages, _, _, _, _, chunks, _, _, length = struct.unpack_from("<QHIIIIQQI", statistics)
        counts = dict(struct.iter_unpack("<HQ", statistics[46 : 46 + length - length % 10]))
        whole = sum(counts.values()) == messages and counts.keys() <= self.channels.keys()
        if chunks != len(self.blocks) or (messages and not chunks) or not whole:
            code = "no_index" if not self.blocks else "bad_index"
            raise LogError("index and statistics do not agree", code=code)
        if any(b.offset < 8 or b.offset + b.length > end or b.start_ns > b.end_ns for b in self.blocks):
            raise LogError("the index points outside of the data", code="bad_index")
        self.counts = counts

    def add_schema(self, body: bytes) -> None:
        (number,) = struct.unpack_from("<H", body)
        name, at = text_at(body, 2)
        encoding, at = text_at(body, at)
        data, _ = blob_at(body, at)
        self.schemas[number] = (name, encoding, data.decode("utf-8", "replace"))

    def add_channel(self, body: bytes) -> None:
        number, schema = struct.unpack_from("<HH", body)
        topic, at = text_at(body, 4)
        encoding, _ = text_at(body, at)
        name, kind, text = self.schemas.get(schema, ("", "", ""))
        msgtype = ros2_name(name) if kind in ("ros1msg", "ros2msg", "ros2idl", "") else name
        stamp = stamp_offset(msgtype, text, kind, encoding)
        self.channels[number] = Channel(topic, msgtype, encoding or "cdr", text, kind, stamp)

    def read(self, block: Block, wanted: frozenset[int]) -> list[RawMessage]:
        """Messages of one block in time order; a block that does not decode is noted as lost."""
        try:
            tolerant = block.kind == "cut"
            return sorted_by_time(list(self.messages(self.decoded(block), wanted, tolerant)))
        except (LogError, struct.error, UnicodeDecodeError) as error:
            self.damage.note(*why(error, "bad_chunk"), block.length)
            return []

    def decoded(self, block: Block) -> bytes:
        """The records of one block, its checksum verified where it has one.

        Raises:
            LogError: bad_chunk, bad_crc, chunk_too_large or unknown_compression.
        """
        raw = self.bytes_at(block.offset, block.length)
        if block.kind == "records":
            return raw
        if len(raw) < 9 + CHUNK_HEAD_BYTES or raw[0] != CHUNK:
            raise LogError("the index points to no chunk", code="bad_chunk")
        return decode_prefix(raw[9:]) if block.kind == "cut" else decode_chunk(raw[9:])

    def messages(self, data: bytes, wanted: frozenset[int], tolerant: bool = False) -> Iterator[RawMessage]:
        """Messages of the wanted channels among records; a tolerant reading ends where a record does not fit.

        Raises:
            LogError: bad_chunk when a record does not fit.
        """
        at, end = 0, len(data)
        channels = self.channels
        unpack, head = _MESSAGE.unpack_from, _MESSAGE.size
        while at + 9 <= end:
            if data[at] != MESSAGE or at + head > end:
                at += 9 + RECORD.unpack_from(data, at)[1]
                continue
            _, length, number, _, log_ns, _ = unpack(data, at)
            following = at + 9 + length
            if following > end or length < MESSAGE_HEAD_BYTES:
                break
            if log_ns > MAX_TIME_NS:
                self.damage.note("bad_stamp", "a message has an impossible log time", 9 + length)
            elif number in wanted:
                topic, msgtype, serialization, _, _, stamp = channels[number]
                payload = data[at + head : following]
                if self._codec:
                    payload = decompress_prefix(payload, self._codec, MAX_CHUNK_BYTES)
                yield RawMessage(topic, msgtype, log_ns, payload, serialization, stamp)
            at = following
        if at != end and not tolerant:
            raise LogError("a record reaches over the end of its chunk", code="bad_chunk")


def _indexed_block(body: bytes) -> Block:
    start_ns, end_ns, offset, length, offsets = struct.unpack_from("<QQQQI", body)
    channels = frozenset(
        number for number, _ in struct.iter_unpack("<HQ", body[36 : 36 + offsets - offsets % 10])
    )
    _, at = text_at(body, 36 + offsets + 8)
    _, size = struct.unpack_from("<QQ", body, at)
    # Without message indexes the chunk may hold any channel: reading nothing would lose it silently.
    return Block(start_ns, end_ns, offset, length, size, channels or None)
