"""The sequential scan of an MCAP file that has no usable index: what precedes a cut or a flip is kept.

Belongs here: walking records, and what is lost. Does not belong here: finding the next good record after a bad one
(`mcap_resync`), counting what is there (`mcap_kept`), reading by index (`mcap_log`).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files import mcap_log as mcap
from av_assets.domain.logs.files.blocks import MAX_CHUNK_BYTES
from av_assets.domain.logs.files.log_bytes import why
from av_assets.domain.logs.files.magic import MCAP_MAGIC
from av_assets.domain.logs.files.mcap_kept import Kept, Pending, Tally
from av_assets.domain.logs.files.mcap_records import RECORD, decode_chunk, decode_prefix
from av_assets.domain.logs.files.mcap_resync import (
    FIRST_PRIVATE,
    PLAIN,
    chunk_codec,
    ends_at,
    has_checked_chunks,
    header_at,
    is_exact,
    joins,
    lost_share,
    next_record,
)

if TYPE_CHECKING:
    from av_assets.domain.logs.files.mcap_log import McapLog

MAX_META_BYTES = 64 << 20
_LAST_OPCODE = 0x0F
_WITHOUT_RECORDS = (0x07, mcap.CHUNK_INDEX, 0x0A, 0x0C, 0x0D, 0x0E)  # indexes and metadata
_HEAD = struct.Struct("<HIQQ")


def scan(log: McapLog) -> None:
    """Fill channels, counts and blocks of `log` from its records alone; damage is noted on it."""
    _Scan(log).run()


class _Scan:
    def __init__(self, log: McapLog) -> None:
        self.log = log
        self.at = len(MCAP_MAGIC)
        self.limit = log.size  # of a chunk without checksum that is read record by record: its end
        self.kept = Kept(log)
        self.side_at = 0  # where the record before this one stands, if none can be inside of it
        self.ended = False
        self.bare = (
            True  # whether messages may stand here: not where a chunk with a checksum was, which is broken
        )
        self.known: dict[tuple[int, int], bytes] = {}
        self.stated: int | None = None  # messages, as the statistics tell
        self.all_checked: bool | None = None  # whether chunks carry checksums; None: nobody had to know yet

    def run(self) -> None:
        while not self.ended:
            found = header_at(self.log, self.at, self.limit)
            if found is not None and self._is_sound(*found):
                self._record(*found)
            elif self.at + RECORD.size <= self.limit:
                self._resync()
            elif not self._leave_chunk():
                break
        self.kept.end_run(self.at)
        if not self.ended:
            self._no_footer(self.log.size - self.at)
        self.kept.settle(self.stated)
        self.log.check_data_section()

    def _is_sound(self, opcode: int, end: int) -> bool:
        """Whether the record here is what it says; what its fields do not prove, the record behind it must."""
        length = end - self.at - RECORD.size
        if opcode == mcap.MESSAGE:
            return self.bare and mcap.MESSAGE_HEAD_BYTES <= length <= MAX_CHUNK_BYTES
        if opcode > _LAST_OPCODE:
            return opcode >= FIRST_PRIVATE and joins(self.log, end, self.limit)
        if is_exact(self.log, self.at, opcode, end):
            return True
        if opcode == mcap.FOOTER:
            return end + len(MCAP_MAGIC) == self.log.size
        return opcode in (mcap.SCHEMA, mcap.CHANNEL, mcap.CHUNK) and joins(self.log, end, self.limit)

    def _record(self, opcode: int, end: int) -> None:
        start, self.at = self.at, end
        length = end - start - RECORD.size
        self.side_at = start if opcode in _WITHOUT_RECORDS else 0
        if opcode == mcap.MESSAGE:
            channel, _, log_ns, _ = _HEAD.unpack(self.log.bytes_at(start + RECORD.size, _HEAD.size))
            self.kept.message(Pending(start, length, channel, log_ns))
            return
        self.kept.end_run(start)
        if opcode == mcap.CHUNK:
            self.limit, self.bare = self.log.size, True
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

    def _chunk(self, start: int, length: int, kind: str = "chunk") -> None:
        """One chunk: kept whole or lost whole when its checksum or size is wrong; a cut one up to the cut.

        One without checksum and compression is nothing but records: where one is bad, the others are kept.
        """
        try:
            if length > MAX_CHUNK_BYTES:
                raise LogError(f"chunk claims {length} bytes", code="chunk_too_large")
            body = self.log.bytes_at(start + 9, length)
            data = decode_prefix(body) if kind == "cut" else decode_chunk(body)
            head = chunk_codec(self.log, start)
            if kind != "cut" and head and head[0] in PLAIN and len(data) != start + 9 + length - head[2]:
                raise LogError("the chunk tells two sizes", code="bad_chunk")
            tally, used = self._tally(data, proven=bool(head and head[1]))
            if used != len(data) and kind != "cut":
                raise LogError("a record reaches over the end of its chunk", code="bad_chunk")
        except (LogError, struct.error) as error:
            code, reason = why(error, "bad_chunk")
            opened = code == "bad_chunk" and self._open_chunk(start, start + RECORD.size + length)
            self.log.damage.note(code, f"chunk at byte {start}: {reason}", 0 if opened else 9 + length)
            return
        if kind == "cut":
            # Of compressed bytes the share that decoded is the best estimate.
            self.log.damage.note(
                "cut_chunk", f"the chunk at byte {start} is cut", lost_share(length, used, data, body)
            )
        self.kept.block(tally, start, 9 + length, len(data), kind)

    def _open_chunk(self, start: int, end: int) -> bool:
        """Go on inside of a chunk, record by record, if nothing but its structure could prove it anyway."""
        head = chunk_codec(self.log, start)
        end = min(end, self.log.size)
        if head is None or head[0] not in PLAIN or head[1] or head[2] > end or self._has_checks():
            return False
        self.at, self.limit = head[2], end
        return True

    def _leave_chunk(self) -> bool:
        """Go on behind a chunk that was read record by record; False where the file ends."""
        if self.limit == self.log.size:
            return False
        self.kept.end_run(self.at)
        if self.at < self.limit:
            self.log.damage.note("bad_record", "a chunk ends within a record", self.limit - self.at)
        self.at, self.limit = self.limit, self.log.size
        return True

    def _tally(self, data: bytes, proven: bool) -> tuple[Tally, int]:
        """Counts of the records that fit, and how many bytes those take."""
        tally, at = Tally(), 0
        while at + 9 <= len(data):
            opcode, length = RECORD.unpack_from(data, at)
            if at + 9 + length > len(data) or (opcode == mcap.MESSAGE and length < mcap.MESSAGE_HEAD_BYTES):
                break
            if opcode == mcap.MESSAGE:
                channel, _, log_ns = struct.unpack_from("<HIQ", data, at + 9)
                tally.add(channel, log_ns, 9 + length)
            elif opcode in (mcap.SCHEMA, mcap.CHANNEL):
                self._learn(opcode, data[at + 9 : at + 9 + length])
            elif opcode < FIRST_PRIVATE and not proven:
                break  # no writer puts such a record into a chunk
            at += 9 + length
        return tally, at

    def _learn(self, opcode: int, body: bytes) -> None:
        """The first whole record of a schema or channel counts: a later one says the same or is damaged."""
        key = opcode, int.from_bytes(body[:2], "little")
        if key in self.known:
            if self.known[key] != body:
                self.log.damage.note("bad_record", f"schema or channel {key[1]} is told in two ways")
            return
        try:
            (self.log.add_schema if opcode == mcap.SCHEMA else self.log.add_channel)(body)
            self.known[key] = body
        except (LogError, struct.error) as error:
            self.log.damage.note(*why(error, "bad_record"), RECORD.size + len(body))

    def _resync(self) -> None:
        """Go on at the next record that makes sense; without one, the rest is a cut chunk or lost."""
        if self._drop_message() or self._drop_side():
            return
        self.kept.end_run(self.at)
        opcode, length = RECORD.unpack(self.log.bytes_at(self.at, RECORD.size))
        if opcode == mcap.CHUNK and self.limit == self.log.size:
            start = self.at
            if self._open_chunk(start, start + RECORD.size + length):
                self.log.damage.note("cut_chunk", f"the chunk at byte {start} is cut or has a wrong length")
                return
        found = self._search(self.at + 1)
        if found is None and self.limit < self.log.size:
            found = self.limit
        if found is not None:
            lost = found - self.at
            self.log.damage.note("bad_record", f"{lost} bytes at byte {self.at} are no records", lost)
            self.at = found
            return
        if opcode == mcap.CHUNK:
            self._chunk(self.at, self.log.size - self.at - RECORD.size, "cut")
        else:
            self.log.damage.note(
                "cut_record", f"the record at byte {self.at} is cut", self.log.size - self.at
            )
        self._no_footer(0)
        self.ended = True

    def _drop_message(self) -> bool:
        """Whether the last message was given up, because its length is wrong.

        It is where it swallowed a record, or where nothing that stands behind it looks like one.
        """
        last, self.kept.pending = self.kept.pending, None
        if last is None:
            return False
        found = self._search(last.start + 1, last.log_ns)
        if found is None or found >= self.at:
            if ends_at(self.log, self.at, self.limit, last.log_ns):
                self.kept.pending = last
                return False
            found = self.at
        self._go_back(last.start, found)
        return True

    def _drop_side(self) -> bool:
        """Whether an index or metadata before this place swallowed records, which it cannot hold."""
        start, self.side_at = self.side_at, 0
        found = self._search(start + 1) if start else None
        if found is None or found >= self.at:
            return False
        self._go_back(start, found)
        return True

    def _go_back(self, start: int, found: int) -> None:
        self.kept.end_run(start)
        lost = found - start
        self.log.damage.note("bad_record", f"the record at byte {start} has a wrong length", lost)
        self.at = found

    def _has_checks(self) -> bool:
        """Whether chunks of this file carry checksums: then one without is damaged, and not to be trusted."""
        if self.all_checked is None:
            self.all_checked = has_checked_chunks(self.log)
        return self.all_checked

    def _search(self, at: int, near_ns: int | None = None) -> int | None:
        near_ns = near_ns if self.kept.near_ns() is None else self.kept.near_ns()
        alone = self.limit < self.log.size or not self._has_checks()
        self.bare = alone or near_ns is not None
        return next_record(self.log, at, self.limit, near_ns, alone)

    def _no_footer(self, bytes_lost: int) -> None:
        self.log.damage.bytes_lost += bytes_lost
        if "no_footer" not in self.log.damage.reasons:
            self.log.damage.note("no_footer", "the file ends without a footer")
