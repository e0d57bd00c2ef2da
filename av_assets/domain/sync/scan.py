"""The first pass over a log: stamps of every stream and all signals go to disk. No payload is kept.

What it leaves is one finished segment, so an interrupted drive is not scanned again.
Belongs here: that pass and the reading of its files. Does not belong here: matching, resampling, writing clips.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.logs.messages.payloads import IMAGE_TYPES
from av_assets.domain.logs.reader import header_stamp_ns
from av_assets.domain.sync.alike import alike, times
from av_assets.domain.sync.signal_batches import SignalBatches
from av_assets.domain.sync.signal_log import SignalLog, SignalStore, StampFile
from av_assets.domain.sync.signals import SignalReader
from av_assets.domain.sync.stamps import Stamps, judge_clock, stamps_of
from av_assets.domain.sync.streams import SIGNAL_KINDS, Survey, can_decoders, ego_pose, read_messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.logs.drive_spec import DriveSpec
    from av_assets.domain.logs.reader import LogReader, RawMessage
    from av_assets.domain.sync.grid import Ns
    from av_assets.policies.clocks import ClockPolicy
    from av_assets.policies.sync import SyncPolicy

BATCH = 2048  # messages of one topic that are decoded together
BATCH_BYTES = 4 << 20
WAITING_BYTES = 16 << 20  # of all topics together
SCAN_FILE = "scan.json"


def scan_log(
    reader: LogReader,
    found: Survey,
    policy: SyncPolicy,
    drive_dir: Path | None,
    watch: Stopwatch,
    folder: Path,
) -> None:
    """Read every message of all streams but cameras once and leave stamps and signals in `folder`.

    Raises:
        SyncError: bad_dbc, when a declared DBC cannot be read.
    """
    kinds = found.topic_kinds()
    kinds = {t: k for t, k in sorted(kinds.items()) if reader.topics[t].msgtype not in IMAGE_TYPES}
    can, notes = can_decoders(reader, found.streams, drive_dir)

    def rotation(frame: str) -> Array | None:
        pose = ego_pose(found.tree, frame)
        return None if pose is None else pose[:3, :3]

    single = SignalReader(reader.deserialize, rotation, dict(can), policy.aliases, policy.max_signal_fields)
    scan = _Scan(folder, kinds, SignalBatches(single, rotation, can))
    batches = scan.batches(read_messages(reader, kinds))
    while True:
        with watch("read"):
            batch = next(batches, None)
        if batch is None:
            break
        with watch("decode"):
            scan.decode(*batch)
    scan.close()
    undecoded = {t: {"unknown": c.unknown, "failed": sum(c.failed.values())} for t, c in sorted(can.items())}
    told = {"topics": list(kinds), "notes": notes, "unreadable": scan.unreadable(), "can": undecoded}
    (folder / SCAN_FILE).write_text(json.dumps(told), "utf-8")


class _Waiting:
    """Messages of one topic that wait for their batch. Plain attributes: this is touched once a message."""

    def __init__(self) -> None:
        self.messages: list[RawMessage] = []
        self.bytes = 0


class _Scan:
    """Collects messages into batches of one topic and puts what they hold into files."""

    def __init__(self, folder: Path, kinds: dict[str, str], batches: SignalBatches) -> None:
        self._folder, self._batches = folder, batches
        self._signals = SignalLog(folder)
        self._numbers = {topic: number for number, topic in enumerate(kinds)}
        self._waiting = {topic: _Waiting() for topic, kind in sorted(kinds.items()) if kind in SIGNAL_KINDS}
        self._total = 0
        self._payload_stamps: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def batches(self, messages: Iterable[RawMessage]) -> Iterator[tuple[str, list[RawMessage]]]:
        """Topics and messages to decode together. Of payloads only the stamp is taken: they are never held."""
        for raw in messages:
            waiting = self._waiting.get(raw[0])
            if waiting is None:
                self._stamp(raw)
                continue
            size = len(raw[3])
            waiting.messages.append(raw)
            waiting.bytes += size
            self._total += size
            if len(waiting.messages) >= BATCH or waiting.bytes >= BATCH_BYTES:
                yield self._taken(raw[0], waiting)
            elif self._total >= WAITING_BYTES:  # many topics that wait a little each
                yield from self._rest()
        yield from self._rest()

    def _rest(self) -> Iterator[tuple[str, list[RawMessage]]]:
        for topic, waiting in self._waiting.items():
            if waiting.messages:
                yield self._taken(topic, waiting)

    def _taken(self, topic: str, waiting: _Waiting) -> tuple[str, list[RawMessage]]:
        self._total -= waiting.bytes
        messages, waiting.messages, waiting.bytes = waiting.messages, [], 0
        return topic, messages

    def _stamp(self, raw: RawMessage) -> None:
        stamp_ns, stamps = header_stamp_ns(raw), self._payload_stamps[raw.topic]
        stamps.append((raw.log_ns if stamp_ns is None else stamp_ns, raw.log_ns))
        if len(stamps) >= BATCH:
            self._write_stamps(raw.topic, stamps)
            stamps.clear()

    def decode(self, topic: str, batch: Sequence[RawMessage]) -> None:
        groups, others = alike(batch)
        stamps = times(batch, groups)
        self._write_stamps(topic, stamps)
        for names, rows, values in self._batches.read(batch, groups, others):
            self._signals.add(topic, names, stamps[rows, 0], stamps[rows, 1], values)

    def _write_stamps(self, topic: str, times: Sequence[tuple[int, int]] | Ns) -> None:
        with stamp_path(self._folder, self._numbers[topic]).open("ab") as file:
            np.asarray(times, np.int64).tofile(file)

    def close(self) -> None:
        for topic, stamps in sorted(self._payload_stamps.items()):
            self._write_stamps(topic, stamps)
        self._signals.close()

    def unreadable(self) -> dict[str, int]:
        return dict(sorted(self._batches.failed.items()))


def stamp_path(folder: Path, number: int) -> Path:
    return folder / f"topic-{number}.stamps"


class Scan:
    """What the first pass left, judged by the policy.

    Attributes:
        clocks: topic -> which time of it is used, topics without messages left out.
        stamps: topic -> all stamps of a payload stream (lidar, radar); these fit memory at their rates.
        signals: the signals by name.
        span_ns: half-open used time of all samples; None without any.
        unreadable: topic -> small messages that could not be read.
        can: topic -> frames that the DBC does not know, and broken ones.
    """

    def __init__(
        self, folder: Path, found: Survey, spec: DriveSpec, policy: SyncPolicy, clocks: ClockPolicy
    ) -> None:
        told = json.loads((folder / SCAN_FILE).read_text("utf-8"))
        self.unreadable: dict[str, int] = told["unreadable"]
        self.can: dict[str, dict[str, int]] = told["can"]
        self.notes: list[str] = told["notes"]
        files = {t: StampFile(stamp_path(folder, n)) for n, t in enumerate(told["topics"])}
        files = {topic: file for topic, file in files.items() if file.rows}
        self.clocks = {t: judge_clock(t, *file.sample(), clocks) for t, file in files.items()}
        kinds = found.topic_kinds()
        self.stamps: dict[str, Stamps] = {}
        spans: list[tuple[int, int]] = []
        for topic, file in files.items():
            if kinds[topic] in SIGNAL_KINDS:
                spans += [_span(self.clocks[topic].used_ns(*chunk)) for chunk in file.chunks()]
                continue
            stamps = stamps_of(topic, *file.read(0, file.rows), self.clocks[topic], policy)
            self.stamps[topic] = stamps
            spans.append(_span(stamps.used_ns))
        self.span_ns = (min(s for s, _ in spans), max(e for _, e in spans)) if spans else None
        self.signals = SignalStore(folder, _by_contract(found, spec), self.clocks, policy)


def _span(used_ns: Ns) -> tuple[int, int]:
    return int(used_ns.min()), int(used_ns.max()) + 1


def _by_contract(found: Survey, spec: DriveSpec) -> list[str]:
    """Topics in the order in which they may name a signal: declared streams first, then by role."""
    roles = sorted(found.streams, key=lambda role: (role not in spec.streams, role))
    return list(dict.fromkeys(found.streams[role].topic for role in roles))
