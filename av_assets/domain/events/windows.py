"""Arithmetic that all detectors share: smoothing, hysteresis, durations, merging.

Times are int64 ns and may be unevenly spaced; nothing here depends on the sample rate.
Belongs here: operations on one signal. Does not belong here: what a threshold means (the detectors).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from av_assets.policies.events import EventsPolicy

Array = NDArray[np.float64]
Ns = NDArray[np.int64]
Mask = NDArray[np.bool_]
NS_PER_S = 1_000_000_000
_REACH_SIGMAS = 4.0
_BLOCK_ROWS, _BLOCK_CELLS = 4096, 1 << 20
MAX_SAMPLES = 20


class Event(NamedTuple):
    """One found event. `peak` is the figure that decided, `evidence` the numbers behind it (plain JSON
    values), `tags` the words to find it by."""

    kind: str
    level: int
    start_ns: int
    end_ns: int
    peak: float
    evidence: Mapping[str, Any]
    tags: tuple[str, ...] = ()


class Window(NamedTuple):
    """Samples first..last (both inside) of a signal."""

    first: int
    last: int


def smooth(times_ns: Ns, values: Array, cutoff_hz: float, median_s: float = 0.0) -> Array:
    """Zero-phase low-pass: a Gaussian in time with -3 dB at cutoff_hz, after a median over median_s. NaN
    stay NaN.

    sigma = sqrt(ln 2) / (2 pi f), from |H(f)| = exp(-(2 pi f sigma)^2 / 2) = 2^-1/2.
    """
    sigma_ns = float(np.sqrt(np.log(2.0)) / (2 * np.pi * cutoff_hz) * NS_PER_S)
    finite = np.isfinite(values)
    times = times_ns[finite]
    clean = _median(times, values[finite], median_s)
    smoothed = np.empty(len(times))
    for rows, columns, inside in _neighbours(times, round(_REACH_SIGMAS * sigma_ns)):
        away = (times[columns] - times[rows, None]) / sigma_ns
        weights = np.where(inside, np.exp(-0.5 * away**2), 0.0)
        smoothed[rows] = (weights * clean[columns]).sum(axis=1) / weights.sum(axis=1)
    result = np.full(len(values), np.nan)
    result[finite] = smoothed
    return result


def _median(times_ns: Ns, values: Array, window_s: float) -> Array:
    result = np.empty(len(values))
    for rows, columns, inside in _neighbours(times_ns, round(window_s * NS_PER_S / 2)):
        ordered = np.sort(np.where(inside, values[columns], np.inf), axis=1)
        count, row = inside.sum(axis=1), np.arange(len(ordered))
        # As np.median: the mean of the two in the middle, which are one where the count is odd.
        result[rows] = (ordered[row, (count - 1) // 2] + ordered[row, count // 2]) / 2
    return result


def _neighbours(times_ns: Ns, reach_ns: int) -> Iterator[tuple[slice, Ns, Mask]]:
    """For blocks of samples: their rows (R,), the samples within reach of each (R, W), and which are real."""
    low = np.searchsorted(times_ns, times_ns - reach_ns, side="left")
    high = np.searchsorted(times_ns, times_ns + reach_ns, side="right")
    start = 0
    while start < len(times_ns):
        # The widest window decides how many rows fit into a block, so that memory stays bounded.
        stop = min(len(times_ns), start + _BLOCK_ROWS)
        width = int((high[start:stop] - low[start:stop]).max())
        stop = min(stop, start + max(1, _BLOCK_CELLS // width))
        columns = low[start:stop, None] + np.arange(width)
        inside = columns < high[start:stop, None]
        yield slice(start, stop), np.minimum(columns, len(times_ns) - 1), inside
        start = stop


def hysteresis(times_ns: Ns, values: Array, enter: float, leave: float, max_gap_s: float) -> list[Window]:
    """Stretches that reach `enter` (>=) and last while values stay at or above `leave` (<= enter).

    NaN and holes longer than max_gap_s end a stretch.
    """
    held = np.isfinite(values) & (values >= leave)
    return [w for w in runs(times_ns, held, max_gap_s) if np.any(values[w.first : w.last + 1] >= enter)]


def runs(times_ns: Ns, mask: Mask, max_gap_s: float) -> list[Window]:
    """Stretches of True without holes longer than max_gap_s between neighbouring samples."""
    inside = np.flatnonzero(mask)
    if not len(inside):
        return []
    broken = (np.diff(inside) > 1) | (np.diff(times_ns[inside]) > max_gap_s * NS_PER_S)
    starts = np.concatenate([[0], np.flatnonzero(broken) + 1])
    ends = np.concatenate([starts[1:] - 1, [len(inside) - 1]])
    return [Window(int(inside[a]), int(inside[b])) for a, b in zip(starts, ends, strict=True)]


def merge(times_ns: Ns, windows: Sequence[Window], gap_s: float) -> list[Window]:
    """Windows in time order, those less than gap_s apart joined."""
    merged: list[Window] = []
    for window in windows:
        if merged and times_ns[window.first] - times_ns[merged[-1].last] < gap_s * NS_PER_S:
            merged[-1] = Window(merged[-1].first, window.last)
        else:
            merged.append(window)
    return merged


def crossing_ns(
    times_ns: Ns, values: Array, inside: int, outside: int, threshold: float, max_gap_s: float
) -> int:
    """When the straight line between two neighbouring samples meets the threshold.

    Used at both ends of a window, so that its length does not shrink as samples get sparser. Without a usable
    neighbour: the time of the inner sample.
    """
    if not 0 <= outside < len(values) or not np.isfinite(values[outside]):
        return int(times_ns[inside])
    if abs(int(times_ns[outside]) - int(times_ns[inside])) > max_gap_s * NS_PER_S:
        return int(times_ns[inside])
    step = values[inside] - values[outside]
    share = 0.0 if step == 0 else float(np.clip((values[inside] - threshold) / step, 0.0, 1.0))
    return int(times_ns[inside] + round(share * int(times_ns[outside] - times_ns[inside])))


def duration_s(start_ns: int, end_ns: int) -> float:
    return (end_ns - start_ns) / NS_PER_S


def levelled(
    times_ns: Ns, values: Array, levels: Sequence[float], min_duration_s: float, policy: EventsPolicy
) -> list[tuple[Window, int, float]]:
    """Stretches (window, level, seconds held) of a smoothed signal that hold level 1 or more.

    A stretch begins at exit_share of the lowest threshold; its level is the highest whose threshold is held
    without a break for min_duration_s.
    """
    enter, leave = levels[0], levels[0] * policy.exit_share
    found = hysteresis(times_ns, values, enter, leave, policy.max_gap_s)
    graded = []
    for window in merge(times_ns, found, policy.merge_gap_s):
        for level in range(len(levels), 0, -1):
            held_s = longest_s(times_ns, values, window, levels[level - 1], policy.max_gap_s)
            if held_s is not None and held_s >= min_duration_s:
                graded.append((window, level, held_s))
                break
    return graded


def longest_s(
    times_ns: Ns, values: Array, window: Window, threshold: float, max_gap_s: float
) -> float | None:
    """Longest unbroken time at or above a threshold inside a window, to the crossings; None: not reached."""
    inside = np.zeros(len(values), np.bool_)
    inside[window.first : window.last + 1] = values[window.first : window.last + 1] >= threshold
    held = [
        duration_s(
            crossing_ns(times_ns, values, run.first, run.first - 1, threshold, max_gap_s),
            crossing_ns(times_ns, values, run.last, run.last + 1, threshold, max_gap_s),
        )
        for run in runs(times_ns, inside, max_gap_s)
    ]
    return max(held) if held else None


def from_entry(values: Array, window: Window, enter: float) -> Window:
    """The window from its first sample at or above `enter`: hysteresis then holds an event, and does not begin it."""
    return Window(window.first + int(np.argmax(values[window.first : window.last + 1] >= enter)), window.last)


def samples(times_ns: Ns, values: Array, window: Window, at: int) -> list[list[float]]:
    """At most MAX_SAMPLES pairs [ns, value] of a window, evenly thinned, the sample `at` among them; NaN left out."""
    rows = np.arange(window.first, window.last + 1)
    rows = rows[np.isfinite(values[rows])]
    if len(rows) > MAX_SAMPLES:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, MAX_SAMPLES - 1).round().astype(np.int64))]
        rows = np.union1d(rows, [at]) if np.isfinite(values[at]) else rows
    return [[int(times_ns[row]), round(float(values[row]), 4)] for row in rows.tolist()]
