"""Events of the ego vehicle alone: harsh braking and disengagements.

Belongs here: detectors over vehicle signals. Does not belong here: other road users (traffic), reading clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.events.windows import (
    NS_PER_S,
    Array,
    Event,
    Ns,
    Window,
    crossing_ns,
    duration_s,
    hysteresis,
    merge,
    runs,
    smooth,
)

if TYPE_CHECKING:
    from av_assets.policies.events import EventsPolicy


def harsh_brakes(times_ns: Ns, accel_mps2: Array, policy: EventsPolicy) -> list[Event]:
    """Stretches of deceleration (N,) at level 1 or more; the level is the highest that holds for
    min_duration_s.

    `peak` is the strongest smoothed deceleration in m/s2 (positive).
    """
    brake = policy.brake
    decel = -smooth(times_ns, accel_mps2, policy.smoothing_hz, policy.median_s)
    enter, leave = brake.levels_mps2[0], brake.levels_mps2[0] * policy.exit_share
    windows = merge(times_ns, hysteresis(times_ns, decel, enter, leave, policy.max_gap_s), policy.merge_gap_s)
    events = []
    for window in windows:
        level, strong_s = _brake_level(times_ns, decel, window, policy)
        if level:
            peak = float(np.nanmax(decel[window.first : window.last + 1]))
            start_ns, end_ns = int(times_ns[window.first]), int(times_ns[window.last])
            evidence = {"min_accel_mps2": round(-peak, 3), "level_held_s": round(strong_s, 3)}
            events.append(Event("harsh_brake", level, start_ns, end_ns, peak, evidence))
    return events


def _brake_level(times_ns: Ns, decel: Array, window: Window, policy: EventsPolicy) -> tuple[int, float]:
    """Highest level whose threshold is held without a break for min_duration_s, and for how long; 0 if
    none."""
    for level in range(len(policy.brake.levels_mps2), 0, -1):
        threshold = policy.brake.levels_mps2[level - 1]
        inside = np.zeros(len(decel), np.bool_)
        inside[window.first : window.last + 1] = decel[window.first : window.last + 1] >= threshold
        held = [_held_s(times_ns, decel, run, threshold) for run in runs(times_ns, inside, policy.max_gap_s)]
        if held and max(held) >= policy.brake.min_duration_s:
            return level, max(held)
    return 0, 0.0


def _held_s(times_ns: Ns, values: Array, run: Window, threshold: float) -> float:
    start_ns = crossing_ns(times_ns, values, run.first, run.first - 1, threshold)
    return duration_s(start_ns, crossing_ns(times_ns, values, run.last, run.last + 1, threshold))


def disengagements(
    times_ns: Ns, engaged: Array, brake: Array | None, steering_rad: Array | None, policy: EventsPolicy
) -> list[Event]:
    """From each edge engaged -> manual until the automation drives again, or the samples end.

    Level 1: the driver took over (brake or steering moved around the edge); level 2: the system gave up.
    `peak` is the
    length in seconds. An edge across a hole in the signal is none: what happened in the hole is not known.
    """
    limits = policy.disengagement
    off = np.isfinite(engaged) & (engaged < 0.5)
    windows = merge(times_ns, runs(times_ns, off, policy.max_gap_s), limits.merge_gap_s)
    events = []
    for window in windows:
        before = window.first - 1
        if before < 0 or not engaged[before] >= 0.5:
            continue
        if times_ns[window.first] - times_ns[before] > policy.max_gap_s * NS_PER_S:
            continue
        end = min(window.last + 1, len(times_ns) - 1)
        start_ns, end_ns = int(times_ns[window.first]), int(times_ns[end])
        if duration_s(start_ns, end_ns) < limits.min_duration_s:
            continue
        moved = {
            "brake_rise": _rise(times_ns, brake, start_ns, limits.takeover_window_s, upward=True),
            "steering_rise_rad": _rise(
                times_ns, steering_rad, start_ns, limits.takeover_window_s, upward=False
            ),
        }
        driver = (
            moved["brake_rise"] >= limits.brake_rise or moved["steering_rise_rad"] >= limits.steering_rise_rad
        )
        evidence = {
            "initiator": "driver" if driver else "system",
            **{k: round(v, 4) for k, v in moved.items()},
        }
        length_s = duration_s(start_ns, end_ns)
        events.append(Event("disengagement", 1 if driver else 2, start_ns, end_ns, length_s, evidence))
    return events


def _rise(times_ns: Ns, values: Array | None, at_ns: int, window_s: float, upward: bool) -> float:
    """Largest change within window_s of a moment, over the straight line through the values just outside it.

    A system that is braking steadily through the edge makes no rise; a foot on the pedal does. Zero
    without samples.
    """
    if values is None:
        return 0.0
    half_ns = round(window_s * NS_PER_S)
    finite = np.isfinite(values)
    near = finite & (np.abs(times_ns - at_ns) <= half_ns)
    earlier = finite & (times_ns < at_ns - half_ns) & (times_ns >= at_ns - 2 * half_ns)
    if not near.any() or not earlier.any():
        return 0.0
    change = values[near] - values[earlier][-1]
    return float(max(change.max(), 0.0) if upward else np.abs(change).max())
