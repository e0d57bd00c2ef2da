"""Opening damaged logs for recovery: every message with all that its file says about it.

The readers of the platform give what its algorithms need; a recovered log also keeps schemas byte for byte, channel
metadata and what else its format has.
Belongs here: ROS 1 bags, databases, videos and plug-ins, and the choice of the format. Does not belong here: MCAP
(`mcap`), the choice between index and scan (`opening`), writing.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from av_assets.domain.logs.files.blocks import MAX_TIME_NS, Damage, LogSource
from av_assets.domain.logs.files.magic import SQLITE_ERRORS
from av_assets.domain.logs.files.mcap_writer import McapChannel
from av_assets.domain.logs.files.ros1_log import Header, Ros1Log, message_spans, parse_header
from av_assets.domain.logs.files.sources import open_source
from av_assets.domain.logs.files.sqlite_log import Sqlite3Log
from av_assets.domain.logs.files.unpacking import private_folder, unpack_zstd
from av_assets.domain.logs.messages.definitions import schema_bytes
from av_assets.domain.logs.recovery.mcap import RecoveredMcap
from av_assets.domain.logs.recovery.recovered import Extra, KeptMessage, Recovered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from av_assets.domain.logs.files.blocks import Block, Channel, RawMessage
    from av_assets.domain.logs.files.formats import LogFile

_QOS = "offered_qos_profiles"


def open_for_recovery(log: LogFile, scan: bool) -> Recovered:
    """Open a log by its index or, when `scan` asks for it, record by record.

    Raises:
        LogError: the file system refused, or nothing of it is a log.
        TransientError: no_space for the temporary copy that a packed file or a hot journal needs.
    """
    if log.format not in ("mcap", "ros1", "sqlite3"):
        return RecoveredOther(open_source(log, scan))
    if not log.file_codec:
        return _open(log, log.path, scan)
    with private_folder("recovery") as folder:
        unpacked = unpack_zstd(log.path, folder)
        source = _open(log, unpacked.path, scan)
    source.path = log.path
    if not unpacked.whole:
        source.damage.note("cut_stream", "the zstd stream of the file is cut or broken")
    return source


def _open(log: LogFile, path: Path, scan: bool) -> Recovered:
    if log.format == "mcap":
        return RecoveredMcap(path, scan, log.message_codec)
    return (
        RecoveredRos1(path, scan) if log.format == "ros1" else RecoveredSqlite3(path, scan, log.message_codec)
    )


class RecoveredRos1(Ros1Log):
    """A ROS 1 bag: its header fields (md5sum, callerid, latching, ...) become channel metadata."""

    profile = "ros1"
    definitions_added: tuple[str, ...] = ()

    def forget(self) -> None:
        super().forget()
        self.kept: dict[int, McapChannel] = {}

    def add_connection(self, head: Header, data: bytes) -> None:
        super().add_connection(head, data)
        (number,) = struct.unpack("<I", head[b"conn"])
        if number in self.kept or number not in self.channels:
            return  # the first record of a connection counts; a later one may be damaged
        fields = parse_header(data)
        text = fields.pop(b"message_definition", b"")
        kind = fields.pop(b"type").decode("utf-8", "replace")
        fields.pop(b"topic", None)
        metadata = {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in fields.items()}
        topic = self.channels[number].topic
        self.kept[number] = McapChannel(topic, "ros1", kind, "ros1msg", text, tuple(sorted(metadata.items())))

    def survivors(self, block: Block) -> Iterable[KeptMessage]:
        return self.read(block, frozenset(self.channels))  # type: ignore[return-value]  # see `messages`

    def messages(  # type: ignore[override]  # the block reader of the base class takes either kind
        self, data: bytes, wanted: frozenset[int], tolerant: bool = False
    ) -> Iterator[KeptMessage]:
        """As in the base class, with the connection that each message came by.

        Raises:
            LogError: bad_chunk when a record does not fit.
        """
        for number, log_ns, start, end in message_spans(data, strict=not tolerant):
            if number in wanted:
                yield KeptMessage(log_ns, number, data[start:end])

    def extras(self) -> Iterator[Extra]:
        return iter(())


class _Renamed:
    """Channels and messages of a source that knows nothing but what `LogSource` asks for."""

    def __init__(self, channels: dict[int, Channel], qos: dict[int, str]) -> None:
        self.channels: dict[int, McapChannel] = {}
        self._numbers: dict[tuple[str, str, str], int] = {}
        added: set[str] = set()
        for number, channel in channels.items():
            encoding, schema = channel.encoding, schema_bytes(channel.encoding, channel.definition)
            if not schema and channel.serialization == "cdr":
                encoding, schema = "ros2msg", _bundled_definition(channel.msgtype)
                added |= {channel.msgtype} if schema else set()
            metadata = ((_QOS, qos[number]),) if qos.get(number) else ()
            self.channels[number] = McapChannel(
                channel.topic,
                channel.serialization,
                channel.msgtype,
                encoding if schema else "",
                schema,
                metadata,
            )
            self._numbers.setdefault((channel.topic, channel.msgtype, channel.serialization), number)
        self.definitions_added = tuple(sorted(added))

    def survivors(self, source: LogSource, block: Block) -> Iterator[KeptMessage]:
        for raw in source.read(block, frozenset(source.channels)):
            if 0 <= raw.log_ns <= MAX_TIME_NS:
                number = self._numbers[raw.topic, raw.msgtype, raw.serialization]
                yield KeptMessage(raw.log_ns, number, raw.data)
            else:
                source.damage.note("bad_stamp", "a message has an impossible log time", len(raw.data))


class RecoveredSqlite3(Sqlite3Log):
    """A rosbag2 database. Types without a definition get the bundled one where there is one."""

    profile = "ros2"

    def __init__(self, path: Path, salvage: bool = False, message_codec: str = "") -> None:
        super().__init__(path, salvage, message_codec)
        self._renamed = _Renamed(self.channels, self._qos_profiles())
        self.kept = self._renamed.channels
        self.definitions_added = self._renamed.definitions_added

    def _qos_profiles(self) -> dict[int, str]:
        """Quality of service per topic number, which playing back asks for; old databases have none."""
        try:
            rows = self._db.execute(f"SELECT id, {_QOS} FROM topics").fetchall()
        except SQLITE_ERRORS:
            return {}
        return {number: text for number, text in rows if isinstance(number, int) and isinstance(text, str)}

    def survivors(self, block: Block) -> Iterator[KeptMessage]:
        return self._renamed.survivors(self, block)

    def extras(self) -> Iterator[Extra]:
        return iter(())


class RecoveredOther:
    """A video, or what a plug-in reads."""

    profile = ""

    def __init__(self, source: LogSource) -> None:
        self._source = source
        self._renamed = _Renamed(source.channels, {})
        self.path, self.format, self.indexed = source.path, source.format, source.indexed
        self.channels, self.counts, self.blocks = source.channels, source.counts, source.blocks
        self.kept, self.definitions_added = self._renamed.channels, self._renamed.definitions_added

    @property
    def damage(self) -> Damage:
        return self._source.damage

    @damage.setter
    def damage(self, damage: Damage) -> None:
        self._source.damage = damage

    def read(self, block: Block, wanted: frozenset[int]) -> Iterable[RawMessage]:
        return self._source.read(block, wanted)

    def survivors(self, block: Block) -> Iterator[KeptMessage]:
        return self._renamed.survivors(self, block)

    def extras(self) -> Iterator[Extra]:
        return iter(())

    def close(self) -> None:
        self._source.close()


@lru_cache(maxsize=256)
def _bundled_definition(msgtype: str) -> bytes:
    from rosbags.typesys import Stores, get_typestore

    store: Any = get_typestore(Stores.ROS2_JAZZY)
    if msgtype not in store.types:
        return b""
    return str(store.generate_msgdef(msgtype, ros_version=2)[0]).encode()
