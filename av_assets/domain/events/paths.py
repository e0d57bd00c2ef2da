"""Radar tracks along and across the path that the ego vehicle is about to drive.

Belongs here: ego motion, tracks, and the one bent to the other. Does not belong here: tracking, detectors.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.events.windows import NS_PER_S, Array, Ns

if TYPE_CHECKING:
    from av_assets.policies.events import EventsPolicy


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
    """One track in time order, along and across the path that the ego vehicle is about to drive.

    gap_m counts from the front bumper, across_m is left positive, vx_mps relative; forward_mps and speed_mps are
    over ground.
    """

    track_id: int
    times_ns: Ns
    gap_m: Array
    across_m: Array
    vx_mps: Array
    forward_mps: Array
    speed_mps: Array
    ego_mps: Array


def curvature(motion: EgoMotion, policy: EventsPolicy) -> Array:
    """(N,) 1/m, left positive: mean turn rate over speed; zero (straight ahead) at walking pace.

    NaN where the turn rate is unknown for the whole window, unless the vehicle never tells it: then zero.
    """
    half_ns = round(policy.corridor.curvature_window_s * NS_PER_S / 2)
    known = np.isfinite(motion.yaw_rate_radps)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, motion.yaw_rate_radps, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    low = np.searchsorted(motion.times_ns, motion.times_ns - half_ns, side="left")
    high = np.searchsorted(motion.times_ns, motion.times_ns + half_ns, side="right")
    told = count[high] - count[low]
    mean = (total[high] - total[low]) / np.maximum(told, 1)
    if known.any():
        mean = np.where(told > 0, mean, np.nan)
    fast = np.isfinite(motion.speed_mps) & (motion.speed_mps >= policy.corridor.min_speed_mps)
    return np.asarray(np.where(fast, mean / np.where(fast, motion.speed_mps, 1.0), 0.0))


def path_tracks(motion: EgoMotion, tracks: TrackRows, policy: EventsPolicy) -> list[PathTrack]:
    """Tracks by id, with ego values of the same frame.

    Left out: rows that are not finite, rows in frames without ego speed or bend, and of rows that name one track
    twice in a frame all but the first.
    """
    if not len(motion.times_ns) or not len(tracks.times_ns):
        return []
    row = np.minimum(np.searchsorted(motion.times_ns, tracks.times_ns), len(motion.times_ns) - 1)
    bend = curvature(motion, policy)
    usable = np.isfinite(np.stack([tracks.x_m, tracks.y_m, tracks.vx_mps, tracks.vy_mps])).all(axis=0)
    usable &= (motion.times_ns[row] == tracks.times_ns) & np.isfinite(motion.speed_mps[row] + bend[row])
    rows = np.flatnonzero(usable)
    rows = rows[np.lexsort((rows, tracks.times_ns[rows], tracks.track_id[rows]))]
    if not len(rows):
        return []
    ids, times = tracks.track_id[rows], tracks.times_ns[rows]
    rows = rows[np.concatenate([[True], (np.diff(ids) != 0) | (np.diff(times) != 0)])]
    at = row[rows]
    x, ego = tracks.x_m[rows], motion.speed_mps[at]
    forward = tracks.vx_mps[rows] + ego
    columns = (
        tracks.times_ns[rows],
        x - policy.corridor.front_bumper_x_m,
        tracks.y_m[rows] - bend[at] * x**2 / 2,
        tracks.vx_mps[rows],
        forward,
        np.hypot(forward, tracks.vy_mps[rows]),
        ego,
    )
    ids = tracks.track_id[rows]
    edges = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
    return [
        PathTrack(int(ids[a]), *(column[a:b] for column in columns)) for a, b in itertools.pairwise(edges)
    ]
