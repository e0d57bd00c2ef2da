"""Disengagements: the automation stops driving, and who made it stop.

Belongs here: the edge engaged -> manual and its cause. Does not belong here: manoeuvres, reading clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.events.windows import (
    NS_PER_S,
    Array,
    Event,
    Ns,
    Window,
    duration_s,
    merge,
    runs,
    samples,
)

if TYPE_CHECKING:
    from av_assets.policies.events import DisengagementThresholds, EventsPolicy


class Driver(NamedTuple):
    """What the driver touches, (N,) each; None where the vehicle does not tell."""

    brake: Array | None = None
    steering_rad: Array | None = None
    button: Array | None = None


def disengagements(times_ns: Ns, engaged: Array, driver: Driver, policy: EventsPolicy) -> list[Event]:
    """From each edge engaged -> manual until the automation drives again, or the samples end.

    Level 1: the driver took over; level 2: the system gave up, or nothing tells who it was. The cause is the
    first of brake, steering and button that moved around the edge, else `system`, else (no such signal around
    the edge) `unknown`. `peak` is the length in seconds. An edge across a hole in the signal is none: what
    happened in the hole is not known.
    """
    limits = policy.disengagement
    off = np.isfinite(engaged) & (engaged < 0.5)
    events = []
    for window in merge(times_ns, runs(times_ns, off, policy.max_gap_s), limits.merge_gap_s):
        before = window.first - 1
        if before < 0 or not engaged[before] >= 0.5:
            continue
        if times_ns[window.first] - times_ns[before] > policy.max_gap_s * NS_PER_S:
            continue
        end = min(window.last + 1, len(times_ns) - 1)
        if times_ns[end] - times_ns[window.last] > policy.max_gap_s * NS_PER_S:
            end = window.last
        start_ns, end_ns = int(times_ns[window.first]), int(times_ns[end])
        length_s = duration_s(start_ns, end_ns)
        if length_s < limits.min_duration_s:
            continue
        evidence = _cause(times_ns, driver, start_ns, limits)
        edge = _around(times_ns, start_ns, limits.takeover_window_s)
        evidence |= {"sampled": "engaged", "samples": samples(times_ns, engaged, edge, window.first)}
        who = str(evidence["initiator"])
        tags = ("cause_unknown",) if who == "unknown" else (f"{who}_initiated", f"by_{evidence['cause']}")
        level = 1 if who == "driver" else 2
        events.append(Event("disengagement", level, start_ns, end_ns, length_s, evidence, tags))
    return events


def _around(times_ns: Ns, at_ns: int, reach_s: float) -> Window:
    half_ns = round(reach_s * NS_PER_S)
    low, high = np.searchsorted(times_ns, [at_ns - half_ns, at_ns + half_ns + 1])
    return Window(int(low), int(high) - 1)


def _cause(times_ns: Ns, driver: Driver, at_ns: int, limits: DisengagementThresholds) -> dict[str, Any]:
    """Cause, initiator, and how far each signal of the driver moved; null where it is not known."""
    reach_s = limits.takeover_window_s
    moved = {
        "brake_rise": _rise(times_ns, driver.brake, at_ns, reach_s, upward=True),
        "steering_rise_rad": _rise(times_ns, driver.steering_rad, at_ns, reach_s, upward=False),
        "button_rise": _rise(times_ns, driver.button, at_ns, reach_s, upward=True),
    }
    least = (limits.brake_rise, limits.steering_rise_rad, limits.button_level)
    causes = ("brake", "steering", "button")
    found = [
        cause
        for cause, rise, threshold in zip(causes, moved.values(), least, strict=True)
        if rise is not None and rise >= threshold
    ]
    silent = [cause for cause, rise in zip(causes, moved.values(), strict=True) if rise is None]
    if found:
        cause, initiator = found[0], "driver"
    else:
        cause = initiator = "unknown" if len(silent) == len(causes) else "system"
    rounded = {name: None if rise is None else round(rise, 4) for name, rise in moved.items()}
    return {"cause": cause, "initiator": initiator, "also": found[1:], "not_known": silent, **rounded}


def _rise(times_ns: Ns, values: Array | None, at_ns: int, window_s: float, upward: bool) -> float | None:
    """Largest change within window_s of a moment, against the last value before that; None without samples.

    A system that is braking steadily through the edge makes no rise; a foot on the pedal does.
    """
    if values is None:
        return None
    half_ns = round(window_s * NS_PER_S)
    finite = np.isfinite(values)
    near = finite & (np.abs(times_ns - at_ns) <= half_ns)
    earlier = finite & (times_ns < at_ns - half_ns) & (times_ns >= at_ns - 2 * half_ns)
    if not near.any() or not earlier.any():
        return None
    change = values[near] - values[earlier][-1]
    return float(max(change.max(), 0.0) if upward else np.abs(change).max())
