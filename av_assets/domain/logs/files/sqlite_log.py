"""rosbag2 databases (.db3): read only, immutable, message by message.

Belongs here: the topics of a database, and reading what of its messages can be read. Does not belong here:
connections and journals (`sqlite_open`), repair.
"""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import Block, Channel, Damage, RawMessage
from av_assets.domain.logs.files.compression import MessageCodec
from av_assets.domain.logs.files.magic import SQLITE_ERRORS, os_error
from av_assets.domain.logs.files.sqlite_open import open_database
from av_assets.domain.logs.messages.definitions import ros2_name, stamp_offset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENCODINGS = {"ros2msg", "ros2idl"}
BLOCK_BYTES = 16 << 20  # a window of time opens only the blocks that reach into it
MAX_BLOCKS = 4096
_STREAM_BYTES = 1 << 20  # rows are streamed: a block holds one at a time


class Sqlite3Log:
    """One database. Fields as in `LogSource`; its blocks are ranges of time, streamed in time order."""

    format = "sqlite3"

    def __init__(self, path: Path, salvage: bool = False, message_codec: str = "") -> None:
        """Open; `salvage` reads by row and skips the rows that cannot be read.

        Raises:
            LogError: the file system refused, topics and messages cannot be listed at all, or
                unknown_compression.
            TransientError: no_space for the private copy that a hot journal needs.
        """
        self.path = path
        self.channels: dict[int, Channel] = {}
        self.counts: dict[int, int] = {}
        self.blocks: list[Block] = []
        self.indexed = False
        self._plain = MessageCodec(message_codec)
        try:
            self.damage = Damage(path.stat().st_size)
        except OSError as error:
            raise os_error(error, path) from error
        self._db = open_database(path, self.damage)
        try:
            self._open(salvage)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def _open(self, salvage: bool) -> None:
        try:
            self._check_tables()
            self._read_topics()
        except SQLITE_ERRORS as error:
            raise LogError(f"damaged database: {error}", code="bad_database", file=self.path) from error
        if not salvage:
            try:
                self._count_by_index()
                self.indexed = True
                return
            except (*SQLITE_ERRORS, TypeError) as error:
                self.damage.note("bad_database", f"damaged database: {error}")
        self._count_by_scan()

    def _check_tables(self) -> None:
        rows = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchmany(1000)
        if not {("messages",), ("topics",)} <= set(rows):
            raise LogError("the database has no topics and messages", code="not_a_log", file=self.path)
        columns = {row[1] for row in self._db.execute("PRAGMA table_info(messages)")}
        if not {"id", "topic_id", "timestamp", "data"} <= columns:
            raise LogError("the database has other columns than rosbag2", code="not_a_log", file=self.path)

    def _read_topics(self) -> None:
        definitions: dict[str, tuple[str, str]] = {}
        if self._db.execute("PRAGMA table_info(message_definitions)").fetchall():
            query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            definitions = {str(t): (str(e), str(d)) for t, e, d in self._db.execute(query)}
        for number, topic, kind, form in self._db.execute(
            "SELECT id, name, type, serialization_format FROM topics"
        ):
            msgtype = ros2_name(str(kind))
            encoding, text = definitions.get(str(kind), ("", ""))
            if encoding not in ENCODINGS:
                encoding, text = "", ""
            stamp = stamp_offset(msgtype, text, encoding, str(form))
            if isinstance(number, int):
                self.channels[number] = Channel(str(topic), msgtype, str(form), text, encoding, stamp)

    def _count_by_index(self) -> None:
        query = (
            "SELECT topic_id, COUNT(*), COUNT(timestamp), MIN(timestamp), MAX(timestamp) "
            "FROM messages GROUP BY topic_id"
        )
        rows = self._db.execute(query).fetchall()
        times = [time for row in rows for time in row[3:]]
        if not all(isinstance(time, int) for time in times) or any(row[1] != row[2] for row in rows):
            raise TypeError("times that are no numbers")
        self._settle({row[0]: row[1] for row in rows})
        if times and self.counts:
            self.blocks = self._ranges(min(times), max(times))

    def _count_by_scan(self) -> None:
        topics, times, _ = self._rows()
        numbers, counts = np.unique(topics, return_counts=True)
        self._settle(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        if len(times) and self.counts:
            self.blocks = [Block(int(times[0]), int(times[-1]), 0, 0, _STREAM_BYTES, None, "rows")]

    def _settle(self, counts: dict[int, int]) -> None:
        for number, count in counts.items():
            if number in self.channels:
                self.counts[number] = count
            else:
                self.damage.note("unknown_channel", f"{count} messages of topic {number} have no name")

    def _ranges(self, start_ns: int, end_ns: int) -> list[Block]:
        """Equal ranges of time; only one where no index could find their rows."""
        wanted = min(MAX_BLOCKS, 1 + self.damage.bytes_total // BLOCK_BYTES, end_ns - start_ns + 1)
        count = wanted if self._has_time_index() else 1
        edges = [start_ns + (end_ns + 1 - start_ns) * i // count for i in range(count + 1)]
        return [
            Block(a, b - 1, i, 0, _STREAM_BYTES, None, "rows") for i, (a, b) in enumerate(pairwise(edges))
        ]

    def _has_time_index(self) -> bool:
        names = [row[1] for row in self._db.execute("PRAGMA index_list(messages)").fetchall()]
        query = "SELECT name FROM pragma_index_info(?) ORDER BY seqno"
        return any(self._db.execute(query, (name,)).fetchone() == ("timestamp",) for name in names)

    def read(self, block: Block, wanted: frozenset[int]) -> Iterator[RawMessage]:
        """Messages of the wanted topics in time order; damage is noted, never raised."""
        rows = self._ordered(block, wanted) if self.indexed else self._one_by_one(wanted)
        for number, log_ns, data in rows:
            channel = self.channels[number]
            try:
                plain = self._plain.plain(data, channel.serialization)
            except LogError as error:
                self.damage.note(error.code, f"{channel.topic}: {error.reason}", len(data))
                continue
            topic, msgtype, serialization, _, _, stamp = channel
            yield RawMessage(topic, msgtype, log_ns, plain, serialization, stamp)

    def _ordered(self, block: Block, wanted: frozenset[int]) -> Iterator[tuple[int, int, bytes]]:
        marks = ",".join(str(number) for number in sorted(wanted))
        query = "SELECT topic_id, timestamp, data FROM messages WHERE timestamp BETWEEN ? AND ? "
        query += f"AND +topic_id IN ({marks}) ORDER BY timestamp, id"
        try:
            for number, log_ns, data in self._db.execute(query, (block.start_ns, block.end_ns)):
                if isinstance(log_ns, int) and isinstance(data, bytes):
                    yield number, log_ns, data
                else:
                    self.damage.note("bad_record", "a row holds values of the wrong kind")
        except SQLITE_ERRORS as error:
            self.damage.note("bad_database", f"damaged database: {error}")

    def _one_by_one(self, wanted: frozenset[int]) -> Iterator[tuple[int, int, bytes]]:
        for number, log_ns, row in zip(*self._rows(), strict=True):
            if int(number) in wanted and (data := self._payload(int(row))) is not None:
                yield int(number), int(log_ns), data

    def _rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Topics, times in ns and row ids of all rows that can be read, in time order, int64 each.

        The table is read from both ends towards the damage.
        """
        found = array("q"), array("q"), array("q")
        low, high = -(1 << 62), 1 << 62
        for order in ("ASC", "DESC"):
            query = (
                "SELECT topic_id, timestamp, id FROM messages WHERE id > ? AND id < ? "
                f"AND typeof(timestamp) = 'integer' AND typeof(topic_id) = 'integer' ORDER BY id {order}"
            )
            try:
                for values in self._db.execute(query, (low, high)):
                    for column, value in zip(found, values, strict=True):
                        column.append(value)
                    low, high = (values[2], high) if order == "ASC" else (low, values[2])
                break
            except SQLITE_ERRORS as error:
                self.damage.note("bad_database", f"damaged database: {error}")
        topics, times, rows = (np.frombuffer(column, np.int64) for column in found)
        by_time = np.lexsort((rows, times))
        return topics[by_time], times[by_time], rows[by_time]

    def _payload(self, row: int) -> bytes | None:
        try:
            found = self._db.execute("SELECT data FROM messages WHERE id = ?", (row,)).fetchone()
        except SQLITE_ERRORS as error:
            self.damage.note("bad_record", f"row {row}: {error}")
            return None
        if found and isinstance(found[0], bytes):
            return found[0]
        self.damage.note("bad_record", f"row {row} holds no bytes")
        return None
