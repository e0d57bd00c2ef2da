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
from av_assets.domain.logs.files.blocks import MAX_TIME_NS, Block, Channel, RawMessage
from av_assets.domain.logs.files.compression import ZSTD_MAGIC, MessageCodec
from av_assets.domain.logs.files.log_bytes import IndexedLog
from av_assets.domain.logs.files.magic import MCAP_MAGIC
from av_assets.domain.logs.files.mcap_records import (
    RECORD,
    blob_at,
    chunk_head,
    decode_prefix,
    records,
    text_at,
)
from av_assets.domain.logs.messages.definitions import ros2_name, schema_text, stamp_offset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS, DATA_END = 2, 3, 4, 5, 6, 8, 0x0B, 0x0F
CHUNK_HEAD_BYTES = 32  # times, size, checksum and the length of the codec name
MAX_HEAD_BYTES = 256  # with the codec name, of which a known one is short
MESSAGE_HEAD_BYTES = 22
FOOTER_BYTES = 29  # the whole record
MAX_SUMMARY_BYTES = 256 << 20
_STEP_BYTES = 1 << 20
_MESSAGE = struct.Struct("<BQHIQQ")


class McapLog(IndexedLog):
    """One MCAP file. Fields as in `LogSource`."""

    format = "mcap"

    harmless = frozenset({"no_index"})  # some recorders write none, and lose nothing by it

    def __init__(self, path: Path, salvage: bool = False, message_codec: str = "") -> None:
        """As `IndexedLog`; `message_codec` where each message is compressed by itself.

        Raises:
            LogError: unknown_compression, or the file system refused.
        """
        self._plain = MessageCodec(message_codec)
        super().__init__(path, salvage)

    def forget(self) -> None:
        super().forget()
        self.schemas: dict[int, tuple[str, str, str]] = {}
        self.data_end = 0  # where the record stands that ends the data section; 0 as long as it is not known
        self._behind: dict[int, int] = {}  # where a chunk starts -> where the message indexes behind it end

    def _scan(self) -> None:
        from av_assets.domain.logs.files.mcap_scan import scan

        scan(self)

    def _read_index(self) -> None:
        at = max(0, self.size - FOOTER_BYTES - len(MCAP_MAGIC))
        foot = self.bytes_at(at, FOOTER_BYTES)
        if not is_footer(foot) or self.bytes_at(at + FOOTER_BYTES, 8) != MCAP_MAGIC:
            raise LogError("the file ends without a footer", code="no_footer")
        (summary_start,) = struct.unpack_from("<Q", foot, 9)
        if not summary_start:
            raise LogError("the file was written without an index", code="no_index")
        if not self.summary_is_right(foot, at):
            raise LogError("the index has a wrong checksum or place", code="bad_index")
        summary = self.bytes_at(summary_start, at - summary_start)
        statistics = self._read_summary(summary)
        self._check_index(statistics, summary_start)
        self._check_between_chunks(summary_start)

    def summary_is_right(self, foot: bytes, at: int) -> bool:
        """Whether the footer at byte `at` points to a summary that has the checksum it states, if it states one."""
        summary_start, _, crc = struct.unpack_from("<QQI", foot, 9)
        if not summary_start:
            return True
        if not 8 <= summary_start <= at or at - summary_start > MAX_SUMMARY_BYTES:
            return False
        summary = self.bytes_at(summary_start, at - summary_start)
        return not crc or zlib.crc32(foot[:-4], zlib.crc32(summary)) == crc

    def _read_summary(self, summary: bytes) -> bytes:
        statistics = b""
        for opcode, body in records(summary):
            if opcode == SCHEMA:
                self.add_schema(body)
            elif opcode == CHANNEL:
                self.add_channel(body)
            elif opcode == CHUNK_INDEX:
                self._add_block(body)
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

    def _add_block(self, body: bytes) -> None:
        start_ns, end_ns, offset, length, offsets = struct.unpack_from("<QQQQI", body)
        numbers = struct.iter_unpack("<HQ", body[36 : 36 + offsets - offsets % 10])
        channels = self.same_channels(frozenset(number for number, _ in numbers))
        (index_length,) = struct.unpack_from("<Q", body, 36 + offsets)
        _, at = text_at(body, 36 + offsets + 8)
        _, size = struct.unpack_from("<QQ", body, at)
        self._behind[offset] = offset + length + index_length
        # Without message indexes the chunk may hold any channel: reading nothing would lose it silently.
        self.blocks.append(Block(start_ns, end_ns, offset, length, size, channels or None))

    def _check_between_chunks(self, end: int) -> None:
        """Look at the records between the chunks that the index names: none may hold messages.

        Raises:
            LogError: no_index when the index does not cover all messages, bad_index when records do not join.
        """
        at = len(MCAP_MAGIC)
        for start in [*sorted(self._behind), end]:
            while at < start:
                opcode, length = RECORD.unpack(self.bytes_at(at, RECORD.size).ljust(RECORD.size, b"\0"))
                if opcode in (MESSAGE, CHUNK):
                    raise LogError("messages stand outside of what the index names", code="no_index")
                self.data_end = at if opcode == DATA_END else self.data_end
                at += RECORD.size + length
            if at != start:
                raise LogError("the records between the chunks do not join", code="bad_index")
            at = self._behind.get(start, at)

    def check_data_section(self) -> None:
        """Verify the checksum over the whole data section, where its writer stored one; damage is noted.

        It covers what chunk checksums do not: messages outside of chunks, attachments, metadata.
        """
        record = self.bytes_at(self.data_end, RECORD.size + 4) if self.data_end else b""
        stored = int.from_bytes(record[RECORD.size :], "little") if len(record) == RECORD.size + 4 else 0
        if not stored:
            return
        found = 0
        for at in range(0, self.data_end, _STEP_BYTES):
            found = zlib.crc32(self.bytes_at(at, min(_STEP_BYTES, self.data_end - at)), found)
        if found != stored:
            self.damage.note("bad_data_crc", "the data section has a wrong checksum")

    def add_schema(self, body: bytes) -> None:
        (number,) = struct.unpack_from("<H", body)
        name, at = text_at(body, 2)
        encoding, at = text_at(body, at)
        data, _ = blob_at(body, at)
        self.schemas[number] = (name, encoding, schema_text(encoding, data))

    def add_channel(self, body: bytes) -> None:
        number, schema = struct.unpack_from("<HH", body)
        topic, at = text_at(body, 4)
        encoding, _ = text_at(body, at)
        name, kind, text = self.schemas.get(schema, ("", "", ""))
        msgtype = ros2_name(name) if kind in ("ros1msg", "ros2msg", "ros2idl", "") else name
        stamp = stamp_offset(msgtype, text, kind, encoding)
        self.channels[number] = Channel(topic, msgtype, encoding or "cdr", text, kind, stamp)

    def decoded(self, block: Block) -> bytes:
        """The records of one block, its checksum verified where it has one.

        Raises:
            LogError: bad_chunk, bad_crc, chunk_too_large or unknown_compression.
        """
        if block.kind == "records":
            return self.bytes_at(block.offset, block.length)
        # The head by itself: a slice of the whole record would copy the chunk.
        whole = block.kind != "cut"
        raw = self.bytes_at(block.offset, min(block.length, MAX_HEAD_BYTES) if whole else block.length)
        if len(raw) < 9 + CHUNK_HEAD_BYTES or raw[0] != CHUNK:
            raise LogError("the index points to no chunk", code="bad_chunk")
        if not whole:
            return decode_prefix(raw[9:])
        head = chunk_head(raw[9:], block.length - 9)
        return head.decode(self.bytes_at(block.offset + 9 + head.start, head.length))

    def messages(self, data: bytes, wanted: frozenset[int], tolerant: bool = False) -> Iterator[RawMessage]:
        """Messages of the wanted channels among records; a tolerant reading ends where a record does not fit.

        Raises:
            LogError: bad_chunk when a record does not fit.
        """
        at, end = 0, len(data)
        channels, squeezed = self.channels, bool(self._plain.codec)
        unpack, head, first = _MESSAGE.unpack_from, _MESSAGE.size, ZSTD_MAGIC[0]
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
                if squeezed or (length > MESSAGE_HEAD_BYTES and data[at + head] == first):
                    try:
                        payload = self._plain.plain(payload, serialization)
                    except LogError as error:
                        self.damage.note(error.code, f"{topic}: {error.reason}", 9 + length)
                        at = following
                        continue
                yield RawMessage(topic, msgtype, log_ns, payload, serialization, stamp)
            at = following
        if at != end and not tolerant:
            raise LogError("a record reaches over the end of its chunk", code="bad_chunk")


def is_footer(foot: bytes) -> bool:
    return len(foot) == FOOTER_BYTES and foot[:9] == RECORD.pack(FOOTER, FOOTER_BYTES - 9)
