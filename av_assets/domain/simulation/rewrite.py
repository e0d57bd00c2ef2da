"""Rewrites the rosbag2 recording of a drive folder message by message, for faults that change content.

Belongs here: reading, changing and writing back raw messages. Does not belong here: which fault changes what.
"""

from __future__ import annotations

import shutil
import struct
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import PoisonError
from av_assets.domain.logs.drive_spec import SPEC_FILE, read_drive_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from av_assets.domain.logs.drive_spec import StreamKind

    Edit = Callable[["Message"], "Message | None"]

STAMP_OFFSET = (
    4  # after the encapsulation header of CDR; a message that begins with a Header begins with its stamp
)


class Message:
    """A raw message: `index` counts the messages of its topic, `count` is how many the topic has."""

    def __init__(self, topic: str, log_ns: int, raw: bytes, index: int, count: int) -> None:
        self.topic, self.log_ns, self.raw, self.index, self.count = topic, log_ns, raw, index, count

    @property
    def sensor_ns(self) -> int:
        seconds, nanoseconds = struct.unpack_from("<iI", self.raw, STAMP_OFFSET)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def stamped(self, sensor_ns: int) -> Message:
        """The same message with another header stamp."""
        stamp = struct.pack("<iI", sensor_ns // 1_000_000_000, sensor_ns % 1_000_000_000)
        raw = self.raw[:STAMP_OFFSET] + stamp + self.raw[STAMP_OFFSET + 8 :]
        return Message(self.topic, self.log_ns, raw, self.index, self.count)


def recording_of(folder: Path) -> Path:
    """The rosbag2 folder of a drive.

    Raises:
        PoisonError: it has none.
    """
    found = sorted(path.parent for path in folder.rglob("metadata.yaml"))
    if not found:
        raise PoisonError("this fault needs a rosbag2 recording", code="fault_needs_rosbag2", file=folder)
    return found[0]


def log_file_of(folder: Path) -> Path:
    """The first log file of a drive.

    Raises:
        PoisonError: it has none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".mcap", ".bag", ".db3"))
    if not found:
        raise PoisonError("the drive holds no log file", code="fault_needs_log", file=folder)
    return found[0]


def topic_of(folder: Path, kind: StreamKind) -> str:
    """The topic of the first stream of a kind in `drive.yaml`.

    Raises:
        PoisonError: no stream of that kind.
    """
    spec = read_drive_spec(folder / SPEC_FILE)
    for stream in spec.streams.values():
        if stream.kind == kind:
            return stream.topic
    raise PoisonError(
        f"this fault needs a stream of kind {kind}", code="fault_needs_stream", drive=spec.drive
    )


def rewrite(
    folder: Path, edit: Edit, rename: dict[str, str] | None = None, without: frozenset[str] = frozenset()
) -> None:
    """Write the recording of a drive again.

    Args:
        edit: gives the message to write in place of one, or None to leave it out.
        rename: topics that get another name.
        without: topics that are left out with their connection.
    """
    from rosbags.rosbag2 import Reader, StoragePlugin, Writer

    old = recording_of(folder)
    new = folder / ".rewrite" / old.name
    new.parent.mkdir()
    rename = rename or {}
    with Reader(old) as reader, Writer(new, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kept = [c for c in reader.connections if c.topic not in without]
        targets = {c.id: _connect(writer, c, rename.get(c.topic, c.topic)) for c in kept}
        counts: dict[int, int] = {}
        for connection, log_ns, raw in reader.messages(kept):
            index = counts.get(connection.id, 0)
            counts[connection.id] = index + 1
            message = edit(Message(connection.topic, log_ns, bytes(raw), index, connection.msgcount))
            if message is not None:
                writer.write(targets[connection.id], message.log_ns, message.raw)
    shutil.rmtree(old)
    new.rename(old)
    new.parent.rmdir()


def _connect(writer: Any, connection: Any, topic: str) -> Any:
    return writer.add_connection(
        topic, connection.msgtype, msgdef=connection.msgdef.data, rihs01=connection.digest
    )
