"""A finished track becomes one thing of one size on a smooth path, with short gaps filled.

Belongs here: size, direction, path and score of a track, from all its sightings at once. Does not belong here: which
sighting belongs to which track (tracking), what the camera sees of it (visible).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.tracks import kalman
from av_assets.domain.labels.tracks.motion import in_picture, on_ground, place_box

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av_assets.domain.labels.automatic.candidates import Candidate
    from av_assets.domain.labels.sensing.box_fit import Box3D
    from av_assets.domain.labels.tracks.odometry import Pose
    from av_assets.domain.labels.tracks.tracking import Detection
    from av_assets.policies.autolabels import AutolabelPolicy

Floats = npt.NDArray[np.float64]
Stamp = tuple[str, int]
FULL_SIGHT = 30
Size = tuple[float, float, float]


@dataclass(frozen=True)
class Placed:
    """A candidate of a track at one frame, after smoothing.

    Attributes:
        frame: number of the frame in the drive.
        raw: what was seen there; None in a bridged gap.
        velocity_mps: (2,) over ground along the ego axes; None where it is not known.
    """

    frame: int
    candidate: Candidate
    raw: Candidate | None
    velocity_mps: tuple[float, float] | None = None


@dataclass(frozen=True)
class Timeline:
    """Stamps (clip_id, ref_ns), seconds and poses of all frames of the drive; `eye` (2,) is the lidar's place."""

    stamps: Sequence[Stamp]
    times_s: Sequence[float]
    poses: Sequence[Pose]
    eye: Floats


def cuboid_track(
    number: int, seen: Mapping[int, Candidate], line: Timeline, policy: AutolabelPolicy
) -> list[Placed]:
    """The smooth path of a thing that the lidar saw; `seen` is frame -> sighting of one class."""
    directions = _directions(seen, line, policy)
    size = _one_size(seen)
    anchored = {
        f: replace(c, cuboid=resized(c.cuboid, size, directions[f] - line.poses[f].yaw_rad, line.eye))
        for f, c in seen.items()
        if c.cuboid is not None
    }
    measured = {f: on_ground(c, line.poses[f], policy) for f, c in anchored.items()}
    path = smooth_path(measured, line.times_s, policy.tracks.bridge_frames)
    result = []
    for frame, state in path.items():
        here = anchored.get(frame)
        like = here if here is not None else _nearest(anchored, frame)
        pose = line.poses[frame]
        assert like.cuboid is not None
        x, y = (float(v) for v in pose.ego(state.place[None])[0])
        yaw = like.cuboid.yaw_rad
        if here is None:
            yaw += line.poses[_nearest_frame(anchored, frame)].yaw_rad - pose.yaw_rad
        box = replace(like.cuboid, x_m=x, y_m=y, yaw_rad=yaw)
        vx, vy = (float(v) for v in pose.turned_back(state.rate[None])[0])
        known = pose.known and len(seen) > 1
        stamped = _stamped(like, line.stamps[frame], number, here is not None)
        result.append(
            Placed(frame, replace(stamped, cuboid=box), seen.get(frame), (vx, vy) if known else None)
        )
    return _scored(result, policy)


def picture_track(
    number: int, seen: Mapping[int, Candidate], line: Timeline, policy: AutolabelPolicy
) -> list[Placed]:
    """The smooth path of a thing that only cameras saw."""
    measured = {f: in_picture(c, policy) for f, c in seen.items()}
    result = []
    for frame, state in smooth_path(measured, line.times_s, policy.tracks.bridge_frames).items():
        like = seen[frame] if frame in seen else _nearest(seen, frame)
        stamped = _stamped(like, line.stamps[frame], number, frame in seen)
        result.append(Placed(frame, replace(stamped, xyxy=place_box(state.place)), seen.get(frame)))
    return _scored(result, policy)


def smooth_path(
    measured: Mapping[int, Detection], times_s: Sequence[float], bridge_frames: int
) -> dict[int, kalman.State]:
    """Frame -> smoothed state at every measured frame, and in gaps of at most `bridge_frames` frames between them."""
    frames = sorted(measured)
    filled = [
        f
        for before, after in pairwise(frames)
        if after - before - 1 <= bridge_frames
        for f in range(before + 1, after)
    ]
    first = measured[frames[0]]
    state = kalman.begin(times_s[frames[0]], first.place, first.noise, first.rate_sigma)
    states, order = [state], sorted([*frames, *filled])
    for frame in order[1:]:
        state = kalman.predict(state, times_s[frame], first.accel_sigma)
        if frame in measured:
            state = kalman.update(state, measured[frame].place, measured[frame].noise)
        states.append(state)
    return dict(zip(order, kalman.smooth(states, first.accel_sigma), strict=True))


def _one_size(seen: Mapping[int, Candidate]) -> Size:
    """Length, width and height: medians over the sightings, those by more points counting more."""
    boxes = [(c.cuboid, max(c.points, 1)) for c in seen.values() if c.cuboid is not None]
    weights = np.array([points for _, points in boxes], dtype=np.float64)
    sizes = np.array([[b.length_m, b.width_m, b.top_m - b.bottom_m] for b, _ in boxes])
    length, width, height = (weighted_median(sizes[:, k], weights) for k in range(3))
    return length, width, height


def weighted_median(values: Floats, weights: Floats) -> float:
    """The least value at which half of the weight lies at or below."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def _directions(seen: Mapping[int, Candidate], line: Timeline, policy: AutolabelPolicy) -> dict[int, float]:
    """Frame -> direction in the still frame: that of the motion where it moves, else what neighbours agree on.

    A fitted box cannot tell front from rear, so directions are averaged as axes (doubled angles).
    """
    measured = {f: on_ground(c, line.poses[f], policy) for f, c in seen.items()}
    path = smooth_path(measured, line.times_s, 0)
    frames = sorted(seen)
    times = np.array([line.times_s[f] for f in frames])
    twice = 2 * np.array([_cuboid(seen[f]).yaw_rad + line.poses[f].yaw_rad for f in frames])
    # Two things that touch in a sweep have many points and a wrong direction: points count up to a limit.
    points = np.array([min(max(seen[f].points, 1), FULL_SIGHT) for f in frames], dtype=np.float64)
    near = points * np.exp(-0.5 * ((times[:, None] - times) / policy.direction_window_s) ** 2)
    axis = 0.5 * np.arctan2(near @ np.sin(twice), near @ np.cos(twice))
    result = {}
    for row, frame in enumerate(frames):
        vx, vy = path[frame].rate
        own = float(axis[row])
        moves = line.poses[frame].known and np.hypot(vx, vy) >= policy.direction_speed_mps and len(frames) > 2
        goes = float(np.arctan2(vy, vx))
        # The first sightings know the motion badly; a direction across what was fitted is no direction.
        if (
            moves
            and seen[frame].cls == "vehicle"
            and abs(np.sin(goes - own)) < np.sin(policy.direction_off_rad)
        ):
            own = goes
        result[frame] = own
    return result


def resized(box: Box3D, size: Size, yaw_rad: float, eye: Floats) -> Box3D:
    """The box with another size and direction; the faces that look at the sensor at `eye` (2,) stay where they are."""
    length, width, height = size
    along = (box.length_m, box.width_m)
    if abs(np.cos(yaw_rad - box.yaw_rad)) < np.sqrt(0.5):
        along = along[::-1]
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    axes = np.array([[c, s], [-s, c]])
    middle = np.array([box.x_m, box.y_m])
    to_eye = axes @ (np.asarray(eye) - middle)
    shift = [
        np.sign(far) * (was - now) / 2 if abs(far) > was / 2 else 0.0
        for far, was, now in zip(to_eye, along, (length, width), strict=True)
    ]
    x, y = (float(v) for v in middle + axes.T @ np.array(shift))
    return replace(
        box, x_m=x, y_m=y, length_m=length, width_m=width, top_m=box.bottom_m + height, yaw_rad=float(yaw_rad)
    )


def _cuboid(one: Candidate) -> Box3D:
    assert one.cuboid is not None
    return one.cuboid


def _nearest_frame(seen: Mapping[int, Candidate], frame: int) -> int:
    return min(seen, key=lambda f: (abs(f - frame), f))


def _nearest(seen: Mapping[int, Candidate], frame: int) -> Candidate:
    return seen[_nearest_frame(seen, frame)]


def _stamped(like: Candidate, stamp: Stamp, number: int, observed: bool) -> Candidate:
    here = replace(like, clip_id=stamp[0], ref_ns=stamp[1], track=number)
    return here if observed else replace(here, points=0, sources={}, blind=frozenset(), state="bridged")


def _scored(placed: list[Placed], policy: AutolabelPolicy) -> list[Placed]:
    """Scores lean on the whole track; few sightings, and standing in for none, cost some of them."""
    own = [p.candidate.score for p in placed if p.raw is not None]
    mean, share = float(np.mean(own)), policy.tracks.score_share
    trust = min(1.0, len(own) / policy.tracks.full_trust_frames)
    result = []
    for p in placed:
        base = p.candidate.score if p.raw is not None else mean * policy.tracks.bridged_score
        score = round(((1 - share) * base + share * mean) * trust, 6)
        result.append(replace(p, candidate=replace(p.candidate, score=score)))
    return result
