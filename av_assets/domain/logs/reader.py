"""One reader for all logs of a drive: messages of several files and formats in log time order.

Memory is bounded by the blocks that overlap in time; damaged files give what survives, and `damage` says
what did not.
Belongs here: the reader and its lookups. Does not belong here: file formats, verdicts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import (
    MAX_TIME_NS,
    Block,
    Damage,
    LogSource,
    RawMessage,
    TopicInfo,
    merge_by_time,
)
from av_assets.domain.logs.files.formats import FoundLogs, LogFile, find_logs
from av_assets.domain.logs.files.sources import open_source
from av_assets.domain.logs.messages.definitions import Decoder
from av_assets.domain.logs.messages.payloads import ImagePayload, header_stamp_ns, image_payload

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from types import TracebackType

__all__ = ["ImagePayload", "LogReader", "RawMessage", "TopicInfo", "header_stamp_ns", "image_payload"]


class LogReader:
    """All logs of a drive, open for reading.

    Attributes:
        topics: topic -> TopicInfo, counts over all files.
        start_ns, end_ns: log time of the first and last message; 0 without messages.
        message_count: messages over all topics.
        sources: the open files, each with its `damage`.
        rejected: (path, code, reason) of files that look like logs and cannot be opened.

    >>> with LogReader(Path("drive")) as reader:  # doctest: +SKIP
    ...     for raw in reader.messages({"/imu/data"}):
    ...         stamp = header_stamp_ns(raw)
    """

    def __init__(self, logs: Path | Sequence[Path], *, salvage: bool = False) -> None:
        """Open a log file, a folder that holds logs, or several of either.

        Args:
            logs: files or folders; told by content, names do not matter.
            salvage: scan all records even where a file's index looks whole.

        Raises:
            LogError: not_found, not_a_log, empty_log, no_logs, permission_denied, bad_database, ...
        """
        paths = [logs] if isinstance(logs, Path) else list(logs)
        if not paths:
            raise LogError("no log was given", code="no_logs")
        found = [find_logs(path) for path in paths]
        self.rejected = [entry for one in found for entry in one.rejected]
        self.sources: list[LogSource] = []
        try:
            self._open(found, salvage)
        except BaseException:
            self.close()
            raise
        self._decoder = Decoder(c for source in self.sources for c in source.channels.values())
        self.topics = self._topics()
        self.message_count = sum(topic.count for topic in self.topics.values())
        blocks = [block for source in self.sources for block in source.blocks]
        self.start_ns = min((block.start_ns for block in blocks), default=0)
        self.end_ns = max((block.end_ns for block in blocks), default=0)

    def _open(self, found: Sequence[FoundLogs], salvage: bool) -> None:
        logs = [log for one in found for log in one.logs]
        for log in logs:
            try:
                self.sources.append(open_source(log, salvage))
            except LogError as error:
                self._reject(log, error, alone=len(logs) == 1)
        if not self.sources:
            path, code, reason = self.rejected[0]
            raise LogError(reason, code=code, file=path)

    def _reject(self, log: LogFile, error: LogError, alone: bool) -> None:
        if alone:
            raise error
        self.rejected.append((log.path, error.code, error.reason))

    def _topics(self) -> dict[str, TopicInfo]:
        topics: dict[str, TopicInfo] = {}
        for source in self.sources:
            for number, channel in source.channels.items():
                before = topics.get(channel.topic)
                count = source.counts.get(number, 0) + (before.count if before else 0)
                kind = before if before and before.count else channel
                topics[channel.topic] = TopicInfo(channel.topic, kind.msgtype, count, kind.serialization)
        return dict(sorted(topics.items()))

    @property
    def damage(self) -> dict[str, Damage]:
        """The damaged files and what is known of their loss so far; reading finds more."""
        return {str(source.path): source.damage for source in self.sources if source.damage}

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int = 0, end_ns: int = MAX_TIME_NS + 1
    ) -> Iterator[RawMessage]:
        """Messages in log time order, of all topics or of those named; may be called again.

        Only those of the half-open log time [start_ns, end_ns) are given, and only blocks that reach into it are
        opened. Damaged blocks are left out and noted in `damage`, they do not raise.
        """
        wanted = {id(source): _channels(source, topics) for source in self.sources}
        work = [
            (source, block)
            for source in self.sources
            for block in source.blocks
            if wanted[id(source)] and (block.channels is None or block.channels & wanted[id(source)])
            if block.start_ns < end_ns and block.end_ns >= start_ns
        ]

        def read(source: LogSource, block: Block) -> Any:
            return source.read(block, wanted[id(source)])

        merged = merge_by_time(work, read)
        if start_ns <= 0 and end_ns > MAX_TIME_NS:
            return merged
        return (raw for raw in merged if start_ns <= raw.log_ns < end_ns)

    def deserialize(self, raw: RawMessage) -> Any:
        """The message as an object, by the definition in the log or else the bundled one.

        Raises:
            LogError: unknown_type or bad_message; iteration goes on.
        """
        return self._decoder.decode(raw)

    def close(self) -> None:
        for source in self.sources:
            source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _channels(source: LogSource, topics: Collection[str] | None) -> frozenset[int]:
    """Channels that a reading needs; a topic asked for by name does not match as a part of another."""
    names = None if topics is None else set(topics)
    return frozenset(n for n, channel in source.channels.items() if names is None or channel.topic in names)
