"""Arithmetic that all detectors share: smoothing, hysteresis, durations, merging.

Times are int64 ns and may be unevenly spaced; nothing here depends on the sample rate. Belongs here:
operations on one
signal. Does not belong here: what a threshold means (driving, traffic).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = NDArray[np.float64]
Ns = NDArray[np.int64]
Mask = NDArray[np.bool_]
NS_PER_S = 1_000_000_000
_REACH_SIGMAS = 4.0


class Event(NamedTuple):
    """One found event. `peak` is the figure that decided, `evidence` the numbers behind it (plain JSON
    values)."""

    kind: str
    level: int
    start_ns: int
    end_ns: int
    peak: float
    evidence: Mapping[str, Any]


class Window(NamedTuple):
    """Samples first..last (both inside) of a signal."""

    first: int
    last: int


def smooth(times_ns: Ns, values: Array, cutoff_hz: float, median_s: float = 0.0) -> Array:
    """Zero-phase low-pass: a Gaussian in time with -3 dB at cutoff_hz, after a median over median_s. NaN
    stay NaN.

    sigma = sqrt(ln 2) / (2 pi f), from |H(f)| = exp(-(2 pi f sigma)^2 / 2) = 2^-1/2.
    """
    sigma_ns = np.sqrt(np.log(2.0)) / (2 * np.pi * cutoff_hz) * NS_PER_S
    finite = np.isfinite(values)
    result = np.full(len(values), np.nan)
    times, clean = times_ns[finite], _median(times_ns[finite], values[finite], median_s)
    low = np.searchsorted(times, times - round(_REACH_SIGMAS * sigma_ns), side="left")
    high = np.searchsorted(times, times + round(_REACH_SIGMAS * sigma_ns), side="right")
    smoothed = np.empty(len(times))
    for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        weights = np.exp(-0.5 * ((times[a:b] - times[i]) / sigma_ns) ** 2)
        smoothed[i] = weights @ clean[a:b] / weights.sum()
    result[finite] = smoothed
    return result


def _median(times_ns: Ns, values: Array, window_s: float) -> Array:
    half_ns = round(window_s * NS_PER_S / 2)
    low = np.searchsorted(times_ns, times_ns - half_ns, side="left").tolist()
    high = np.searchsorted(times_ns, times_ns + half_ns, side="right").tolist()
    return np.array([np.median(values[a:b]) for a, b in zip(low, high, strict=True)])


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


def crossing_ns(times_ns: Ns, values: Array, inside: int, outside: int, threshold: float) -> int:
    """When the straight line between two neighbouring samples meets the threshold.

    Used at both ends of a window, so that its length does not shrink as samples get sparser. Without a usable
    neighbour: the time of the inner sample.
    """
    if not 0 <= outside < len(values) or not np.isfinite(values[outside]):
        return int(times_ns[inside])
    step = values[inside] - values[outside]
    share = 0.0 if step == 0 else float(np.clip((values[inside] - threshold) / step, 0.0, 1.0))
    return int(times_ns[inside] + round(share * int(times_ns[outside] - times_ns[inside])))


def duration_s(start_ns: int, end_ns: int) -> float:
    return (end_ns - start_ns) / NS_PER_S


def value_at(times_ns: Ns, values: Array, at_ns: int, max_gap_s: float) -> float:
    """The value of the nearest finite sample, NaN where none is within max_gap_s."""
    usable = np.flatnonzero(np.isfinite(values))
    if not len(usable):
        return float("nan")
    nearest = usable[np.argmin(np.abs(times_ns[usable] - at_ns))]
    return (
        float(values[nearest])
        if abs(int(times_ns[nearest]) - at_ns) <= max_gap_s * NS_PER_S
        else float("nan")
    )
