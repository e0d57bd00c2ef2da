"""The times of one topic in bounded memory: exact extremes and counts, and a thinned copy for everything else.

Belongs here: folding log and sensor times of a stream, chunk by chunk. Does not belong here: where the times come
from (`stream_stats`), judging them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_MESSAGES = 8192
MAX_THINNED = 131_072  # up to so many messages nothing is left out
MAX_KEPT_CHUNKS = MAX_THINNED // CHUNK_MESSAGES
MAX_HOLES = 1000
BURST = 0.5  # median step below this share of the mean step
MARKED = 64  # jumps of the clock offset that thinning keeps, per chunk
NANOSECONDS = 1_000_000_000


class TimeTrack:
    """Folded times of one topic; all of it exact except `step_ns`, `log_ns` and `sensor_ns` of long topics.

    Attributes:
        count: messages. first_ns, last_ns: log time of the first and the last.
        stamped: whether every message carried a stamp; without one, all that concerns sensor time is empty.
        back, same: sensor stamps less than, and equal to, the one before.
        longest_ns, longest_at_ns: the longest step of log time, and where it starts.
        slowest_ns: the longest mean step over `window_s`, 0 where the topic is shorter or slower than that.
        bins: messages per bin of the timeline, int64 (bins,).
    """

    def __init__(self, start_ns: int, end_ns: int, bins: int, window_s: float) -> None:
        self.count, self.first_ns, self.last_ns = 0, 0, 0
        self.stamped, self.back, self.same = True, 0, 0
        self.longest_ns, self.longest_at_ns, self.slowest_ns = 0, 0, 0.0
        self.bins = np.zeros(bins, dtype=np.int64)
        self._span = (start_ns, max(1, end_ns - start_ns))
        self._window_s, self._window = window_s, 0
        self._tail = np.empty(0, np.int64)  # log times before the next chunk, for windows
        self._last_sensor: int | None = None
        self._chunks, self._every = 0, 1
        self._steps: list[tuple[int, NDArray[np.int64]]] = []
        self._largest: NDArray[np.int64] = np.empty((0, 2), np.int64)  # step, start
        self._stride, self._held = 1, 0
        self._thinned: list[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]] = []

    def fold(self, log_ns: NDArray[np.int64], sensor_ns: NDArray[np.int64] | None) -> None:
        """Take the next messages in log time order; `sensor_ns` None where one of them has no stamp."""
        if not len(log_ns):
            return
        before = self._tail[-1:]
        steps = np.diff(np.concatenate([before, log_ns]))
        starts = np.concatenate([before, log_ns])[: len(steps)]
        if not self.count:
            self.first_ns = int(log_ns[0])
        self.last_ns = int(log_ns[-1])
        self._fold_steps(steps, starts)
        self._fold_windows(log_ns, steps)
        self._fold_bins(log_ns)
        self.stamped = self.stamped and sensor_ns is not None
        marked = self._fold_stamps(log_ns, sensor_ns) if sensor_ns is not None and self.stamped else None
        self._thin(log_ns, sensor_ns if self.stamped else None, marked)
        self.count += len(log_ns)

    def _fold_steps(self, steps: NDArray[np.int64], starts: NDArray[np.int64]) -> None:
        if not len(steps):
            return
        top = int(steps.argmax())
        if steps[top] > self.longest_ns:
            self.longest_ns, self.longest_at_ns = int(steps[top]), int(starts[top])
        cut = max(0, len(steps) - MAX_HOLES)
        top_steps = np.argpartition(steps, cut)[cut:]
        largest = np.concatenate([self._largest, np.stack([steps[top_steps], starts[top_steps]], axis=1)])
        order = np.argsort(largest[:, 0], kind="stable")[-MAX_HOLES:]
        self._largest = largest[order]
        # Whole chunks are kept, not single steps: bursts would be sampled at one phase otherwise.
        if self._chunks % self._every == 0:
            self._steps.append((self._chunks, steps))
        self._chunks += 1
        if len(self._steps) > MAX_KEPT_CHUNKS:
            self._every *= 2
            self._steps = [kept for kept in self._steps if kept[0] % self._every == 0]

    def _fold_windows(self, log_ns: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
        if not self._window and len(steps):
            median = max(1.0, float(np.median(steps)))
            self._window = int(np.clip(np.ceil(self._window_s * NANOSECONDS / median), 4, CHUNK_MESSAGES))
        together = np.concatenate([self._tail, log_ns])
        if self._window and len(together) > self._window:
            longest = int((together[self._window :] - together[: -self._window]).max())
            self.slowest_ns = max(self.slowest_ns, longest / self._window)
        self._tail = together[-max(1, self._window) :].copy()

    def _fold_bins(self, log_ns: NDArray[np.int64]) -> None:
        start_ns, span_ns = self._span
        place = ((log_ns - start_ns).astype(np.float64) / span_ns * len(self.bins)).astype(np.int64)
        self.bins += np.bincount(np.clip(place, 0, len(self.bins) - 1), minlength=len(self.bins))

    def _fold_stamps(self, log_ns: NDArray[np.int64], sensor_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts what stamps do; gives the places of the largest jumps of the offset."""
        last = self._last_sensor
        before = np.empty(0, np.int64) if last is None else np.array([last], np.int64)
        steps = np.diff(np.concatenate([before, sensor_ns]))
        self.back += int((steps < 0).sum())
        self.same += int((steps == 0).sum())
        self._last_sensor = int(sensor_ns[-1])
        jumps = np.abs(np.diff(log_ns - sensor_ns))
        return np.argpartition(jumps, -MARKED)[-MARKED:] if len(jumps) > MARKED else np.arange(len(jumps))

    def _thin(
        self,
        log_ns: NDArray[np.int64],
        sensor_ns: NDArray[np.int64] | None,
        marked: NDArray[np.int64] | None,
    ) -> None:
        """Every stride-th message, and both sides of the largest jumps."""
        special = np.zeros(len(log_ns), dtype=np.bool_)
        special[[0, -1]] = True
        if marked is not None:
            special[marked] = special[marked + 1] = True
        times = np.stack([log_ns, log_ns if sensor_ns is None else sensor_ns])
        index = np.arange(self.count, self.count + len(log_ns))
        self._thinned.append(_picked(index, special, times, self._stride))
        self._held += len(self._thinned[-1][0])
        while self._held > MAX_THINNED and self._stride < CHUNK_MESSAGES:
            self._stride *= 2
            self._thinned = [_picked(*held, self._stride) for held in self._thinned]
            self._held = sum(len(held[0]) for held in self._thinned)

    @property
    def step_ns(self) -> float:
        """Median step of log time; 0 below two messages."""
        steps = [steps for _, steps in self._steps]
        return float(np.median(np.concatenate(steps))) if steps else 0.0

    @property
    def in_bursts(self) -> bool:
        """Whether several messages come at once, so that the median step is no period."""
        return self.step_ns < BURST * (self.last_ns - self.first_ns) / max(1, self.count - 1)

    @property
    def exact(self) -> bool:
        """Whether `log_ns` and `sensor_ns` are all times."""
        return self._stride == 1

    @property
    def log_ns(self) -> NDArray[np.int64]:
        """Log times: all, or thinned evenly with both sides of large clock jumps kept."""
        return self._times(0)

    @property
    def sensor_ns(self) -> NDArray[np.int64]:
        """Sensor times of the same messages as `log_ns`; empty without stamps."""
        return self._times(1) if self.stamped else np.empty(0, np.int64)

    def _times(self, row: int) -> NDArray[np.int64]:
        parts = [times[row] for _, _, times in self._thinned]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def holes(self, longer_than_ns: float) -> list[list[int]]:
        """Pauses [start_ns, end_ns] in time order, at most the MAX_HOLES longest."""
        chosen = self._largest[self._largest[:, 0] > longer_than_ns]
        return sorted([int(start), int(start + step)] for step, start in chosen)


def _picked(index: NDArray[np.int64], special: NDArray[np.bool_], times: NDArray[Any], stride: int) -> Any:
    keep = special | (index % stride == 0)
    return index[keep], special[keep], times[:, keep]
