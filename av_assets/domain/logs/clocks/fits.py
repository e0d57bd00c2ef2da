"""One series of offsets explained: steps, then a line through what remains.

Belongs here: the order in which steps and slope are found, and what they leave. Does not belong here: naming.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.logs.clocks.domains import YEAR_2000_S
from av_assets.domain.logs.clocks.lines import NANOSECONDS, envelope, fit_line
from av_assets.domain.logs.clocks.steps import Step, confirmed, find_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from av_assets.domain.logs.clocks.lines import Line, Ns, Windows
    from av_assets.policies.clocks import ClockPolicy

SERIES_POINTS = 120
EARLY_FACTOR = 3  # a message cannot arrive before it is stamped: such a segment is less likely the right one


def middle(values: Ns) -> int:
    """The upper median: an element, because the mean of two nanosecond stamps does not fit a float."""
    return int(np.partition(values, len(values) // 2)[len(values) // 2])


@dataclass(frozen=True)
class Fit:
    """Steps, line and lower envelope of one series, offsets less `centre_ns`."""

    centre_ns: int
    steps: tuple[Step, ...]
    line: Line
    windows: Windows
    drifts: bool


def fit_offsets(log: Ns, offset_ns: Ns, policy: ClockPolicy) -> Fit:
    centre = middle(offset_ns)
    relative = (offset_ns - centre).astype(np.float64)
    steps = find_steps(log, relative, policy)
    windows = envelope(log, relative, [step.first for step in steps], policy)
    line = fit_line(windows, policy.drift_confidence)
    if steps:
        slope = line.slope if np.isfinite(line.low) and line.low * line.high > 0 else 0.0
        steps = confirmed(steps, log, relative, slope, policy)
        windows = envelope(log, relative, [step.first for step in steps], policy)
        line = fit_line(windows, policy.drift_confidence)
    return Fit(centre, steps, line, windows, _drifts(line, windows, steps, policy))


def _drifts(line: Line, windows: Windows, steps: Sequence[Step], policy: ClockPolicy) -> bool:
    """Sure of its sign and size, large enough to matter, and larger than what the envelope scatters."""
    if not np.isfinite(line.low) or line.low * line.high <= 0:
        return False
    smallest_ppm = min(abs(line.low), abs(line.high)) * 1e6
    passed = (windows.log_ns - windows.log_ns[0]).astype(np.float64)
    total_ns = abs(line.slope) * float(passed[-1])
    level = np.concatenate([[0.0], np.cumsum([step.size_ns for step in steps])])
    rest = windows.low_ns - level[windows.segment] - line.slope * passed
    scatter_ns = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
    enough_ns = max(policy.min_drift_s * NANOSECONDS, 3 * scatter_ns)
    return smallest_ppm >= policy.min_drift_ppm and total_ns >= enough_ns


def segment_levels(log: Ns, fit: Fit) -> tuple[tuple[tuple[int, int], ...], int]:
    """(log_ns, ns to add to sensor stamps from there on) so that every segment agrees with the one nearest to
    log time (EARLY_FACTOR counted in); and that one's lower envelope, at the first log time."""
    level = np.concatenate([[0.0], np.cumsum([step.size_ns for step in fit.steps])])
    slope = fit.line.slope if fit.drifts else 0.0
    passed = (fit.windows.log_ns - log[0]).astype(np.float64)
    base = float(np.median(fit.windows.low_ns - level[fit.windows.segment] - slope * passed))
    offsets = [fit.centre_ns + round(base + one) for one in level]
    best = min(
        range(len(offsets)), key=lambda i: (abs(offsets[i]) * (1 if offsets[i] >= 0 else EARLY_FACTOR), i)
    )
    starts = [int(log[0]), *(step.log_ns for step in fit.steps)]
    levels = tuple((start, round(one - level[best])) for start, one in zip(starts, level, strict=True))
    return levels, offsets[best]


def series_of(fit: Fit) -> tuple[tuple[int, int, int], ...]:
    windows = fit.windows
    every = np.linspace(0, len(windows.log_ns) - 1, min(len(windows.log_ns), SERIES_POINTS)).astype(int)
    low, high = np.rint(windows.low_ns).astype(np.int64), np.rint(windows.high_ns).astype(np.int64)
    return tuple(
        (int(windows.log_ns[i]), int(low[i]) + fit.centre_ns, int(high[i]) + fit.centre_ns) for i in every
    )


def disorder(
    log: Ns, smooth: Ns, order: NDArray[np.intp], base_ns: int, fit: Fit, policy: ClockPolicy
) -> tuple[int, int]:
    """Steps back that are no step of the clock, and stray stamps: far ahead of log time, or of another epoch
    than the rest. A stamp that is merely old is no stray, for a message may wait (latched topics do)."""
    jump_ns = policy.max_jump_s * NANOSECONDS
    slope = fit.line.slope if fit.drifts else 0.0
    passed = (log - log[order[0]]).astype(np.float64)
    rest = (log - smooth - base_ns).astype(np.float64) - slope * passed
    epoch_ns = YEAR_2000_S * NANOSECONDS
    other = (smooth < epoch_ns) & (rest > jump_ns) & (middle(smooth) >= epoch_ns)
    stray = (rest < -jump_ns) | other
    back = (np.diff(smooth) < 0) & ~stray[1:] & ~stray[:-1]
    return int(back.sum()), int(stray.sum())
