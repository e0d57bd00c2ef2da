"""Synchronizing the drive of the tests, whole, in part or changed on the way."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.logs.files.blocks import MAX_TIME_NS
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.sync.synchronize import SyncSummary, synchronize_drive
from av_assets.policies.sync import SyncPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


POLICY = SyncPolicy.load()


def sync(drive: Any, out: Path, *, redacted: bool = True, **changes: Any) -> SyncSummary:
    policy = POLICY.model_copy(update={"clip_s": 1.0, **changes})
    with LogReader(drive.folder) as reader:
        folder = drive.redacted if redacted else None
        return synchronize_drive(reader, drive.spec, folder, policy, out, None, drive.folder)


def table(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((out / "clips").iterdir())])


class Only:
    """A log that holds some of the topics."""

    def __init__(self, reader: LogReader, keep: tuple[str, ...]) -> None:
        self._reader, self.sources = reader, reader.sources
        self.topics = {t: info for t, info in reader.topics.items() if t.startswith(keep)}
        self.message_count, self.start_ns = reader.message_count, reader.start_ns
        self.read: set[str] = set()

    def messages(self, topics: set[str], *window: int) -> Any:
        self.read |= set(topics)
        return self._reader.messages(set(topics) & set(self.topics), *window)

    def deserialize(self, raw: Any) -> Any:
        return self._reader.deserialize(raw)


class Changed(Only):
    """A log whose messages are changed on the way."""

    def __init__(self, reader: LogReader, change: Callable[[Any], Any]) -> None:
        super().__init__(reader, ("/lidar", "/radar", "/imu", "/can", "/tf"))
        self._change = change

    def messages(self, topics: set[str], start_ns: int = 0, end_ns: int = MAX_TIME_NS + 1) -> Any:
        changed = map(self._change, super().messages(topics))
        return (raw for raw in changed if start_ns <= raw.log_ns < end_ns)


def stamped(raw: Any, sensor_ns: int, log_ns: int) -> Any:
    if raw.topic == "/tf_static":
        return raw._replace(log_ns=log_ns)
    data = raw.data[:4] + struct.pack("<iI", *divmod(sensor_ns, 10**9)) + raw.data[12:]
    return raw._replace(data=data, log_ns=log_ns)
