"""What is wrong with the clock that wrote a stream's stamps, judged against the recorder's.

Offset means log time minus sensor time. A clock that runs fast, or jumps ahead, lowers it.
Belongs here: measuring and naming one clock. Does not belong here: repairing it (`repairs`), rules of
the integrity report (`rules`), pictures (`plot`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np

from av_assets.domain.logs.clocks.domains import Domain, domain_of, explain
from av_assets.domain.logs.clocks.fits import (
    SERIES_POINTS,
    disorder,
    fit_offsets,
    middle,
    segment_levels,
    series_of,
)
from av_assets.domain.logs.clocks.lines import NANOSECONDS
from av_assets.domain.logs.clocks.repairs import ClockRepair, exchanged, repair_clock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.domain.logs.clocks.fits import Fit
    from av_assets.policies.clocks import Classification, ClockPolicy

    Ns = NDArray[np.int64]
    Floats = NDArray[np.float64]

__all__ = ["ClockFinding", "ClockRepair", "ClockStep", "Domain", "examine_clock", "repair_clock"]

# Differences of two clipped times fit int64; the first is in 2096.
LATEST_NS, EARLIEST_NS = 4_000_000_000_000_000_000, -100_000_000_000_000_000
EXCHANGED_SHARE = 0.95


@dataclass(frozen=True)
class ClockStep:
    """The sensor's clock jumps ahead by `size_ns` (back where negative) before the message of `log_ns`."""

    log_ns: int
    size_ns: int


@dataclass(frozen=True)
class ClockFinding:
    """One clock.

    offset_ns: median, fields in order and steps taken out (relative to the segment nearest to log time).
    base_ns: lower envelope at first_log_ns: the offset of a message that arrives at once.
    delay_ns: median delay in transport as far as stamps tell: the offset itself where the clocks agree, else
    what exceeds the lower envelope.
    drift_ppm: positive where the sensor's clock runs fast, with its interval (None: too little to say);
    `drifts` only where that is sure and adds up. anchor_ns: log time at which the line comes nearest to log
    time; a drift is taken out about it.
    levels: (log_ns, ns to add from there on) that take the steps out.
    backward: all steps back; backward_unexplained: those that neither a step of the clock nor a stray makes.
    strays: single stamps far ahead or of another epoch.
    series: bounded, (log_ns, low offset, high offset) of windows.
    """

    count: int
    classification: Classification = "none"
    domain: Domain = "none"
    offset_ns: int = 0
    base_ns: int = 0
    delay_ns: int = 0
    jitter_ns: int = 0
    drift_ppm: float = 0.0
    drift_low_ppm: float | None = None
    drift_high_ppm: float | None = None
    drifts: bool = False
    leap_ns: int = 0
    first_log_ns: int = 0
    last_log_ns: int = 0
    anchor_ns: int = 0
    backward: int = 0
    backward_unexplained: int = 0
    duplicates: int = 0
    strays: int = 0
    held_share: float = 0.0
    longest_hold_s: float = 0.0
    steps: tuple[ClockStep, ...] = ()
    levels: tuple[tuple[int, int], ...] = ()
    series: tuple[tuple[int, int, int], ...] = ()

    @property
    def slope(self) -> float:
        """Of the offset over log time, ns per ns."""
        return -self.drift_ppm * 1e-6

    @property
    def largest_step_ns(self) -> int:
        return max((abs(step.size_ns) for step in self.steps), default=0)

    def to_dict(self) -> dict[str, object]:
        """JSON-able."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["steps"] = [vars(step) for step in self.steps]
        return values | {name: [list(row) for row in values[name]] for name in ("levels", "series")}


def examine_clock(log_ns: Ns, sensor_ns: Ns, policy: ClockPolicy) -> ClockFinding:
    """Judge the stamps of one stream.

    Args:
        log_ns, sensor_ns: (N,) int64 in recorded order. Where they differ in length, not every message has a
            stamp, and the class is `none`.

    Time is O(N) with a few sorts of at most `max_windows` squared slopes, memory a few arrays of N.
    """
    log, sensor = np.asarray(log_ns, np.int64), np.asarray(sensor_ns, np.int64)
    if not len(log) or len(log) != len(sensor):
        return ClockFinding(len(sensor))
    log, sensor = np.clip(log, 0, LATEST_NS), np.clip(sensor, EARLIEST_NS, LATEST_NS)
    held = _held(log, sensor)
    if name := _standing(log, sensor, held, policy):
        return _without_line(name, log, sensor, held)
    plain, sense = exchanged(log, sensor)
    swapped = bool(sense.mean() >= EXCHANGED_SHARE)
    return _running(log, plain if swapped else sensor, swapped, held, policy)


@dataclass(frozen=True)
class _Held:
    """How long stamps stood still: share of log time, longest hold, repeated stamps, messages of the hold."""

    share: float
    longest_s: float
    duplicates: int
    messages: int


def _held(log: Ns, sensor: Ns) -> _Held:
    same = np.diff(sensor) == 0
    passed = np.maximum(np.diff(log), 0)
    total = int(passed.sum())
    share = float(passed[same].sum()) / total if total else float(same.mean()) if len(same) else 0.0
    first = np.concatenate([[0], np.flatnonzero(~same) + 1])
    last = np.concatenate([first[1:] - 1, [len(log) - 1]])
    hold = log[last] - log[first]
    longest = int(hold.argmax())
    messages = int(last[longest] - first[longest] + 1)
    return _Held(share, float(hold[longest]) / NANOSECONDS, int(same.sum()), messages)


def _standing(log: Ns, sensor: Ns, held: _Held, policy: ClockPolicy) -> Literal["zero", "frozen", ""]:
    if 2 * int((sensor == 0).sum()) > len(sensor) and np.median(log) > policy.max_offset_s * NANOSECONDS:
        return "zero"
    enough = held.duplicates + 1 >= policy.frozen_messages
    longest = held.longest_s > policy.max_held_s and held.messages >= policy.frozen_messages
    return "frozen" if longest or (enough and held.share >= policy.frozen_share) else ""


def _without_line(name: Literal["zero", "frozen"], log: Ns, sensor: Ns, held: _Held) -> ClockFinding:
    offset = log - sensor
    every = np.linspace(0, len(log) - 1, min(len(log), SERIES_POINTS)).astype(int)
    return ClockFinding(
        len(log),
        name,
        "zero" if name == "zero" else domain_of(middle(log), middle(sensor)),
        offset_ns=middle(offset),
        base_ns=int(offset.min()),
        first_log_ns=int(log.min()),
        last_log_ns=int(log.max()),
        anchor_ns=int(log.min()),
        backward=int((np.diff(sensor) < 0).sum()),
        duplicates=held.duplicates,
        held_share=round(held.share, 6),
        longest_hold_s=round(held.longest_s, 6),
        series=tuple((int(log[i]), int(offset[i]), int(offset[i])) for i in every),
    )


def _running(log: Ns, sensor: Ns, swapped: bool, held: _Held, policy: ClockPolicy) -> ClockFinding:
    order = np.argsort(log, kind="stable")
    ordered = log[order]
    fit = fit_offsets(ordered, (log - sensor)[order], policy)
    levels, base_ns = segment_levels(ordered, fit)
    starts = np.array([start for start, _ in levels], np.int64)
    added = np.array([add for _, add in levels], np.int64)
    smooth = sensor + added[np.clip(np.searchsorted(starts, log, "right") - 1, 0, None)]
    offset_ns = middle(log - smooth)
    nearest_ns = _nearest(base_ns, ordered, fit)[1] if fit.drifts else offset_ns
    domain, leap_ns = explain(nearest_ns, middle(log), middle(smooth), policy)
    near = abs(offset_ns) <= policy.max_offset_s * NANOSECONDS
    low_ppm, high_ppm = [
        None if not np.isfinite(v) else round(-v * 1e6, 4) for v in (fit.line.high, fit.line.low)
    ]
    above = float(np.median(log - smooth - base_ns))
    unexplained, strays = disorder(log, smooth, order, base_ns, fit, policy)
    return ClockFinding(
        count=len(log),
        classification=_named(nearest_ns, leap_ns, domain, swapped, fit, policy),
        domain=domain,
        offset_ns=offset_ns,
        base_ns=base_ns,
        delay_ns=max(0, offset_ns if near and offset_ns > 0 else round(above)),
        jitter_ns=round(float(np.median(np.abs(log - smooth - offset_ns)))),
        drift_ppm=round(-fit.line.slope * 1e6, 4),
        drift_low_ppm=low_ppm,
        drift_high_ppm=high_ppm,
        drifts=fit.drifts,
        leap_ns=leap_ns,
        first_log_ns=int(ordered[0]),
        last_log_ns=int(ordered[-1]),
        anchor_ns=_nearest(base_ns, ordered, fit)[0],
        backward=int((np.diff(sensor) < 0).sum()),
        backward_unexplained=unexplained,
        duplicates=held.duplicates,
        strays=strays,
        held_share=round(held.share, 6),
        longest_hold_s=round(held.longest_s, 6),
        steps=tuple(ClockStep(step.log_ns, -round(step.size_ns)) for step in fit.steps),
        levels=levels,
        series=series_of(fit),
    )


def _nearest(base_ns: int, log: Ns, fit: Fit) -> tuple[int, int]:
    """(log_ns, offset) where the line through the envelope comes nearest to log time."""
    first, span = int(log[0]), int(log[-1]) - int(log[0])
    end_ns = base_ns + round(fit.line.slope * span)
    if not fit.drifts or (abs(base_ns) <= abs(end_ns) and base_ns * end_ns >= 0):
        return first, base_ns
    if base_ns * end_ns < 0:
        return first + round(-base_ns / fit.line.slope), 0
    return first + span, end_ns


def _named(
    offset_ns: int, leap_ns: int, domain: Domain, swapped: bool, fit: Fit, policy: ClockPolicy
) -> Classification:
    offset_s = offset_ns / NANOSECONDS
    if swapped:
        return "swapped"
    if leap_ns:
        return "gps_leap"
    if abs(offset_s) > policy.max_offset_s:
        return "uptime" if domain == "uptime" else "foreign"
    if fit.steps:
        return "step"
    if fit.drifts:
        return "drift"
    if abs(offset_s) > policy.late_s:
        return "late" if offset_s > 0 else "early"
    return "healthy"
