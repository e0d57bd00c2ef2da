"""The sequential scan of an MCAP file that has no usable index: what precedes a cut or a flip is kept.

Belongs here: walking records, counting what is there and what is lost. Does not belong here: finding the next
good record after a bad one (`mcap_resync`), reading by index (`mcap_log`).
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs import mcap_log as mcap
from av_assets.domain.logs.blocks import MAX_CHUNK_BYTES, MAX_TIME_NS, Block
from av_assets.domain.logs.log_bytes import why
from av_assets.domain.logs.magic import MCAP_MAGIC
from av_assets.domain.logs.mcap_records import decode_chunk, decode_prefix
from av_assets.domain.logs.mcap_resync import lost_share, next_record

if TYPE_CHECKING:
    from av_assets.domain.logs.mcap_log import McapLog

RUN_BYTES = 4 << 20  # messages outside chunks are read in runs of this size
MAX_META_BYTES = 64 << 20
_LAST_OPCODE = 0x0F


@dataclass
class _Tally:
    """Counts and time span of one block while it grows."""

    counts: Counter[int] = field(default_factory=Counter)
    start_ns: int = MAX_TIME_NS
    end_ns: int = 0

    def add(self, channel: int, log_ns: int) -> None:
        self.counts[channel] += 1
        self.start_ns = min(self.start_ns, log_ns)
        self.end_ns = max(self.end_ns, log_ns)

    def block(self, offset: int, length: int, size: int, channels: frozenset[int], kind: str) -> Block:
        return Block(self.start_ns, self.end_ns, offset, length, size, channels, kind)


def scan(log: McapLog) -> None:
    """Fill channels, counts and blocks of `log` from its records alone; damage is noted on it."""
    _Scan(log).run()


class _Scan:
    def __init__(self, log: McapLog) -> None:
        self.log = log
        self.at = 8
        self.run_start = 0
        self.run_tally = _Tally()
        self.seen: Counter[int] = Counter()
        self.ended = False
        self.known: dict[tuple[int, int], bytes] = {}
        self.stated: int | None = None  # messages, as the statistics tell

    def run(self) -> None:
        while not self.ended and self.at + 9 <= self.log.size:
            opcode, length = struct.unpack("<BQ", self.log.bytes_at(self.at, 9))
            if not opcode or _LAST_OPCODE < opcode < 0x80 or self.at + 9 + length > self.log.size:
                self._end_run(self.at)
                self._resync(opcode)
            else:
                self._record(opcode, length)
        self._end_run(self.at)
        if not self.ended:
            self._no_footer(self.log.size - self.at)
        self._settle_counts()
        self.log.check_data_section()

    def _record(self, opcode: int, length: int) -> None:
        start, self.at = self.at, self.at + 9 + length
        if opcode == mcap.MESSAGE:
            self._message(start, length)
            return
        self._end_run(start)
        if opcode == mcap.CHUNK:
            self._chunk(start, length)
        elif opcode in (mcap.SCHEMA, mcap.CHANNEL) and length <= MAX_META_BYTES:
            self._learn(opcode, self.log.bytes_at(start + 9, length))
        elif opcode == mcap.STATISTICS and 8 <= length <= MAX_META_BYTES:
            self.stated = int.from_bytes(self.log.bytes_at(start + 9, 8), "little")
        elif opcode == mcap.DATA_END:
            self.log.data_end = start
        elif opcode == mcap.FOOTER:
            self._end(start)

    def _end(self, start: int) -> None:
        """The footer: its checksum over the index, and that nothing but the closing magic follows."""
        self.ended = True
        foot = self.log.bytes_at(start, mcap.FOOTER_BYTES)
        if not mcap.is_footer(foot):
            self.log.damage.note("bad_index", "the footer has an impossible length")
        elif not self.log.summary_is_right(foot, start):
            self.log.damage.note("bad_index", "the index has a wrong checksum")
        behind = self.log.size - self.at - len(MCAP_MAGIC)
        if behind > 0:
            self.log.damage.note("bad_record", f"{behind} bytes stand behind the end of the file", behind)

    def _message(self, start: int, length: int) -> None:
        head = self.log.bytes_at(start + 9, mcap.MESSAGE_HEAD_BYTES)
        if (
            length < mcap.MESSAGE_HEAD_BYTES
            or len(head) < mcap.MESSAGE_HEAD_BYTES
            or length > MAX_CHUNK_BYTES
        ):
            self._end_run(start)
            self.log.damage.note("bad_record", "a message record has an impossible length", 9 + length)
            return
        channel, _, log_ns, _ = struct.unpack("<HIQQ", head)
        if not self.run_start:
            self.run_start = start
        self.run_tally.add(channel, log_ns)
        if self.at - self.run_start >= RUN_BYTES:
            self._end_run(self.at)

    def _end_run(self, end: int) -> None:
        if self.run_start:
            size = end - self.run_start
            channels = self.log.same_channels(frozenset(self.run_tally.counts))
            block = self.run_tally.block(self.run_start, size, size, channels, "records")
            self.log.blocks.append(block)
            self.seen += self.run_tally.counts
        self.run_start, self.run_tally = 0, _Tally()

    def _chunk(self, start: int, length: int, kind: str = "chunk") -> None:
        """One chunk: kept whole or lost whole when its checksum or size is wrong; a cut one up to the cut."""
        try:
            if length > MAX_CHUNK_BYTES:
                raise LogError(f"chunk claims {length} bytes", code="chunk_too_large")
            body = self.log.bytes_at(start + 9, length)
            data = decode_prefix(body) if kind == "cut" else decode_chunk(body)
            tally, used = self._tally(data)
            if used != len(data) and kind != "cut":
                raise LogError("a record reaches over the end of its chunk", code="bad_chunk")
        except (LogError, struct.error) as error:
            code, reason = why(error, "bad_chunk")
            self.log.damage.note(code, f"chunk at byte {start}: {reason}", 9 + length)
            return
        if kind == "cut":
            # Of compressed bytes the share that decoded is the best estimate.
            self.log.damage.note(
                "cut_chunk", f"the chunk at byte {start} is cut", lost_share(length, used, data, body)
            )
        if tally.counts:
            channels = self.log.same_channels(frozenset(tally.counts))
            self.log.blocks.append(tally.block(start, 9 + length, len(data), channels, kind))
            self.seen += tally.counts

    def _tally(self, data: bytes) -> tuple[_Tally, int]:
        """Counts of the records that fit, and how many bytes those take."""
        tally, at = _Tally(), 0
        while at + 9 <= len(data):
            opcode, length = struct.unpack_from("<BQ", data, at)
            if at + 9 + length > len(data) or (opcode == mcap.MESSAGE and length < mcap.MESSAGE_HEAD_BYTES):
                break
            if opcode == mcap.MESSAGE:
                channel, _, log_ns = struct.unpack_from("<HIQ", data, at + 9)
                tally.add(channel, log_ns)
            elif opcode in (mcap.SCHEMA, mcap.CHANNEL):
                self._learn(opcode, data[at + 9 : at + 9 + length])
            at += 9 + length
        return tally, at

    def _learn(self, opcode: int, body: bytes) -> None:
        """The first record of a schema or channel counts: a later one says the same or is damaged."""
        key = opcode, int.from_bytes(body[:2], "little")
        if self.known.setdefault(key, body) is not body:
            if self.known[key] != body:
                self.log.damage.note("bad_record", f"schema or channel {key[1]} is told in two ways")
            return
        try:
            (self.log.add_schema if opcode == mcap.SCHEMA else self.log.add_channel)(body)
        except (LogError, struct.error) as error:
            self.log.damage.note(*why(error, "bad_record"))

    def _resync(self, opcode: int) -> None:
        """Go on at the next record that makes sense; without one, the rest is a cut chunk or lost."""
        found = next_record(self.log, self.at + 1)
        if found is not None:
            lost = found - self.at
            self.log.damage.note("bad_record", f"{lost} bytes at byte {self.at} are no records", lost)
            self.at = found
            return
        if opcode == mcap.CHUNK:
            rest = self.log.size - self.at - 9
            self._chunk(self.at, rest, "cut")
        else:
            self.log.damage.note(
                "cut_record", f"the record at byte {self.at} is cut", self.log.size - self.at
            )
        self._no_footer(0)
        self.ended = True

    def _no_footer(self, bytes_lost: int) -> None:
        self.log.damage.bytes_lost += bytes_lost
        if "no_footer" not in self.log.damage.reasons:
            self.log.damage.note("no_footer", "the file ends without a footer")

    def _settle_counts(self) -> None:
        found = sum(self.seen.values())
        if self.stated not in (None, found):
            reason = f"the statistics say {self.stated} messages, {found} are there"
            self.log.damage.note("count_mismatch", reason)
        for channel, count in sorted(self.seen.items()):
            if channel in self.log.channels:
                self.log.counts[channel] = count
            else:
                self.log.damage.note(
                    "unknown_channel", f"{count} messages of channel {channel} have no topic"
                )
