"""ROS 1 bags (format 2.0): by their index where it is whole, by a scan of all records where it is not.

Belongs here: opening a bag and reading its chunks. Does not belong here: the scan of bags without an index
(`ros1_scan`).
Format: http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import Block, Channel, RawMessage
from av_assets.domain.logs.files.compression import decompress, decompress_prefix
from av_assets.domain.logs.files.log_bytes import IndexedLog
from av_assets.domain.logs.files.magic import ROS1_MAGIC
from av_assets.domain.logs.messages.definitions import ros2_name, stamp_offset

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGE, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
MAX_HEADER_BYTES = 1 << 20
MAX_INDEX_BYTES = 512 << 20
_U32 = struct.Struct("<I")

Header = dict[bytes, bytes]


class Ros1Log(IndexedLog):
    """One bag. Fields as in `LogSource`."""

    format = "ros1"

    def forget(self) -> None:
        super().forget()
        self._connections: dict[int, tuple[bytes, bytes]] = {}

    def _scan(self) -> None:
        from av_assets.domain.logs.files.ros1_scan import scan

        scan(self)

    def head_at(self, offset: int) -> tuple[Header, int, int]:
        """Header of the record at `offset`, where its data starts, and how long the data is.

        Raises:
            LogError: bad_record when no header with an op stands there.
        """
        (length,) = _U32.unpack(self.bytes_at(offset, 4).ljust(4, b"\0"))
        raw = self.bytes_at(offset + 4, min(length, MAX_HEADER_BYTES) + 4)
        if len(raw) != length + 4 or not length:
            raise LogError(f"no record at byte {offset}", code="bad_record")
        header = parse_header(raw[:length])
        if len(header.get(b"op", b"")) != 1:
            raise LogError(f"no record at byte {offset}", code="bad_record")
        return header, offset + 4 + length + 4, _U32.unpack_from(raw, length)[0]

    def _read_index(self) -> None:
        header, _, _ = self.head_at(len(ROS1_MAGIC))
        if header[b"op"][0] != BAG_HEADER:
            raise LogError("the bag starts without a header", code="bad_record")
        (position,) = struct.unpack("<Q", header[b"index_pos"])
        connections, chunks = (_U32.unpack(header[name])[0] for name in (b"conn_count", b"chunk_count"))
        if not position:
            raise LogError("the bag was not closed: it has no index", code="no_index")
        if not 0 < position <= self.size or self.size - position > MAX_INDEX_BYTES:
            raise LogError("the bag is cut: its index lies outside", code="cut_record")
        index = self.bytes_at(position, self.size - position)
        for head, start, end in records(index):
            self._index_record(head, index[start:end], position)
        if len(self.channels) != connections or len(self.blocks) != chunks:
            raise LogError("the index is cut", code="bad_index")

    def _index_record(self, head: Header, data: bytes, end: int) -> None:
        kind = head[b"op"][0]
        if kind == CONNECTION:
            self.add_connection(head, data)
        elif kind == CHUNK_INFO:
            (offset,) = struct.unpack("<Q", head[b"chunk_pos"])
            counts = dict(struct.iter_unpack("<II", data[: len(data) - len(data) % 8]))
            _, start, length = self.head_at(offset)
            if not counts.keys() <= self.channels.keys() or start + length > end:
                raise LogError("the index does not agree with the bag", code="bad_index")
            for number, count in counts.items():
                self.counts[number] = self.counts.get(number, 0) + count
            size = start + length - offset
            start_ns, end_ns = time_ns(head[b"start_time"]), time_ns(head[b"end_time"])
            self.blocks.append(
                Block(start_ns, end_ns, offset, size, length, self.same_channels(frozenset(counts)))
            )

    def add_connection(self, head: Header, data: bytes) -> None:
        """The first whole record of a connection counts: a later one says the same or is damaged.

        Raises:
            LogError, KeyError, struct.error: the record is damaged; a later copy may still be taken.
        """
        (number,) = _U32.unpack(head[b"conn"])
        told = head[b"topic"], data
        if (first := self._connections.get(number)) is not None:
            if first != told:
                self.damage.note("bad_record", f"connection {number} is told in two ways")
            return
        fields = parse_header(data)
        msgtype = ros2_name(fields[b"type"].decode("utf-8", "replace"))
        text = fields.get(b"message_definition", b"").decode("utf-8", "replace")
        topic = "/".join(part for part in head[b"topic"].decode("utf-8", "replace").split("/") if part)
        stamp = stamp_offset(msgtype, text, "ros1msg", "ros1")
        slash = "/" if head[b"topic"].startswith(b"/") else ""
        self.channels[number] = Channel(slash + topic, msgtype, "ros1", text, "ros1msg", stamp)
        self._connections[number] = told

    def decoded(self, block: Block) -> bytes:
        """The records of one block.

        Raises:
            LogError: bad_record, bad_chunk, chunk_too_large or unknown_compression.
        """
        if block.kind == "records":
            return self.bytes_at(block.offset, block.length)
        head, start, length = self.head_at(block.offset)
        if head[b"op"][0] != CHUNK:
            raise LogError("the index points to no chunk", code="bad_chunk")
        codec = head[b"compression"].decode("ascii", "replace")
        if block.kind == "cut":
            return decompress_prefix(self.bytes_at(start, self.size - start), codec, block.size)
        return decompress(self.bytes_at(start, length), codec, _U32.unpack(head[b"size"])[0])

    def messages(self, data: bytes, wanted: frozenset[int], tolerant: bool = False) -> Iterator[RawMessage]:
        """Messages of the wanted connections among records; the tolerant end where a record does not fit.

        Raises:
            LogError: bad_chunk when a record does not fit.
        """
        channels = self.channels
        for number, log_ns, start, end in message_spans(data, strict=not tolerant):
            if number in wanted:
                channel = channels[number]
                yield RawMessage(
                    channel.topic, channel.msgtype, log_ns, data[start:end], "ros1", channel.stamp_offset
                )


def parse_header(data: bytes) -> Header:
    """`name=value` fields; raises LogError bad_record when one does not fit."""
    fields: Header = {}
    at = 0
    while at + 4 <= len(data):
        (length,) = _U32.unpack_from(data, at)
        name, equals, value = data[at + 4 : at + 4 + length].partition(b"=")
        if not equals or at + 4 + length > len(data):
            raise LogError("a record header is damaged", code="bad_record")
        fields[name] = value
        at += 4 + length
    if at != len(data):
        raise LogError("a record header is damaged", code="bad_record")
    return fields


def records(data: bytes) -> Iterator[tuple[Header, int, int]]:
    """Header, start and end of the data of each record, up to the first that does not fit."""
    at = 0
    while at < len(data):
        try:
            (length,) = _U32.unpack_from(data, at)
            (size,) = _U32.unpack_from(data, at + 4 + length)
            head = parse_header(data[at + 4 : at + 4 + length])
        except (struct.error, LogError):
            return
        start = at + 8 + length
        if start + size > len(data) or len(head.get(b"op", b"")) != 1:
            return
        yield head, start, start + size
        at = start + size


def message_spans(data: bytes, strict: bool) -> Iterator[tuple[int, int, int, int]]:
    """Connection, log time, start and end of each message's data.

    Recorders write the same three fields in the same order, so the place of the fields is learned once and
    the slow parse runs only where it changes.

    Raises:
        LogError: bad_chunk where a record does not fit, when strict.
    """
    at, shape, conn_at, time_at = 0, b"", 0, 0
    end = len(data)
    while at < end:
        try:
            (length,) = _U32.unpack_from(data, at)
            (size,) = _U32.unpack_from(data, at + 4 + length)
            start = at + 8 + length
            head = data[at + 4 : at + 4 + length]
            if start + size > end:
                raise LogError("a message reaches over the end of its chunk", code="bad_chunk")
            if not shape or _shape(head, conn_at, time_at) != shape:
                fields = parse_header(head)
                if fields[b"op"][0] != MESSAGE:
                    at = start + size
                    continue
                conn_at, time_at = head.index(b"conn=") + 5, head.index(b"time=") + 5
                _U32.unpack(fields[b"conn"])
                shape = _shape(head, conn_at, time_at)
            seconds, nanoseconds = struct.unpack_from("<II", head, time_at)
            number = _U32.unpack_from(head, conn_at)[0]
        except (struct.error, LogError, KeyError, IndexError, ValueError) as error:
            if strict:
                raise LogError("a record is damaged", code="bad_chunk") from error
            return
        yield number, seconds * 1_000_000_000 + nanoseconds, start, start + size
        at = start + size


def _shape(head: bytes, conn_at: int, time_at: int) -> bytes:
    """A message header without the values of connection and time."""
    first, second = (conn_at, 4), (time_at, 8)
    if time_at < conn_at:
        first, second = second, first
    return head[: first[0]] + head[first[0] + first[1] : second[0]] + head[second[0] + second[1] :]


def time_ns(value: bytes) -> int:
    seconds, nanoseconds = struct.unpack("<II", value)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
