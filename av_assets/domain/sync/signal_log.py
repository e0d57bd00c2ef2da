"""Samples of all signals of a drive in column files: memory holds one buffer, whatever the drive is long.

Signals that come in one message form a group: one row per message, recorded order. A group is two files,
`<n>.stamps` (sensor_ns, log_ns as int64) and `<n>.values` (float64), and an index of its blocks.
Belongs here: writing and reading those files. Does not belong here: decoding (signal_batches), resampling.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.sync.stamps import TopicClock, lags_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.sync.grid import Ns
    from av_assets.policies.sync import SyncPolicy

BUFFER_BYTES = 4 << 20  # of samples between decoding and disk, over all groups
SAMPLE_ROWS = 1 << 17  # stamps that a clock or a period is judged by
SAMPLE_RUNS = 32  # runs of neighbours that these come in
INDEX_FILE = "signals.json"
_LOWEST_NS = -(1 << 63)


class StampFile:
    """Pairs (sensor_ns, log_ns) of one stream on disk, in recorded order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows = path.stat().st_size // 16 if path.exists() else 0

    def read(self, start: int, stop: int) -> tuple[Ns, Ns]:
        """sensor_ns and log_ns of the rows [start, stop)."""
        stop = min(stop, self.rows)
        if stop <= start:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        pairs = np.fromfile(self._path, np.int64, 2 * (stop - start), offset=16 * start).reshape(-1, 2)
        return pairs[:, 0].copy(), pairs[:, 1].copy()

    def sample(self) -> tuple[Ns, Ns]:
        """All rows, or evenly spread runs of neighbours where there are more than SAMPLE_ROWS."""
        if self.rows <= SAMPLE_ROWS:
            return self.read(0, self.rows)
        length = SAMPLE_ROWS // SAMPLE_RUNS
        starts = np.linspace(0, self.rows - length, SAMPLE_RUNS).astype(int).tolist()
        runs = [self.read(start, start + length) for start in starts]
        return np.concatenate([run[0] for run in runs]), np.concatenate([run[1] for run in runs])

    def chunks(self) -> Iterator[tuple[Ns, Ns]]:
        for start in range(0, self.rows, SAMPLE_ROWS):
            yield self.read(start, start + SAMPLE_ROWS)


class SignalLog:
    """Takes samples batch by batch and writes them to `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: dict[tuple[str, tuple[str, ...]], int] = {}
        self._blocks: dict[int, list[int]] = defaultdict(list)
        self._waiting: dict[int, list[tuple[Ns, Ns, Array]]] = defaultdict(list)
        self._bytes = 0

    def add(self, topic: str, names: Sequence[str], sensor_ns: Ns, log_ns: Ns, values: Array) -> None:
        """Samples (N,) of the signals `names` (K,): values (N, K), in recorded order."""
        if len(sensor_ns) and names:
            number = self._numbers.setdefault((topic, tuple(names)), len(self._numbers))
            self._waiting[number].append((sensor_ns, log_ns, values))
            self._bytes += sensor_ns.nbytes + log_ns.nbytes + values.nbytes
            if self._bytes > BUFFER_BYTES:
                self._flush()

    def _flush(self) -> None:
        for number, parts in sorted(self._waiting.items()):
            stamps = np.concatenate([np.stack(part[:2], axis=1) for part in parts])
            values = np.concatenate([part[2] for part in parts])
            for name, data in (("stamps", stamps.astype(np.int64)), ("values", values.astype(np.float64))):
                with (self._folder / f"{number}.{name}").open("ab") as file:
                    data.tofile(file)
            self._blocks[number].append(len(stamps))
        self._waiting.clear()
        self._bytes = 0

    def close(self) -> None:
        """Write what waits, and the index; without it the folder holds no signals."""
        self._flush()
        groups = [
            {"topic": topic, "names": list(names), "blocks": self._blocks[number]}
            for (topic, names), number in self._numbers.items()
        ]
        (self._folder / INDEX_FILE).write_text(json.dumps(groups), "utf-8")


class Block(NamedTuple):
    """Rows [start, stop) of a group, the used time that they cover, and the latest time before them."""

    start: int
    stop: int
    first_ns: int
    last_ns: int
    before_ns: int


class SignalGroup:
    """Signals of one kind of message, readable by time.

    Attributes:
        topic, names: where they come from and what they are called.
        samples, late: rows in all, and those that came later than the watermark.
        period_ns: median spacing of used stamps, by at most SAMPLE_ROWS of them; 0 where unknown.
        first_ns, last_ns: the used time of the earliest and the latest row that is not dropped.
    """

    def __init__(
        self, folder: Path, number: int, topic: str, names: Sequence[str], blocks: Sequence[int],
        clock: TopicClock, policy: SyncPolicy,
    ) -> None:  # fmt: skip
        self.topic, self.names = topic, tuple(names)
        self._stamps = StampFile(folder / f"{number}.stamps")
        self._values = folder / f"{number}.values"
        self._clock, self._ahead_ns = clock, policy.max_ahead_ns
        self._watermark_ns = policy.watermark_ns if policy.out_of_order == "drop" else None
        self.samples, self.late = self._stamps.rows, 0
        self._blocks: list[Block] = []
        before_ns, start = _LOWEST_NS, 0
        for rows in blocks:
            sensor_ns, log_ns = self._stamps.read(start, start + rows)
            used_ns = clock.used_ns(sensor_ns, log_ns)
            lag_ns, reach_ns = lags_ns(used_ns, log_ns, self._ahead_ns, before_ns)
            self.late += int((lag_ns > policy.watermark_ns).sum())
            kept_ns = used_ns[self._kept(lag_ns)]
            if len(kept_ns):
                span = int(kept_ns.min()), int(kept_ns.max())
                self._blocks.append(Block(start, start + rows, *span, before_ns))
            before_ns, start = reach_ns, start + rows
        self.first_ns = min((block.first_ns for block in self._blocks), default=0)
        self.last_ns = max((block.last_ns for block in self._blocks), default=0)
        gaps = np.diff(np.sort(clock.used_ns(*self._stamps.sample())))
        self.period_ns = int(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 0

    def _kept(self, lag_ns: Ns) -> np.ndarray:
        watermark_ns = self._watermark_ns
        return np.ones(len(lag_ns), np.bool_) if watermark_ns is None else lag_ns <= watermark_ns

    def window(self, start_ns: int, end_ns: int) -> tuple[Ns, Array]:
        """Used stamps (N,) and values (N, len(names)) of the closed time [start_ns, end_ns]."""
        stamps: list[Ns] = [np.empty(0, np.int64)]
        values: list[Array] = [np.empty((0, len(self.names)))]
        for block in self._blocks:
            if block.first_ns <= end_ns and block.last_ns >= start_ns:
                sensor_ns, log_ns = self._stamps.read(block.start, block.stop)
                used_ns = self._clock.used_ns(sensor_ns, log_ns)
                kept = self._kept(lags_ns(used_ns, log_ns, self._ahead_ns, block.before_ns)[0])
                inside = kept & (used_ns >= start_ns) & (used_ns <= end_ns)
                stamps.append(used_ns[inside])
                values.append(self._read_values(block)[inside])
        return np.concatenate(stamps), np.concatenate(values)

    def _read_values(self, block: Block) -> Array:
        width = len(self.names)
        count, offset = width * (block.stop - block.start), 8 * width * block.start
        return np.fromfile(self._values, np.float64, count, offset=offset).reshape(-1, width)


class SignalStore:
    """All signals of a drive by name.

    Where two topics give one canonical name, the one that stands first in `topics` wins: mixing sources would
    make jumps. Several groups of that topic (frames of one bus) are taken together.

    Attributes:
        groups: all groups, those that lost a name included.
    """

    def __init__(
        self, folder: Path, topics: Sequence[str], clocks: Mapping[str, TopicClock], policy: SyncPolicy
    ) -> None:
        entries = json.loads((folder / INDEX_FILE).read_text("utf-8"))
        rank = {topic: number for number, topic in enumerate(topics)}
        self.groups = [
            SignalGroup(
                folder, number, e["topic"], e["names"], e["blocks"], clocks[e["topic"]], policy
            )
            for number, e in enumerate(entries)
        ]  # fmt: skip
        self._of: dict[str, list[SignalGroup]] = {}
        for group in sorted(self.groups, key=lambda group: rank[group.topic]):
            for name in group.names:
                owner = self._of.setdefault(name, [])
                if not owner or owner[0].topic == group.topic:
                    owner.append(group)

    def names(self) -> list[str]:
        return sorted(self._of)

    def groups_of(self, name: str) -> list[SignalGroup]:
        return self._of[name]

    def source(self, name: str) -> str:
        return self._of[name][0].topic

    def reader(self, start_ns: int, end_ns: int) -> Callable[[str], tuple[Ns, Array]]:
        """name -> used stamps and values of the closed window; each group is read once."""
        held: dict[int, tuple[Ns, Array]] = {}

        def series(name: str) -> tuple[Ns, Array]:
            stamps, values = [], []
            for group in self._of[name]:
                if id(group) not in held:
                    held[id(group)] = group.window(start_ns, end_ns)
                found_ns, table = held[id(group)]
                stamps.append(found_ns)
                values.append(table[:, group.names.index(name)])
            return np.concatenate(stamps), np.concatenate(values)

        return series
