"""Conflicts in the path by time to collision, and distances shorter than the safe one (RSS).

Belongs here: detectors over gaps and closing speeds. Does not belong here: the formulas (criticality), paths that
cross (crossings), reading clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.events.criticality import rss_gap_under, ttc_s
from av_assets.domain.events.windows import (
    Event,
    Window,
    from_entry,
    hysteresis,
    longest_s,
    merge,
    samples,
    smooth,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av_assets.domain.events.paths import PathTrack
    from av_assets.policies.events import EventsPolicy


def ttc_conflicts(tracks: Sequence[PathTrack], policy: EventsPolicy) -> list[Event]:
    """Stretches in which something in the path is closed in on: level 1 at ttc_s, level 2 at critical_ttc_s.

    The smoothed inverse of the time to collision is what must hold for min_duration_s; a stretch ends where it
    falls below exit_share of its threshold. `peak` is the smallest time to collision in seconds.
    """
    events = [e for track in tracks for e in _conflicts_of(track, policy)]
    return sorted(events, key=lambda event: (event.start_ns, event.evidence["track_id"]))


def _conflicts_of(track: PathTrack, policy: EventsPolicy) -> Iterator[Event]:
    limits = policy.conflict
    in_path = (
        (np.abs(track.across_m) <= limits.half_width_m)
        & (track.gap_m > 0)
        & (track.gap_m <= limits.max_gap_m)
    )
    if not (in_path & (track.vx_mps <= -limits.min_closing_mps)).any():
        return
    inverse = _inverse_ttc(track, policy)
    urgency = np.where(in_path, inverse, np.nan)
    enter = 1.0 / limits.ttc_s
    found = hysteresis(track.times_ns, urgency, enter, enter * policy.exit_share, policy.max_gap_s)
    for window in merge(track.times_ns, found, policy.merge_gap_s):
        held = [
            longest_s(track.times_ns, urgency, window, 1.0 / limit, policy.max_gap_s)
            for limit in (limits.ttc_s, limits.critical_ttc_s)
        ]
        level = sum(s is not None and s >= limits.min_duration_s for s in held)
        if level:
            yield _conflict(track, urgency, from_entry(urgency, window, enter), level)


def _inverse_ttc(track: PathTrack, policy: EventsPolicy) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """1 / time to collision in 1/s, from smoothed gap and closing speed; zero where the gap does not close."""
    gap = smooth(track.times_ns, track.gap_m, policy.smoothing_hz, policy.median_s)
    closing = smooth(track.times_ns, -track.vx_mps, policy.smoothing_hz, policy.median_s)
    closing = np.where(closing >= policy.conflict.min_closing_mps, closing, 0.0)
    return np.asarray(1.0 / ttc_s(np.maximum(gap, 0.1), closing))


def _conflict(track: PathTrack, urgency: np.ndarray, window: Window, level: int) -> Event:  # type: ignore[type-arg]
    at = window.first + int(np.nanargmax(urgency[window.first : window.last + 1]))
    with np.errstate(divide="ignore"):
        ttc = 1.0 / urgency
    evidence = {
        "measure": "ttc",
        "track_id": track.track_id,
        "gap_m": round(float(track.gap_m[at]), 3),
        "closing_mps": round(-float(track.vx_mps[at]), 3),
        "track_speed_mps": round(float(track.speed_mps[at]), 3),
        "sampled": "ttc_s",
        "samples": samples(track.times_ns, ttc, window, at),
    }
    tags = ("ttc", "critical") if level == 2 else ("ttc",)
    start_ns, end_ns = int(track.times_ns[window.first]), int(track.times_ns[window.last])
    return Event("conflict", level, start_ns, end_ns, float(ttc[at]), evidence, tags)


def rss_violations(tracks: Sequence[PathTrack], policy: EventsPolicy) -> list[Event]:
    """Stretches of at least min_duration_s in which the gap to somebody ahead is shorter than the RSS one.

    A stretch ends where the gap exceeds the safe one by 1 / exit_share. Level 2: for that long the gap was at most
    severe_share of the safe one. `peak` is the largest shortfall in metres. Each vehicle ahead is judged by itself.
    """
    events = [e for track in tracks for e in _violations_of(track, policy)]
    return sorted(events, key=lambda event: (event.start_ns, event.evidence["track_id"]))


def _violations_of(track: PathTrack, policy: EventsPolicy) -> Iterator[Event]:
    limits = policy.rss
    judged = (
        (np.abs(track.across_m) <= limits.half_width_m)
        & (track.gap_m > 0)
        & (track.gap_m <= limits.max_gap_m)
        & (track.ego_mps >= limits.min_ego_mps)
        & (track.forward_mps >= limits.min_front_mps)
    )
    if not judged.any():
        return
    front = smooth(track.times_ns, track.forward_mps, policy.smoothing_hz, policy.median_s)
    gap = smooth(track.times_ns, track.gap_m, policy.smoothing_hz, policy.median_s)
    safe = rss_gap_under(track.ego_mps, np.maximum(front, 0.0), limits)
    share = np.where(judged, safe / np.maximum(gap, 0.1), np.nan)
    found = hysteresis(track.times_ns, share, 1.0, policy.exit_share, policy.max_gap_s)
    for stretch in merge(track.times_ns, found, policy.merge_gap_s):
        held = [
            longest_s(track.times_ns, share, stretch, threshold, policy.max_gap_s) or 0.0
            for threshold in (1.0, 1.0 / limits.severe_share)
        ]
        if held[0] < limits.min_duration_s:
            continue
        window = from_entry(share, stretch, 1.0)
        start_ns, end_ns = int(track.times_ns[window.first]), int(track.times_ns[window.last])
        level = 2 if held[1] >= limits.min_duration_s else 1
        shortfall = np.where(judged, safe - gap, np.nan)
        at = window.first + int(np.nanargmax(shortfall[window.first : window.last + 1]))
        evidence = {
            "track_id": track.track_id,
            "gap_m": round(float(gap[at]), 3),
            "safe_gap_m": round(float(safe[at]), 3),
            "ego_speed_mps": round(float(track.ego_mps[at]), 3),
            "front_speed_mps": round(float(front[at]), 3),
            "sampled": "shortfall_m",
            "samples": samples(track.times_ns, shortfall, window, at),
        }
        tags = ("severe",) if level == 2 else ()
        yield Event("rss_violation", level, start_ns, end_ns, float(shortfall[at]), evidence, tags)
