"""Conflicts where paths cross: post-encroachment time between the ego vehicle and who crosses its path.

Belongs here: the driven path, and tracks laid against it. Does not belong here: time to collision (conflicts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.events.manoeuvres import Heading
from av_assets.domain.events.windows import NS_PER_S, Array, Event, Ns, Window, duration_s, runs, samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.domain.events.paths import EgoMotion, TrackRows
    from av_assets.policies.events import EventsPolicy


class Driven(NamedTuple):
    """The path of one unbroken stretch: pose in a frame of its own, and the way driven (N,)."""

    times_ns: Ns
    x_m: Array
    y_m: Array
    heading_rad: Array
    way_m: Array


class Crosser(NamedTuple):
    """A track laid against the driven path: station along it and offset across it (left positive), (K,) each."""

    track_id: int
    times_ns: Ns
    station_m: Array
    offset_m: Array


def pet_conflicts(motion: EgoMotion, tracks: TrackRows, policy: EventsPolicy, driven: Heading) -> list[Event]:
    """Tracks that cross the driven path shortly before or after the ego vehicle is there.

    Post-encroachment time: from when the first of the two has left the place where the paths meet until the second
    arrives. The ego vehicle is there from when its front bumper reaches the crossing until its rear bumper leaves
    it; the track while it is within pet_half_width_m of the path. Level 1 at pet_s, level 2 at critical_pet_s;
    `peak` is the time in seconds, zero where both are there at once. Only crossings that were seen from one side to
    the other count: a radar that looks ahead sees nobody who crosses behind.
    """
    limits = policy.conflict
    moving = np.isfinite(np.stack([tracks.x_m, tracks.y_m, tracks.vx_mps, tracks.vy_mps])).all(axis=0)
    moving &= np.abs(np.where(moving, tracks.vy_mps, 0.0)) >= limits.pet_min_track_mps * 0.5
    candidates = np.unique(tracks.track_id[moving])
    rows = np.flatnonzero(np.isin(tracks.track_id, candidates) & np.isfinite(tracks.x_m + tracks.y_m))
    events = []
    known = np.isfinite(driven.speed_mps) & np.isfinite(driven.rate_radps)
    for run in runs(motion.times_ns, known, policy.max_gap_s):
        path = _path(driven, run)
        for crosser in _laid(path, tracks, rows, policy):
            events += list(_crossings(path, crosser, policy))
    return sorted(events, key=lambda event: (event.start_ns, event.evidence["track_id"]))


def _path(driven: Heading, run: Window) -> Driven:
    part = slice(run.first, run.last + 1)
    heading = driven.heading_rad[part] - driven.heading_rad[run.first]
    step_s = np.diff(driven.times_ns[part]) / NS_PER_S
    speed = driven.speed_mps[part]
    sides = []
    for velocity in (speed * np.cos(heading), speed * np.sin(heading)):
        sides.append(np.concatenate([[0.0], np.cumsum((velocity[1:] + velocity[:-1]) / 2 * step_s)]))
    way = driven.way_m[part] - driven.way_m[run.first]
    return Driven(driven.times_ns[part], sides[0], sides[1], heading, way)


def _laid(path: Driven, tracks: TrackRows, rows: Ns, policy: EventsPolicy) -> Iterator[Crosser]:
    """Tracks with both sides of the path in their offsets; each row against the nearest point within the horizon."""
    at = np.minimum(np.searchsorted(path.times_ns, tracks.times_ns[rows]), len(path.times_ns) - 1)
    rows, at = (part[path.times_ns[at] == tracks.times_ns[rows]] for part in (rows, at))
    cos, sin = np.cos(path.heading_rad[at]), np.sin(path.heading_rad[at])
    x = path.x_m[at] + tracks.x_m[rows] * cos - tracks.y_m[rows] * sin
    y = path.y_m[at] + tracks.x_m[rows] * sin + tracks.y_m[rows] * cos
    for ident in np.unique(tracks.track_id[rows]):
        own = np.flatnonzero(tracks.track_id[rows] == ident)
        own = own[np.argsort(path.times_ns[at[own]], kind="stable")]
        own = own[np.concatenate([[True], np.diff(at[own]) > 0])]
        station, offset = _project(path, x[own], y[own], at[own], policy)
        if np.nanmin(offset, initial=np.inf) < 0 < np.nanmax(offset, initial=-np.inf):
            yield Crosser(int(ident), path.times_ns[at[own]], station, offset)


def _project(path: Driven, x: Array, y: Array, at: Ns, policy: EventsPolicy) -> tuple[Array, Array]:
    """Station and offset (K,) of points by the tangent at the nearest path point; NaN off the ends of the path."""
    reach_ns = round(policy.conflict.pet_horizon_s * NS_PER_S)
    low = np.searchsorted(path.times_ns, path.times_ns[at] - reach_ns)
    high = np.searchsorted(path.times_ns, path.times_ns[at] + reach_ns, side="right")
    station, offset = np.full(len(x), np.nan), np.full(len(x), np.nan)
    for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        nearest = a + int(np.argmin((path.x_m[a:b] - x[i]) ** 2 + (path.y_m[a:b] - y[i]) ** 2))
        cos, sin = np.cos(path.heading_rad[nearest]), np.sin(path.heading_rad[nearest])
        dx, dy = x[i] - path.x_m[nearest], y[i] - path.y_m[nearest]
        along = dx * cos + dy * sin
        # Ahead of the last point of the horizon nobody has driven: what is there has no station.
        if abs(along) <= 2.0 or 0 < nearest - a < b - a - 1:
            station[i] = path.way_m[nearest] + along
            offset[i] = dy * cos - dx * sin
    return station, offset


def _crossings(path: Driven, crosser: Crosser, policy: EventsPolicy) -> Iterator[Event]:
    limits = policy.conflict
    half, offset, times = limits.pet_half_width_m, crosser.offset_m, crosser.times_ns
    inside = np.abs(offset) <= half
    known = np.isfinite(offset)
    flips = np.flatnonzero(known[1:] & known[:-1] & ((offset > 0)[1:] != (offset > 0)[:-1]))
    for flip in flips.tolist():
        near = runs(times, inside | np.isin(np.arange(len(times)), (flip, flip + 1)), policy.max_gap_s)
        window = next((w for w in near if w.first <= flip and flip + 1 <= w.last), None)
        if window is None or window.first == 0 or window.last == len(times) - 1:
            continue
        before, after = window.first - 1, window.last + 1
        whole = np.diff(times[before : after + 1]).max() <= policy.max_gap_s * NS_PER_S
        if not whole or not offset[before] * offset[after] < 0:
            continue
        sideways = abs(offset[after] - offset[before])
        along = abs(crosser.station_m[after] - crosser.station_m[before])
        length_s = duration_s(int(times[before]), int(times[after]))
        if np.arctan2(sideways, along) < limits.pet_min_angle_rad:
            continue
        if np.hypot(sideways, along) < limits.pet_min_track_mps * length_s:
            continue
        found = _meeting(path, crosser, Window(before, after), flip, policy)
        if found is not None:
            yield found


def _meeting(path: Driven, crosser: Crosser, window: Window, flip: int, policy: EventsPolicy) -> Event | None:
    limits, times, offset = policy.conflict, crosser.times_ns, crosser.offset_m
    half = limits.pet_half_width_m
    track_in = _when(times, np.abs(offset), window.first, half)
    track_out = _when(times, np.abs(offset), window.last - 1, half)
    share = abs(offset[flip]) / abs(offset[flip + 1] - offset[flip])
    station = float(crosser.station_m[flip] + share * (crosser.station_m[flip + 1] - crosser.station_m[flip]))
    ego_in = _at_way(path, station - policy.corridor.front_bumper_x_m)
    ego_out = _at_way(path, station - limits.rear_bumper_x_m)
    if ego_in is None:
        return None
    if track_in >= ego_in:
        pet_ns = None if ego_out is None else track_in - ego_out
        first = "ego"
    else:
        pet_ns, first = ego_in - track_out, "track"
    if pet_ns is None or pet_ns > limits.pet_s * NS_PER_S:
        return None
    pet_s = max(pet_ns, 0) / NS_PER_S
    level = 2 if pet_s <= limits.critical_pet_s else 1
    ends = [_frame(path.times_ns, ns) for ns in (min(track_in, ego_in), max(track_out, ego_in))]
    side = "left" if offset[window.first] > 0 else "right"
    evidence = {
        "measure": "pet",
        "track_id": crosser.track_id,
        "first": first,
        "from_side": side,
        "overlap": pet_ns < 0,
        "sampled": "offset_m",
        "samples": samples(times, offset, window, flip),
    }
    tags = ("pet", side, "critical") if level == 2 else ("pet", side)
    return Event("conflict", level, ends[0], ends[1], pet_s, evidence, tags)


def _when(times_ns: Ns, values: Array, at: int, threshold: float) -> int:
    """When the line from sample `at` to the next meets the threshold."""
    low, high = float(values[at]), float(values[at + 1])
    share = 0.5 if low == high else float(np.clip((threshold - low) / (high - low), 0.0, 1.0))
    return int(times_ns[at]) + round(share * int(times_ns[at + 1] - times_ns[at]))


def _at_way(path: Driven, way_m: float) -> int | None:
    """When the ego origin first has that way behind it; None: not on this path."""
    after = int(np.searchsorted(path.way_m, way_m))
    if not 0 < after < len(path.way_m):
        return None
    return _when(path.times_ns, path.way_m, after - 1, way_m)


def _frame(times_ns: Ns, at_ns: int) -> int:
    """The frame nearest to a moment."""
    after = int(np.clip(np.searchsorted(times_ns, at_ns), 1, len(times_ns) - 1))
    earlier, later = int(times_ns[after - 1]), int(times_ns[after])
    return earlier if at_ns - earlier <= later - at_ns else later
