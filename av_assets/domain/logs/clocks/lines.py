"""Drift and lower envelope of a series of offsets between two clocks.

The delay between a stamp and its arrival is never negative and has a heavy tail, so that least squares would
follow the tail. The lower envelope is what clocks agree on (Paxson 1998, "On calibrating measurements of
packet transit times"; Moon, Skelly and Towsley 1999): each window gives its low quantile, which also forgives
a few wild stamps, and the line is the median of pairwise slopes between windows (Theil 1950) with the interval
of Sen (1968).
Belongs here: lines through one series. Does not belong here: steps (`steps`), what a clock is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.policies.clocks import ClockPolicy

    Floats = NDArray[np.float64]
    Ns = NDArray[np.int64]

NANOSECONDS = 1_000_000_000
MIN_LINE_WINDOWS = 5


@dataclass(frozen=True)
class Line:
    """Slope of the offset over log time, ns per ns, with its interval (nan: too little to say)."""

    slope: float
    low: float
    high: float


@dataclass(frozen=True)
class Windows:
    """Lower envelope: (W,) log time, low and high quantile of the offset, and the segment of each."""

    log_ns: Ns
    low_ns: Floats
    high_ns: Floats
    segment: NDArray[np.intp]


def low_quantile(values: Floats, share: float) -> float:
    """The value at rank floor(share * (N - 1)): an element of the series, so that nothing is interpolated."""
    rank = int(share * (len(values) - 1))
    return float(np.partition(values, rank)[rank])


def window_edges(count: int, policy: ClockPolicy, most: int | None = None) -> list[tuple[int, int]]:
    """Ranges of nearly equal message counts."""
    windows = max(1, min(most or policy.max_windows, count // policy.window_messages))
    bounds = np.linspace(0, count, windows + 1).astype(int)
    return list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))


def envelope(log_ns: Ns, offset_ns: Floats, firsts: list[int], policy: ClockPolicy) -> Windows:
    """Windows that never reach over a step; `firsts`: index of the first message after each step."""
    bounds = [0, *firsts, len(log_ns)]
    rows: list[tuple[Any, ...]] = []
    for segment, (begin, end) in enumerate(pairwise(bounds)):
        share = max(1, round(policy.max_windows * (end - begin) / len(log_ns)))
        for a, b in window_edges(end - begin, policy, share):
            part = offset_ns[begin + a : begin + b]
            high = low_quantile(part, 1 - policy.low_quantile)
            middle = int(log_ns[begin + (a + b) // 2])
            rows.append((middle, low_quantile(part, policy.low_quantile), high, segment))
    columns = list(zip(*rows, strict=True))
    return Windows(
        np.array(columns[0], np.int64), np.array(columns[1]), np.array(columns[2]), np.array(columns[3])
    )


def fit_line(windows: Windows, confidence: float) -> Line:
    """Median of pairwise slopes within segments, and its interval (Sen 1968, segments as in the seasonal test
    of Hirsch, Slack and Smith 1982: variances of Kendall's S add up)."""
    counts = np.bincount(windows.segment)
    if counts.max() < MIN_LINE_WINDOWS:
        return Line(0.0, float("nan"), float("nan"))
    one, two = np.triu_indices(len(windows.log_ns), 1)
    seconds = (windows.log_ns - windows.log_ns[0]).astype(np.float64)
    use = (windows.segment[one] == windows.segment[two]) & (seconds[one] < seconds[two])
    one, two = one[use], two[use]
    if not len(one):
        return Line(0.0, float("nan"), float("nan"))
    slopes = np.sort((windows.low_ns[two] - windows.low_ns[one]) / (seconds[two] - seconds[one]))
    variance = float((counts * (counts - 1) * (2 * counts + 5)).sum()) / 18
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * variance**0.5
    low = int(np.clip((len(slopes) - reach) / 2, 0, len(slopes) - 1))
    high = int(np.clip(np.ceil((len(slopes) + reach) / 2), 0, len(slopes) - 1))
    return Line(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))
