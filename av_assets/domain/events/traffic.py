"""Events between the ego vehicle and others: cut-ins and stationary hazards, from tracks along its path.

No shard tells lane lines, so that the lane of the ego vehicle is the corridor of the policy (C6: +-1.8 m).
Belongs here: these two detectors. Does not belong here: the path (paths), conflicts and safe distances
(conflicts), vehicle-only events, reading clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.events.criticality import ttc_limits_s, ttc_s
from av_assets.domain.events.windows import (
    NS_PER_S,
    Event,
    Mask,
    Window,
    duration_s,
    merge,
    runs,
    samples,
    smooth,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.events.paths import PathTrack
    from av_assets.policies.events import EventsPolicy


def cut_ins(tracks: Sequence[PathTrack], policy: EventsPolicy) -> list[Event]:
    """Tracks that come from beside the corridor into it, ahead of the ego vehicle and driving its way.

    From the last moment outside until the track has settled or left. Level 2 and 3 by time to collision
    at entry;
    `peak` is the smallest time to collision in seconds over the event (infinite values are given as -1).
    """
    events = [e for track in tracks for e in _cut_ins_of(track, policy)]
    return sorted(events, key=lambda event: (event.start_ns, event.evidence["track_id"]))


def _cut_ins_of(track: PathTrack, policy: EventsPolicy) -> list[Event]:
    limits = policy.cut_in
    if np.abs(track.across_m).max() < limits.outside_m:
        return []
    ahead = (track.gap_m > 0) & (track.gap_m <= limits.max_gap_m)
    inside = (
        (np.abs(track.across_m) <= limits.inside_m)
        & ahead
        & (track.forward_mps >= limits.min_track_speed_mps)
    )
    windows = merge(track.times_ns, runs(track.times_ns, inside, policy.max_gap_s), policy.merge_gap_s)
    found = []
    for window in windows:
        start = _left_outside(track, window, policy)
        start_ns, end_ns = int(track.times_ns[window.first]), int(track.times_ns[window.last])
        if start is not None and duration_s(start_ns, end_ns) >= limits.min_inside_s:
            found.append(_cut_in(track, start, window, policy))
    return found


def _left_outside(track: PathTrack, window: Window, policy: EventsPolicy) -> int | None:
    """The last sample outside before the window, if it is recent, unbroken and on a visible way in."""
    limits = policy.cut_in
    outside = np.flatnonzero(np.abs(track.across_m[: window.first]) >= limits.outside_m)
    if not len(outside):
        return None
    start, entry = int(outside[-1]), window.first
    elapsed_s = duration_s(int(track.times_ns[start]), int(track.times_ns[entry]))
    unbroken = np.all(np.diff(track.times_ns[start : entry + 1]) <= policy.max_gap_s * NS_PER_S)
    came_m = abs(track.across_m[start]) - abs(track.across_m[entry])
    visible = elapsed_s > 0 and came_m / elapsed_s >= limits.min_lateral_mps
    same_side = np.sign(track.across_m[start]) == np.sign(track.across_m[entry])
    return start if unbroken and visible and same_side and elapsed_s <= limits.enter_within_s else None


def _cut_in(track: PathTrack, start: int, window: Window, policy: EventsPolicy) -> Event:
    limits, entry = policy.cut_in, window.first
    horizon_ns = track.times_ns[entry] + round(limits.enter_within_s * NS_PER_S)
    last = int(np.searchsorted(track.times_ns[: window.last + 1], horizon_ns, side="right")) - 1
    ttc = ttc_s(track.gap_m, -track.vx_mps)
    least = float(ttc[start : last + 1].min())
    level = 1 + int(least <= limits.conflict_ttc_s) + int(least <= limits.critical_ttc_s)
    side = "left" if track.across_m[start] > 0 else "right"
    judged = _judged(track, entry, float(ttc[entry]), policy)
    evidence = {
        "track_id": track.track_id,
        "side": side,
        "gap_m": round(float(track.gap_m[entry]), 3),
        "entry_ns": int(track.times_ns[entry]),
        **judged,
        "sampled": "across_m",
        "samples": samples(track.times_ns, track.across_m, Window(start, last), entry),
    }
    tags = [side, *(["conflict"] if level == 2 else ["critical"] if level == 3 else [])]
    tags += [tag for tag in ("r157_avoidable", "afgbv_avoidable") if judged[tag]]
    peak = least if np.isfinite(least) else -1.0
    return Event(
        "cut_in", level, int(track.times_ns[start]), int(track.times_ns[last]), peak, evidence, tuple(tags)
    )


def _judged(track: PathTrack, entry: int, entry_ttc_s: float, policy: EventsPolicy) -> dict[str, Any]:
    """Criticality at the moment of entry by UN R157 and by EU 2022/1426 with AFGBV.

    A time to collision above the limit must not end in a collision; R157 asks besides that the lateral motion was
    visible for visible_s. A gap that does not close is avoidable.
    """
    closing = max(0.0, -float(track.vx_mps[entry]))
    limits = ttc_limits_s(closing, policy.cut_in)
    visible_s = _visible_s(track, entry, policy)
    return {
        "closing_mps": round(closing, 3),
        "ttc_at_entry_s": round(entry_ttc_s, 3) if np.isfinite(entry_ttc_s) else None,
        **{f"{name}_ttc_limit_s": round(limit, 3) for name, limit in limits.items()},
        "lateral_visible_s": round(visible_s, 3),
        "lateral_visible": visible_s >= policy.cut_in.visible_s,
        "r157_avoidable": entry_ttc_s > limits["r157"] and visible_s >= policy.cut_in.visible_s,
        "afgbv_avoidable": entry_ttc_s > limits["afgbv"],
        "afgbv_standing_avoidable": entry_ttc_s > limits["afgbv_standing"],
    }


def _visible_s(track: PathTrack, entry: int, policy: EventsPolicy) -> float:
    """How long before the entry the track moved towards the path without a break, at visible_lateral_mps."""
    low = np.searchsorted(track.times_ns, track.times_ns[entry] - 10 * NS_PER_S)
    near = slice(int(low), entry + 1)
    times = track.times_ns[near]
    if len(times) < 2:
        return 0.0
    away = smooth(times, np.abs(track.across_m[near]), policy.smoothing_hz)
    step_s = np.diff(times) / NS_PER_S
    coming = (-np.diff(away) / step_s >= policy.cut_in.visible_lateral_mps) & (step_s <= policy.max_gap_s)
    still = np.flatnonzero(~coming)
    first = int(still[-1]) + 1 if len(still) else 0
    return duration_s(int(times[first]), int(times[-1]))


def stationary_hazards(tracks: Sequence[PathTrack], policy: EventsPolicy) -> list[Event]:
    """Objects that stand in the path so close that stopping takes required_decel_mps2 or more.

    The object must have stood for standing_s; `peak` is the largest required deceleration in m/s2.
    """
    events = [e for track in tracks for e in _hazards_of(track, policy)]
    return sorted(events, key=lambda event: (event.start_ns, event.evidence["track_id"]))


def _hazards_of(track: PathTrack, policy: EventsPolicy) -> list[Event]:
    limits = policy.hazard
    if track.speed_mps.min() > limits.max_speed_mps:
        return []
    required = track.ego_mps**2 / (2 * np.maximum(track.gap_m, 0.1))
    in_path = (
        (np.abs(track.across_m) <= limits.half_width_m)
        & (track.gap_m > 0)
        & (track.gap_m <= limits.max_gap_m)
    )
    standing = _standing(track, policy)
    held = in_path & standing & (required >= limits.required_decel_mps2 * policy.exit_share)
    found = []
    for window in merge(track.times_ns, runs(track.times_ns, held, policy.max_gap_s), policy.merge_gap_s):
        part = required[window.first : window.last + 1]
        strong = np.flatnonzero(part >= limits.required_decel_mps2)
        if not len(strong):
            continue
        first, last = window.first + int(strong[0]), window.last
        start_ns, end_ns = int(track.times_ns[first]), int(track.times_ns[last])
        if duration_s(start_ns, end_ns) >= limits.min_duration_s:
            evidence = {
                "track_id": track.track_id,
                "gap_m": round(float(track.gap_m[first]), 3),
                "ego_speed_mps": round(float(track.ego_mps[first]), 3),
                "sampled": "required_decel_mps2",
                "samples": samples(
                    track.times_ns, required, Window(first, last), window.first + int(part.argmax())
                ),
            }
            found.append(Event("stationary_hazard", 1, start_ns, end_ns, float(part.max()), evidence))
    return found


def _standing(track: PathTrack, policy: EventsPolicy) -> Mask:
    """Where the object stands and has stood for standing_s (or since it was first seen standing that
    long ago)."""
    slow = track.speed_mps <= policy.hazard.max_speed_mps
    result = np.zeros(len(slow), np.bool_)
    for run in merge(track.times_ns, runs(track.times_ns, slow, policy.max_gap_s), policy.merge_gap_s):
        since_s = (track.times_ns[run.first : run.last + 1] - track.times_ns[run.first]) / NS_PER_S
        result[run.first : run.last + 1] = since_s >= policy.hazard.standing_s
    return result
