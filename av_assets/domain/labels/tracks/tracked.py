"""Candidates of a whole drive, tracked, smoothed and bridged; the second half of auto-labelling.

Belongs here: from sightings of frames to things over time. Does not belong here: the algebra (kalman, tracking,
smoothing), judging candidates (weak_rules, thresholds).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.labels.sensing.visible import seen_boxes
from av_assets.domain.labels.tracks.motion import in_picture, on_ground
from av_assets.domain.labels.tracks.odometry import poses
from av_assets.domain.labels.tracks.smoothing import Placed, Timeline, cuboid_track, picture_track
from av_assets.domain.labels.tracks.tracking import Tracker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.labels.automatic.candidates import Corners
    from av_assets.domain.labels.sensing.box_fit import Box3D
    from av_assets.domain.labels.sensing.views import View
    from av_assets.domain.labels.tracks.sightings import Floats, Sighting
    from av_assets.policies.autolabels import AutolabelPolicy

CROWD = 2


def tracked(sightings: Sequence[Sighting], line: Timeline, policy: AutolabelPolicy) -> list[Placed]:
    """All candidates of the drive that belong to a track, by frame; doubtful ones that no track took are left out.

    Args:
        sightings: in time order.
        line: of the same frames.
    """
    placed: list[Placed] = []
    first = 0
    for flat in (False, True):
        tracker = Tracker(policy.tracks, first)
        rows = [[c for c in s.candidates if (c.cuboid is None) == flat] for s in sightings]
        for frame, things in enumerate(rows):
            found = [
                in_picture(c, policy) if flat else on_ground(c, line.poses[frame], policy) for c in things
            ]
            tracker.update(frame, line.times_s[frame], found)
        first += len(tracker.tracks)
        path = picture_track if flat else cuboid_track
        for track in tracker.tracks:
            seen = {frame: rows[frame][row] for frame, row in track.hits}
            placed += path(track.number, seen, line, policy)
    return _apart(_believable(placed, policy), policy)


def timeline(sightings: Sequence[Sighting], eye: Floats) -> Timeline:
    """Stamps and poses of the sightings; `eye` (2,) is the place of the lidar in the ego frame."""
    frames = [s.frame for s in sightings]
    stamps = [(f.clip_id, f.ref_ns) for f in frames]
    start = stamps[0][1] if stamps else 0
    moved = poses([ns for _, ns in stamps], [f.speed_mps for f in frames], [f.yaw_rate_radps for f in frames])
    return Timeline(stamps, [(ns - start) * 1e-9 for _, ns in stamps], moved, eye)


def _believable(placed: Sequence[Placed], policy: AutolabelPolicy) -> list[Placed]:
    """Without bridged places where several others are observed, and without tracks for which that is so too often.

    People who stand together look like a vehicle in some sweeps and like people in others.
    """
    crowded = {
        (p.frame, p.candidate.track)
        for here in _by_frame(placed).values()
        for p in here
        if p.raw is None and sum(o.raw is not None and _within(o, p, policy) for o in here) >= CROWD
    }
    lengths = Counter(p.candidate.track for p in placed)
    contradicted = Counter(track for _, track in crowded)
    wrong = {t for t, n in contradicted.items() if n >= policy.contradicted_share * lengths[t]}
    return [
        p for p in placed if p.candidate.track not in wrong and (p.frame, p.candidate.track) not in crowded
    ]


def _apart(placed: Sequence[Placed], policy: AutolabelPolicy) -> list[Placed]:
    """Without what stands inside something surer in the same frame: two things cannot be at one place."""
    result = []
    for _, here in sorted(_by_frame(placed).items()):
        kept: list[Placed] = []
        for one in sorted(here, key=lambda p: (-_weight(p), p.candidate.track)):
            if not any(_within(one, k, policy) for k in kept):
                kept.append(one)
        result += sorted(kept, key=lambda p: p.candidate.track)
    return result


def _by_frame(placed: Sequence[Placed]) -> dict[int, list[Placed]]:
    frames: dict[int, list[Placed]] = defaultdict(list)
    for one in placed:
        frames[one.frame].append(one)
    return frames


def _within(inner: Placed, outer: Placed, policy: AutolabelPolicy) -> bool:
    a, b = inner.candidate.cuboid, outer.candidate.cuboid
    return a is not None and b is not None and _inside(a, b) >= policy.inside_share


def _weight(one: Placed) -> float:
    """Big things first: a part of a vehicle must not push the vehicle away."""
    box = one.candidate.cuboid
    return one.candidate.score * (1.0 if box is None else box.length_m * box.width_m)


def _inside(inner: Box3D, outer: Box3D) -> float:
    """Share of the footprint of `inner` within that of `outer`, on a grid of 5 x 5 points."""
    if np.hypot(inner.x_m - outer.x_m, inner.y_m - outer.y_m) > inner.length_m + outer.length_m:
        return 0.0
    part = (np.arange(5) - 2.0) / 5.0
    u, v = (a.reshape(-1) for a in np.meshgrid(part * inner.length_m, part * inner.width_m))
    c, s = np.cos(inner.yaw_rad), np.sin(inner.yaw_rad)
    x, y = inner.x_m + u * c - v * s - outer.x_m, inner.y_m + u * s + v * c - outer.y_m
    c, s = np.cos(outer.yaw_rad), np.sin(outer.yaw_rad)
    within = np.abs(x * c + y * s) <= outer.length_m / 2
    within &= np.abs(-x * s + y * c) <= outer.width_m / 2
    return float(within.mean())


def in_pictures(
    placed: Sequence[Placed], sightings: Sequence[Sighting], view: View | None, policy: AutolabelPolicy
) -> list[tuple[Placed, float | None, float | None]]:
    """Candidates of labelled frames with their box in the picture, the hidden share, and the distance in metres.

    The box is None where the thing is not in the picture, too small, too far or too much hidden to be labelled.
    """
    labelled = _by_frame([p for p in placed if sightings[p.frame].frame.labelled])
    return [
        shown
        for frame, here in sorted(labelled.items())
        for shown in _in_picture(here, sightings[frame], view, policy)
    ]


def _in_picture(
    placed: Sequence[Placed], sighting: Sighting, view: View | None, policy: AutolabelPolicy
) -> list[tuple[Placed, float | None, float | None]]:
    solid = [p.candidate.cuboid for p in placed if p.candidate.cuboid is not None]
    seen = iter(seen_boxes(solid, view, policy.min_inside_share) if view is not None else [None] * len(solid))
    result: list[tuple[Placed, float | None, float | None]] = []
    for one in placed:
        box, xyxy, hidden, distance = one.candidate.cuboid, one.candidate.xyxy, None, None
        if box is not None:
            here = next(seen)
            xyxy, hidden = (None, None) if here is None else (here.xyxy, here.occlusion)
            distance = None if view is None else view.distance_m(box)
            xyxy = xyxy and _corrected(xyxy, one, sighting)
        if xyxy is not None and not _is_labelled(xyxy, hidden, distance, policy):
            xyxy = None
        result.append((replace(one, candidate=replace(one.candidate, xyxy=xyxy)), hidden, distance))
    return result


def _corrected(xyxy: Corners, one: Placed, sighting: Sighting) -> Corners:
    """Moved as other sources moved the lidar's own box when they were fused."""
    raw = one.raw
    own = sighting.own_boxes.get(raw.cuboid) if raw is not None and raw.cuboid is not None else None
    if raw is None or own is None or raw.xyxy is None or len(raw.sources) < 2:
        return xyxy
    x1, y1, x2, y2 = (v + fused - was for v, fused, was in zip(xyxy, raw.xyxy, own, strict=True))
    width, height = sighting.size or (np.inf, np.inf)
    moved = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    return moved if moved[2] > moved[0] and moved[3] > moved[1] else xyxy


def _is_labelled(
    xyxy: Corners, hidden: float | None, distance_m: float | None, policy: AutolabelPolicy
) -> bool:
    return (
        min(xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]) >= policy.min_box_px
        and (hidden is None or hidden <= policy.max_occlusion)
        and (distance_m is None or distance_m <= policy.max_label_distance_m)
    )
