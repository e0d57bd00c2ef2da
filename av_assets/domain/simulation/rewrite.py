"""Rewrites the log of a drive message by message, for faults that change content.

Any log that the platform reads can be rewritten; what comes out is one MCAP file (with its metadata.yaml where the
recording was a rosbag2 folder).
Belongs here: reading, changing and writing back raw messages. Does not belong here: which fault changes what.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import LogError, PoisonError
from av_assets.domain.logs.contract import infer_streams
from av_assets.domain.logs.drive_spec import SPEC_FILE, read_drive_spec
from av_assets.domain.logs.files.blocks import Channel, RawMessage
from av_assets.domain.logs.files.formats import find_logs
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.simulation.raw_messages import Message

__all__ = ["Message", "keep", "log_file_of", "rewrite", "stream_of", "topic_of"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from av_assets.domain.logs.drive_spec import StreamKind, StreamSpec

    Edit = Callable[["Message"], "Message | Iterable[Message] | None"]
    Reconnect = Callable[[Channel], "Channel | None"]

CHUNK_BYTES = 16 << 10  # small ones: damage of one chunk shall be damage of a moment
METADATA = "metadata.yaml"


def log_file_of(folder: Path) -> Path:
    """The first log file of a drive.

    Raises:
        PoisonError: it has none.
    """
    with suppress(LogError):
        return find_logs(folder).logs[0].path
    raise PoisonError("the drive holds no log file", code="fault_needs_log", file=folder)


def topic_of(folder: Path, kind: StreamKind) -> str:
    """The topic of the first stream of a kind (see `stream_of`)."""
    return stream_of(folder, kind).topic


def stream_of(folder: Path, kind: StreamKind) -> StreamSpec:
    """The first stream of a kind, in `drive.yaml` or else by the message types of the log.

    Raises:
        PoisonError: no stream of that kind.
    """
    spec = read_drive_spec(folder / SPEC_FILE) if (folder / SPEC_FILE).exists() else None
    topics: dict[str, str] = {}
    with suppress(LogError), LogReader(folder) as reader:
        topics = {name: info.msgtype for name, info in reader.topics.items() if info.count}
    for stream in infer_streams(topics, spec.streams if spec else {}).values():
        if stream.kind == kind:
            return stream
    drive = spec.drive if spec else None
    raise PoisonError(f"this fault needs a stream of kind {kind}", code="fault_needs_stream", drive=drive)


def keep(message: Message) -> Message:
    """The edit that changes nothing."""
    return message


def rewrite(
    folder: Path,
    edit: Edit = keep,
    reconnect: Reconnect = lambda channel: channel,
    **options: Any,
) -> Path:
    """Write all logs of a drive again as one MCAP file; gives its path.

    Args:
        edit: gives the message to write in place of one, several of them, or None to leave it out. A message may
            be written later than it came only within what the edit holds back itself.
        reconnect: gives the channel to write in place of one, or None to leave its messages out.
        options: of `mcap.writer.Writer`, for files that lack something.

    Raises:
        PoisonError: the drive holds no log.
    """
    first = log_file_of(folder)
    target = first.with_suffix(".mcap")
    new = folder / ".rewrite.mcap"
    with LogReader(folder) as reader:
        old = [source.path for source in reader.sources]
        written = _write(reader, new, edit, reconnect, options)
    for path in old:
        path.unlink()
    new.rename(target)
    _write_metadata(target, written)
    return target


@dataclass
class _Written:
    """What went into the new file: old topic -> its new channel and how many messages; first and last log time."""

    channels: dict[str, Channel]
    counts: dict[str, int]
    start_ns: int = 0
    end_ns: int = 0

    def add(self, message: Message) -> None:
        if not sum(self.counts.values()):
            self.start_ns = self.end_ns = message.log_ns
        self.start_ns, self.end_ns = min(self.start_ns, message.log_ns), max(self.end_ns, message.log_ns)
        self.counts[message.topic] += 1


def _write(
    reader: LogReader, path: Path, edit: Edit, reconnect: Reconnect, options: dict[str, Any]
) -> _Written:
    from mcap.writer import CompressionType, Writer

    channels = {channel.topic: channel for source in reader.sources for channel in source.channels.values()}
    changed = {topic: reconnect(channel) for topic, channel in sorted(channels.items())}
    kept = {topic: channel for topic, channel in changed.items() if channel is not None}
    written = _Written(kept, dict.fromkeys(kept, 0))
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=CHUNK_BYTES, compression=CompressionType.LZ4, **options)
        ros1 = all(channel.serialization == "ros1" for channel in kept.values())
        writer.start(profile="ros1" if ros1 and kept else "ros2", library="av-assets")
        numbers = {topic: _connect(writer, channel) for topic, channel in kept.items()}
        for message in _edited(reader, edit, numbers):
            writer.add_message(numbers[message.topic], message.log_ns, message.raw, message.log_ns)
            written.add(message)
        writer.finish()
    return written


def _edited(reader: LogReader, edit: Edit, numbers: dict[str, int]) -> Iterator[Message]:
    seen: dict[str, int] = {}
    for raw in reader.messages(numbers.keys()):
        index = seen.get(raw.topic, 0)
        seen[raw.topic] = index + 1
        made = edit(_message(raw, index, reader.topics[raw.topic].count))
        if isinstance(made, Message):
            yield made
        elif made is not None:
            yield from made


def _message(raw: RawMessage, index: int, count: int) -> Message:
    return Message(
        raw.topic, raw.log_ns, raw.data, index, count, raw.msgtype, raw.serialization, raw.stamp_offset
    )


def _connect(writer: Any, channel: Channel) -> int:
    name = channel.msgtype.replace("/msg/", "/") if channel.encoding == "ros1msg" else channel.msgtype
    encoding = channel.encoding or ("ros1msg" if channel.serialization == "ros1" else "ros2msg")
    schema = writer.register_schema(name, encoding, channel.definition.encode())
    return int(writer.register_channel(channel.topic, channel.serialization, schema))


def _write_metadata(target: Path, written: _Written) -> None:
    """Brings the metadata.yaml beside the log in agreement with it."""
    import yaml

    path = target.parent / METADATA
    if not path.exists():
        return
    data = yaml.safe_load(path.read_text("utf-8"))
    info = data["rosbag2_bagfile_information"]
    known = {entry["topic_metadata"]["name"]: entry for entry in info["topics_with_message_count"]}
    topics = []
    for old, channel in written.channels.items():
        about = {**known.get(old, {}).get("topic_metadata", {}), "name": channel.topic}
        about |= {"type": channel.msgtype, "serialization_format": channel.serialization}
        topics.append({"message_count": written.counts[old], "topic_metadata": about})
    file = {
        "path": target.name,
        "starting_time": {"nanoseconds_since_epoch": written.start_ns},
        "duration": {"nanoseconds": written.end_ns - written.start_ns},
        "message_count": sum(written.counts.values()),
    }
    info |= {name: value for name, value in file.items() if name != "path"}
    info |= {"relative_file_paths": [target.name], "storage_identifier": "mcap"}
    info |= {"compression_format": "", "compression_mode": "", "topics_with_message_count": topics}
    if "files" in info:
        info["files"] = [file]
    path.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
