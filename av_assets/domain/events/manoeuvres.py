"""Turns, hard cornering and lane changes of the ego vehicle.

Belongs here: manoeuvres told from speed and turn rate. Does not belong here: braking, other road users, maps.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.events.windows import (
    NS_PER_S,
    Array,
    Event,
    Ns,
    Window,
    duration_s,
    hysteresis,
    levelled,
    merge,
    runs,
    samples,
    smooth,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.policies.events import EventsPolicy

_SIDES = ((1.0, "left"), (-1.0, "right"))


class Heading(NamedTuple):
    """Speed, smoothed turn rate (left positive), and their integrals over time (N,) each; NaN where unknown.

    heading_rad and way_m grow by nothing across holes: differences are used inside unbroken stretches only.
    """

    times_ns: Ns
    speed_mps: Array
    rate_radps: Array
    heading_rad: Array
    way_m: Array


def heading(times_ns: Ns, speed_mps: Array, yaw_rate_radps: Array, policy: EventsPolicy) -> Heading:
    """Smooth the turn rate, and integrate turn rate and speed by trapezoids."""
    rate = smooth(times_ns, yaw_rate_radps, policy.smoothing_hz, policy.median_s)
    step_s = np.diff(times_ns) / NS_PER_S
    return Heading(times_ns, speed_mps, rate, _integral(step_s, rate), _integral(step_s, speed_mps))


def _integral(step_s: Array, values: Array) -> Array:
    area = (values[1:] + values[:-1]) / 2 * step_s
    return np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(area), area, 0.0))])[: len(values)]


def turns(motion: Heading, policy: EventsPolicy) -> list[Event]:
    """Stretches of turn rate to one side that change the heading by levels_rad: 1 a turn, 2 a U-turn.

    `peak` is the heading change in radians (positive). Bends wider than max_radius_m and slow manoeuvring are none.
    """
    limits = policy.turn
    events = []
    for sign, side in _SIDES:
        rate = np.where(np.isfinite(motion.speed_mps), sign * motion.rate_radps, np.nan)
        leave = limits.rate_radps * policy.exit_share
        found = hysteresis(motion.times_ns, rate, limits.rate_radps, leave, policy.max_gap_s)
        for window in merge(motion.times_ns, found, policy.merge_gap_s):
            changed = sign * float(motion.heading_rad[window.last] - motion.heading_rad[window.first])
            level = sum(changed >= threshold for threshold in limits.levels_rad)
            start_ns, end_ns = _span(motion.times_ns, window)
            way_m = float(motion.way_m[window.last] - motion.way_m[window.first])
            length_s = duration_s(start_ns, end_ns)
            if not level or length_s > limits.max_duration_s or way_m < limits.min_speed_mps * length_s:
                continue
            if way_m > limits.max_radius_m * changed:
                continue
            at = window.first + int(np.nanargmax(rate[window.first : window.last + 1]))
            evidence = {
                "side": side,
                "heading_change_rad": round(changed, 4),
                "radius_m": round(way_m / changed, 2),
                "sampled": "yaw_rate_radps",
                "samples": samples(motion.times_ns, motion.rate_radps, window, at),
            }
            tags = (side, "u_turn") if level == len(limits.levels_rad) else (side,)
            events.append(Event("turn", level, start_ns, end_ns, changed, evidence, tags))
    return sorted(events, key=lambda event: event.start_ns)


def hard_cornerings(motion: Heading, policy: EventsPolicy) -> list[Event]:
    """Stretches of lateral acceleration, speed times turn rate, at levels_mps2; `peak` is the largest in m/s2."""
    lateral = motion.speed_mps * motion.rate_radps
    limits = policy.cornering
    events = []
    for sign, side in _SIDES:
        pushed = sign * lateral
        for window, level, held_s in levelled(
            motion.times_ns, pushed, limits.levels_mps2, limits.min_duration_s, policy
        ):
            at = window.first + int(np.nanargmax(pushed[window.first : window.last + 1]))
            start_ns, end_ns = _span(motion.times_ns, window)
            evidence = {
                "side": side,
                "level_held_s": round(held_s, 3),
                "speed_mps": round(float(motion.speed_mps[at]), 3),
                "sampled": "lateral_mps2",
                "samples": samples(motion.times_ns, lateral, window, at),
            }
            events.append(
                Event("hard_cornering", level, start_ns, end_ns, float(pushed[at]), evidence, (side,))
            )
    return sorted(events, key=lambda event: event.start_ns)


def lane_changes(motion: Heading, policy: EventsPolicy, lane_id: Array | None = None) -> list[Event]:
    """Lane changes: by flips of `lane_id` (N,) where the vehicle tells its lane, else by how it moves.

    By motion: two neighbouring swings of lateral acceleration to opposite sides, after which the heading is what
    it was before within heading_return_rad and the vehicle has moved sideways by about one lane. That is told
    against the heading at the start: in a bend the heading does not return and no lane change is found, and a
    road that shifts sideways by a lane looks like one. `peak` is the offset in metres (positive; 0 for a flip
    whose offset is not known).
    """
    if lane_id is not None:
        return _flips(motion, lane_id, policy)
    events = []
    for window in _swings(motion, policy):
        offset_m, returned, largest = _sideways(motion, window)
        limits = policy.lane_change
        start_ns, end_ns = _span(motion.times_ns, window)
        if not limits.min_offset_m <= abs(offset_m) <= limits.max_offset_m:
            continue
        if abs(returned) > limits.heading_return_rad or largest > limits.max_heading_rad:
            continue
        if not limits.min_duration_s <= duration_s(start_ns, end_ns) <= limits.max_duration_s:
            continue
        if not np.nanmin(motion.speed_mps[window.first : window.last + 1]) >= limits.min_speed_mps:
            continue
        side = "left" if offset_m > 0 else "right"
        evidence = {
            "method": "lateral_offset",
            "side": side,
            "offset_m": round(offset_m, 3),
            "heading_after_rad": round(returned, 4),
            "sampled": "yaw_rate_radps",
            "samples": samples(motion.times_ns, motion.rate_radps, window, window.first),
        }
        events.append(Event("lane_change", 1, start_ns, end_ns, abs(offset_m), evidence, (side,)))
    return _apart(events)


def _swings(motion: Heading, policy: EventsPolicy) -> Iterator[Window]:
    """From the first of two neighbouring swings to opposite sides until the end of the second."""
    lateral, limits = motion.speed_mps * motion.rate_radps, policy.lane_change
    leave = limits.lobe_mps2 * policy.exit_share
    lobes = sorted(
        (window, sign)
        for sign, _ in _SIDES
        for window in hysteresis(motion.times_ns, sign * lateral, limits.lobe_mps2, leave, policy.max_gap_s)
    )
    known = runs(motion.times_ns, np.isfinite(lateral), policy.max_gap_s)
    for (first, one), (second, other) in itertools.pairwise(lobes):
        unbroken = any(run.first <= first.first and second.last <= run.last for run in known)
        if one != other and unbroken:
            yield _to_rest(lateral, Window(first.first, second.last), limits.rest_mps2)


def _to_rest(lateral: Array, window: Window, rest_mps2: float) -> Window:
    """The window widened to where each swing comes to rest: below rest_mps2, or growing again."""

    def fades(at: int, step: int) -> bool:
        outside = abs(lateral[at + step])
        return bool(abs(lateral[at]) > rest_mps2 and outside < abs(lateral[at]))

    first, last = window
    while first > 0 and fades(first, -1):
        first -= 1
    while last + 1 < len(lateral) and fades(last, 1):
        last += 1
    return Window(first, last)


def _sideways(motion: Heading, window: Window) -> tuple[float, float, float]:
    """Offset across the heading at the start (left positive), heading after it, largest heading meanwhile."""
    part = slice(window.first, window.last + 1)
    turned = motion.heading_rad[part] - motion.heading_rad[window.first]
    step_s = np.diff(motion.times_ns[part]) / NS_PER_S
    offset = _integral(step_s, motion.speed_mps[part] * np.sin(turned))
    return float(offset[-1]), float(turned[-1]), float(np.abs(turned).max())


def _apart(events: list[Event]) -> list[Event]:
    """Of events that overlap the first: the way back of one swing is not the way out of the next."""
    kept: list[Event] = []
    for event in events:
        if not kept or event.start_ns >= kept[-1].end_ns:
            kept.append(event)
    return kept


def _flips(motion: Heading, lane_id: Array, policy: EventsPolicy) -> list[Event]:
    times_ns, events = motion.times_ns, []
    steps_ns = np.diff(times_ns)
    changed = np.isfinite(lane_id[1:]) & np.isfinite(lane_id[:-1]) & (lane_id[1:] != lane_id[:-1])
    for before in np.flatnonzero(changed & (steps_ns <= policy.max_gap_s * NS_PER_S)).tolist():
        evidence: dict[str, Any] = {
            "method": "lane_id",
            "from_lane": float(lane_id[before]),
            "to_lane": float(lane_id[before + 1]),
        }
        span = _span(times_ns, Window(before, before + 1))
        events.append(Event("lane_change", 1, *span, 0.0, evidence))
    return events


def _span(times_ns: Ns, window: Window) -> tuple[int, int]:
    return int(times_ns[window.first]), int(times_ns[window.last])
