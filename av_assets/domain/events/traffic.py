"""Events between the ego vehicle and others: cut-ins and stationary hazards, from radar tracks in the
ego frame.

Belongs here: detectors over tracks. Does not belong here: tracking, vehicle-only events (driving),
reading clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.events.windows import NS_PER_S, Array, Event, Mask, Ns, Window, duration_s, merge, runs

if TYPE_CHECKING:
    from av_assets.policies.events import EventsPolicy

# UN R157 5.2.5.2: a cut-in must be handled when TTC exceeds v_rel / (2 * 6 m/s2) + 0.35 s.
R157_DECEL_MPS2, R157_DELAY_S = 6.0, 0.35


class EgoMotion(NamedTuple):
    """Ego speed and turn rate, one value per time (N,); NaN where unknown."""

    times_ns: Ns
    speed_mps: Array
    yaw_rate_radps: Array


class TrackRows(NamedTuple):
    """Tracks of all frames, one row each (M,), in the ego frame; velocities relative to the ego vehicle."""

    times_ns: Ns
    track_id: Ns
    x_m: Array
    y_m: Array
    vx_mps: Array
    vy_mps: Array


class PathTrack(NamedTuple):
    """One track in time order, along and across the path that the ego vehicle is about to drive."""

    track_id: int
    times_ns: Ns
    gap_m: Array
    across_m: Array
    vx_mps: Array
    forward_mps: Array
    speed_mps: Array
    ego_mps: Array


def r157_ttc_limit_s(closing_mps: float) -> float:
    """Time to collision above which UN R157 5.2.5.2 expects a cut-in to be avoided.

    >>> round(r157_ttc_limit_s(40 / 3.6), 2)
    1.28
    """
    return closing_mps / (2 * R157_DECEL_MPS2) + R157_DELAY_S


def curvature(motion: EgoMotion, policy: EventsPolicy) -> Array:
    """(N,) 1/m, left positive: mean turn rate over speed; zero (straight ahead) at walking pace or where
    unknown."""
    half_ns = round(policy.corridor.curvature_window_s * NS_PER_S / 2)
    rate = np.where(np.isfinite(motion.yaw_rate_radps), motion.yaw_rate_radps, 0.0)
    total = np.concatenate([[0.0], np.cumsum(rate)])
    low = np.searchsorted(motion.times_ns, motion.times_ns - half_ns, side="left")
    high = np.searchsorted(motion.times_ns, motion.times_ns + half_ns, side="right")
    mean = (total[high] - total[low]) / np.maximum(high - low, 1)
    fast = np.isfinite(motion.speed_mps) & (motion.speed_mps >= policy.corridor.min_speed_mps)
    return np.asarray(np.where(fast, mean / np.where(fast, motion.speed_mps, 1.0), 0.0))


def path_tracks(motion: EgoMotion, tracks: TrackRows, policy: EventsPolicy) -> list[PathTrack]:
    """Tracks by id, with ego values of the same frame; rows in frames without ego speed are left out."""
    row = np.searchsorted(motion.times_ns, tracks.times_ns)
    row = np.minimum(row, len(motion.times_ns) - 1)
    known = (motion.times_ns[row] == tracks.times_ns) & np.isfinite(motion.speed_mps[row])
    bend = curvature(motion, policy)
    result = []
    for ident in np.unique(tracks.track_id[known]):
        rows = np.flatnonzero(known & (tracks.track_id == ident))
        rows = rows[np.argsort(tracks.times_ns[rows], kind="stable")]
        x, ego = tracks.x_m[rows], motion.speed_mps[row[rows]]
        forward = tracks.vx_mps[rows] + ego
        result.append(
            PathTrack(
                int(ident),
                tracks.times_ns[rows],
                x - policy.corridor.front_bumper_x_m,
                tracks.y_m[rows] - bend[row[rows]] * x**2 / 2,
                tracks.vx_mps[rows],
                forward,
                np.hypot(forward, tracks.vy_mps[rows]),
                ego,
            )
        )
    return result


def cut_ins(motion: EgoMotion, tracks: TrackRows, policy: EventsPolicy) -> list[Event]:
    """Tracks that come from beside the corridor into it, ahead of the ego vehicle and driving its way.

    From the last moment outside until the track has settled or left. Level 2 and 3 by time to collision
    at entry;
    `peak` is the smallest time to collision in seconds over the event (infinite values are given as -1).
    """
    events = [e for track in path_tracks(motion, tracks, policy) for e in _cut_ins_of(track, policy)]
    return sorted(events, key=lambda event: (event.start_ns, event.evidence["track_id"]))


def _cut_ins_of(track: PathTrack, policy: EventsPolicy) -> list[Event]:
    limits = policy.cut_in
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
    limits = policy.cut_in
    horizon_ns = track.times_ns[window.first] + round(limits.enter_within_s * NS_PER_S)
    last = int(np.searchsorted(track.times_ns[: window.last + 1], horizon_ns, side="right")) - 1
    with np.errstate(divide="ignore"):
        ttc = np.where(track.vx_mps < 0, track.gap_m / np.maximum(-track.vx_mps, 1e-9), np.inf)[
            start : last + 1
        ]
    entry_ttc = float(ttc[window.first - start])
    level = 1 + int(ttc.min() <= limits.conflict_ttc_s) + int(ttc.min() <= limits.critical_ttc_s)
    closing = max(0.0, -float(track.vx_mps[window.first]))
    evidence = {
        "track_id": track.track_id,
        "side": "left" if track.across_m[start] > 0 else "right",
        "gap_m": round(float(track.gap_m[window.first]), 3),
        "closing_mps": round(closing, 3),
        "ttc_at_entry_s": round(entry_ttc, 3) if np.isfinite(entry_ttc) else None,
        "r157_ttc_limit_s": round(r157_ttc_limit_s(closing), 3),
    }
    peak = float(ttc.min()) if np.isfinite(ttc.min()) else -1.0
    return Event("cut_in", level, int(track.times_ns[start]), int(track.times_ns[last]), peak, evidence)


def stationary_hazards(motion: EgoMotion, tracks: TrackRows, policy: EventsPolicy) -> list[Event]:
    """Objects that stand in the path so close that stopping takes required_decel_mps2 or more.

    The object must have stood for standing_s; `peak` is the largest required deceleration in m/s2.
    """
    events = [e for track in path_tracks(motion, tracks, policy) for e in _hazards_of(track, policy)]
    return sorted(events, key=lambda event: (event.start_ns, event.evidence["track_id"]))


def _hazards_of(track: PathTrack, policy: EventsPolicy) -> list[Event]:
    limits = policy.hazard
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
            }
            events_peak = float(part.max())
            found.append(Event("stationary_hazard", 1, start_ns, end_ns, events_peak, evidence))
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
