"""rosbag2 databases (.db3): read only, immutable, message by message.

Belongs here: opening a database and reading what of it can be read. Does not belong here: repair.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.blocks import MAX_CHUNK_BYTES, Block, Channel, Damage, RawMessage
from av_assets.domain.logs.compression import decompress_prefix
from av_assets.domain.logs.definitions import ros2_name, stamp_offset
from av_assets.domain.logs.formats import SQLITE_ERRORS, os_error, sqlite_uri

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENCODINGS = {"ros2msg", "ros2idl"}
BATCH = 256
MAX_BAD_READS = 10_000
_EVERYTHING = Block(0, 0, 0, 0, 1 << 20, None)


class Sqlite3Log:
    """One database. Fields as in `LogSource`; it is one block, streamed in time order."""

    format = "sqlite3"

    def __init__(self, path: Path, salvage: bool = False, message_codec: str = "") -> None:
        """Open; `salvage` reads by row and skips the rows that cannot be read.

        Raises:
            LogError: the file system refused, or topics and messages cannot be listed at all.
        """
        self.path = path
        self.channels: dict[int, Channel] = {}
        self.counts: dict[int, int] = {}
        self.blocks: list[Block] = []
        self._codec = message_codec
        try:
            self.damage = Damage(path.stat().st_size)
            self._db = sqlite3.connect(sqlite_uri(path), uri=True, check_same_thread=False)
        except OSError as error:
            raise os_error(error, path) from error
        except SQLITE_ERRORS as error:
            raise LogError(f"cannot open: {error}", code="unreadable_file", file=path) from error
        self.indexed = False
        try:
            self._open(salvage)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def _open(self, salvage: bool) -> None:
        self._db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        for ending in ("-wal", "-journal"):
            beside = self.path.with_name(self.path.name + ending)
            if beside.is_file() and beside.stat().st_size:
                self.damage.note("hot_journal", f"{beside.name} holds changes that are not in the database")
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
        query = "SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp) FROM messages GROUP BY topic_id"
        rows = self._db.execute(query).fetchall()
        self._settle({n: count for n, count, _, _ in rows}, [t for row in rows for t in row[2:]])

    def _count_by_scan(self) -> None:
        counts: dict[int, int] = {}
        times: list[int] = []
        for number, log_ns, _ in self._rows():
            counts[number] = counts.get(number, 0) + 1
            times = [min([log_ns, *times]), max([log_ns, *times])]
        self._settle(counts, times)

    def _settle(self, counts: dict[int, int], times: list[int]) -> None:
        for number, count in counts.items():
            if number in self.channels:
                self.counts[number] = count
            else:
                self.damage.note("unknown_channel", f"{count} messages of topic {number} have no name")
        if times and self.counts:
            self.blocks = [_EVERYTHING._replace(start_ns=min(times), end_ns=max(times))]

    def read(self, block: Block, wanted: frozenset[int]) -> Iterator[RawMessage]:
        """Messages of the wanted topics in time order; damage is noted, never raised."""
        rows = (
            self._ordered(wanted)
            if self.indexed
            else iter(sorted(self._rows(payload=False), key=lambda r: r[1]))
        )
        for number, log_ns, data in rows:
            if number not in wanted:
                continue
            payload = data if isinstance(data, bytes) else self._payload(data)
            if payload is None:
                continue
            c = self.channels[number]
            yield RawMessage(
                c.topic, c.msgtype, log_ns, self._plain(payload), c.serialization, c.stamp_offset
            )

    def _ordered(self, wanted: frozenset[int]) -> Iterator[tuple[int, int, object]]:
        marks = ",".join(str(number) for number in sorted(wanted))
        query = "SELECT topic_id, timestamp, data FROM messages "
        query += f"WHERE topic_id IN ({marks}) ORDER BY timestamp, id"
        try:
            for number, log_ns, data in self._db.execute(query):
                if isinstance(log_ns, int) and isinstance(data, bytes):
                    yield number, log_ns, data
                else:
                    self.damage.note("bad_record", "a row holds values of the wrong kind")
        except SQLITE_ERRORS as error:
            self.damage.note("bad_database", f"damaged database: {error}")

    def _rows(self, payload: bool = False) -> Iterator[tuple[int, int, int]]:
        """(topic, time, row id) of every row that can be read, from both ends towards the damage."""
        low, high = -(1 << 62), 1 << 62
        for order in ("ASC", "DESC"):
            query = (
                "SELECT topic_id, timestamp, id FROM messages WHERE id > ? AND id < ? "
                f"AND typeof(timestamp) = 'integer' AND typeof(topic_id) = 'integer' ORDER BY id {order}"
            )
            try:
                for number, log_ns, row in self._db.execute(query, (low, high)):
                    yield number, log_ns, row
                    low, high = (row, high) if order == "ASC" else (low, row)
                return
            except SQLITE_ERRORS as error:
                self.damage.note("bad_database", f"damaged database: {error}")

    def _payload(self, row: object) -> bytes | None:
        try:
            found = self._db.execute("SELECT data FROM messages WHERE id = ?", (row,)).fetchone()
        except SQLITE_ERRORS as error:
            self.damage.note("bad_record", f"row {row}: {error}")
            return None
        return found[0] if found and isinstance(found[0], bytes) else None

    def _plain(self, data: bytes) -> bytes:
        return decompress_prefix(data, self._codec, MAX_CHUNK_BYTES) if self._codec else data
