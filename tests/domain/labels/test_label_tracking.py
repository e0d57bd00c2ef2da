"""Association does not depend on order, weak detections carry on, smoothing helps, only short gaps are filled."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.labels.automatic.candidates import Candidate
from av_assets.domain.labels.sensing.box_fit import Box3D
from av_assets.domain.labels.tracks import kalman
from av_assets.domain.labels.tracks.odometry import Pose, poses
from av_assets.domain.labels.tracks.smoothing import (
    Timeline,
    cuboid_track,
    picture_track,
    resized,
    smooth_path,
    weighted_median,
)
from av_assets.domain.labels.tracks.tracking import Detection, Tracker
from av_assets.policies.autolabels import AutolabelPolicy

POLICY = AutolabelPolicy.load()
RULES = POLICY.tracks
STILL = Pose(0.0, 0.0, 0.0, True)
SURE, DOUBTFUL = RULES.sure_score + 0.1, (RULES.sure_score + RULES.doubtful_score) / 2
STEP_S = 0.1


def at(x: float, y: float, score: float = SURE, cls: str = "vehicle") -> Detection:
    return Detection(cls, score, np.array([x, y]), np.eye(2) * 0.25, np.full(2, 10.0), np.full(2, 3.0))


def tracks(frames: list[list[Detection]]) -> list[list[int]]:
    tracker = Tracker(RULES)
    return [tracker.update(i, i * STEP_S, found) for i, found in enumerate(frames)]


spots = st.lists(
    st.tuples(st.floats(-40, 40), st.floats(-20, 20), st.floats(0, 1), st.sampled_from(["vehicle", "cone"])),
    max_size=5,
)


@settings(max_examples=25, deadline=None)
@given(frames=st.lists(spots, min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_the_order_of_detections_changes_no_track(frames: list, seed: int) -> None:
    found = [[at(x, y, score, cls) for x, y, score, cls in sorted(set(frame))] for frame in frames]
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(frame)) for frame in found]
    plain = tracks(found)
    mixed = tracks([[frame[i] for i in order] for frame, order in zip(found, orders, strict=True)])
    assert mixed == [[row[i] for i in order] for row, order in zip(plain, orders, strict=True)]


@settings(max_examples=20, deadline=None)
@given(frames=st.lists(spots, min_size=1, max_size=5))
def test_the_mirror_image_has_the_same_tracks(frames: list) -> None:
    found = [[at(x, y, score, cls) for x, y, score, cls in sorted(set(f))] for f in frames]
    # Equal scores are told apart by place, which a mirror turns round: scores differ here.
    found = [list({d.score: d for d in f}.values()) for f in found]
    mirror = [[at(d.place[0], -d.place[1], d.score, d.cls) for d in f] for f in found]
    assert tracks(mirror) == tracks(found)


def test_doubtful_detections_keep_a_track_but_begin_none() -> None:
    frames = [
        [at(10 + 0.5 * i, 0, SURE if i < 3 or i > 6 else DOUBTFUL), at(30, 9, DOUBTFUL)] for i in range(10)
    ]
    numbers = tracks(frames)
    assert [row[0] for row in numbers] == [0] * 10
    assert [row[1] for row in numbers] == [-1] * 10
    assert tracks([[at(5, 5, RULES.doubtful_score / 2)]] * 3) == [[-1]] * 3


def test_sure_detections_are_served_before_nearer_doubtful_ones() -> None:
    frames = [[at(10, 0)], [at(10.2, 0, DOUBTFUL), at(10.6, 0, SURE)]]
    assert tracks(frames) == [[0], [-1, 0]]


def test_crossing_things_keep_their_numbers() -> None:
    frames = [[at(10 + 0.8 * i, -1.5), at(26 - 0.8 * i, 1.5)] for i in range(20)]
    assert tracks(frames) == [[0, 1]] * 20


def test_a_track_that_was_long_unseen_has_ended() -> None:
    gone = int(RULES.max_gap_s / STEP_S) + 2
    assert tracks([[at(10, 0)], *[[]] * gone, [at(10, 0)]])[-1] == [1]
    assert tracks([[at(10, 0)], *[[]] * 3, [at(10, 0)]])[-1] == [0]


@settings(max_examples=25, deadline=None)
@given(
    speed=st.tuples(st.floats(-15, 15), st.floats(-5, 5)),
    steps=st.lists(st.floats(0.05, 0.4), min_size=2, max_size=12),
)
def test_smoothing_never_increases_the_innovation_of_even_motion(speed: tuple, steps: list) -> None:
    times = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.outer(times, speed)
    noise, accel = np.eye(2) * 0.25, np.full(2, 3.0)
    states, innovations = [kalman.begin(0.0, places[0], noise, np.full(2, 10.0))], []
    for time_s, place in zip(times[1:], places[1:], strict=True):
        expected = kalman.predict(states[-1], time_s, accel)
        innovations.append(float(np.hypot(*kalman.innovation(expected, place, noise)[0])))
        states.append(kalman.update(expected, place, noise))
    smoothed = kalman.smooth(states, accel)
    residuals = [float(np.hypot(*(s.place - p))) for s, p in zip(smoothed, places, strict=True)]
    assert sum(residuals) <= sum(innovations) + 1e-9
    assert max(residuals) <= max(innovations) + 1e-9
    before = [np.linalg.eigvalsh(s.spread)[0] for s in smoothed]
    assert min(before) > -1e-9


def test_the_smoother_is_the_least_squares_solution() -> None:
    """Oracle: all states at once, as one weighted least-squares problem."""
    times, noise, accel, rate = np.array([0.0, 0.2, 0.5, 0.6]), 0.4, 2.0, 8.0
    seen = np.array([0.0, 1.3, 2.1, 3.9])
    rows, right, weights = [], [], []
    for i, z in enumerate(seen):
        row = np.zeros(8)
        row[2 * i] = 1
        rows.append(row[None])
        right.append([z])
        weights.append(np.array([[1 / noise**2]]))
    first = np.zeros(8)
    first[1] = 1
    rows.append(first[None])
    right.append([0.0])
    weights.append(np.array([[1 / rate**2]]))
    for i, step in enumerate(np.diff(times)):
        block = np.zeros((2, 8))
        block[:, 2 * i : 2 * i + 2] = [[-1, -step], [0, -1]]
        block[:, 2 * i + 2 : 2 * i + 4] = np.eye(2)
        rows.append(block)
        right.append([0.0, 0.0])
        q = accel**2 * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
        weights.append(np.linalg.inv(q))
    a, b = np.concatenate(rows), np.concatenate(right)
    w = np.zeros((len(b), len(b)))
    place = 0
    for part in weights:
        w[place : place + len(part), place : place + len(part)] = part
        place += len(part)
    wanted = np.linalg.solve(a.T @ w @ a, a.T @ w @ b).reshape(-1, 2)
    found = {
        i: Detection("vehicle", 1.0, np.array([z]), np.eye(1) * noise**2, np.array([rate]), np.array([accel]))
        for i, z in enumerate(seen)
    }
    path = smooth_path(found, times.tolist(), 0)
    assert np.array([s.mean for s in path.values()]) == pytest.approx(wanted, abs=1e-8)


@settings(max_examples=20, deadline=None)
@given(seen=st.sets(st.integers(0, 25), min_size=1, max_size=12), most=st.integers(0, 6))
def test_only_gaps_of_at_most_k_frames_are_filled(seen: set[int], most: int) -> None:
    path = smooth_path({f: at(float(f), 0.0) for f in seen}, [f * STEP_S for f in range(26)], most)
    assert list(path) == sorted(path)
    assert seen <= set(path)
    wanted = {f for a, b in pairwise(sorted(seen)) if b - a - 1 <= most for f in range(a + 1, b)}
    assert set(path) - seen == wanted


def seen_car(x: float, y: float, length: float = 4.4, score: float = 0.8) -> Candidate:
    box = Box3D(x, y, length, 1.8, 0.0, 1.5, 0.02)
    return Candidate("clip", 0, "vehicle", score, None, box, 30, {"lidar": score})


def line(count: int, moved: list[Pose] | None = None) -> Timeline:
    stamps = [("clip", i * 100_000_000) for i in range(count)]
    return Timeline(
        stamps, [i * STEP_S for i in range(count)], moved or [STILL] * count, np.array([1.2, 0.0])
    )


def test_a_track_has_one_size_and_its_velocity() -> None:
    seen = {f: seen_car(15 + 0.5 * f, 1.0, 4.4 if f % 3 else 3.0) for f in range(12) if f not in (5, 6)}
    placed = cuboid_track(7, seen, line(12), POLICY)
    assert [p.frame for p in placed] == list(range(12))
    assert {p.candidate.state for p in placed if p.frame in (5, 6)} == {"bridged"}
    assert {p.candidate.track for p in placed} == {7}
    assert {p.candidate.cuboid.length_m for p in placed if p.candidate.cuboid} == {4.4}
    assert placed[6].candidate.cuboid is not None
    assert placed[6].candidate.cuboid.x_m == pytest.approx(18.0, abs=0.4)
    assert placed[6].velocity_mps == pytest.approx((5.0, 0.0), abs=0.8)


def test_a_standing_car_has_no_speed_while_the_vehicle_passes_it() -> None:
    moved = poses([i * 100_000_000 for i in range(15)], [8.0] * 15, [0.1] * 15)
    seen = {}
    for frame, pose in enumerate(moved):
        x, y = pose.ego(np.array([[25.0, 3.0]]))[0]
        seen[frame] = seen_car(float(x), float(y))
    placed = cuboid_track(0, seen, line(15, moved), POLICY)
    assert all(np.hypot(*p.velocity_mps) < 0.5 for p in placed if p.velocity_mps)
    assert cuboid_track(0, seen, line(15, [Pose(0, 0, 0, False)] * 15), POLICY)[3].velocity_mps is None


def test_fewer_sightings_are_trusted_less() -> None:
    scores = [
        cuboid_track(0, {f: seen_car(15, 0) for f in range(n)}, line(12), POLICY)[0].candidate.score
        for n in (1, 3, RULES.full_trust_frames, 12)
    ]
    assert scores == sorted(scores)
    assert scores[0] < scores[2] == pytest.approx(0.8, abs=1e-6)


def test_the_faces_that_are_seen_stay_where_they_are() -> None:
    grown = resized(Box3D(20, -4, 3.0, 1.5, 0, 1.4, 0.0), (4.4, 1.8, 1.5), 0.0, np.array([1.2, 0.0]))
    assert (grown.x_m - 2.2, grown.y_m + 0.9) == pytest.approx((18.5, -3.25))
    assert resized(grown, (4.4, 1.8, 1.5), 0.0, np.zeros(2)) == grown


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 6)), min_size=1, max_size=9))
def test_the_weighted_median_is_that_of_repeated_values(pairs: list[tuple[float, int]]) -> None:
    repeated = sorted(v for v, n in pairs for _ in range(n))
    found = weighted_median(np.array([v for v, _ in pairs]), np.array([float(n) for _, n in pairs]))
    assert found == repeated[(len(repeated) - 1) // 2]


def test_boxes_in_the_picture_are_smoothed_too() -> None:
    seen = {
        f: Candidate(
            "clip", 0, "vehicle", 0.7, (100 + 3 * f + (-1) ** f, 50, 140 + 3 * f + (-1) ** f, 80), None
        )
        for f in range(10)
        if f != 4
    }
    placed = picture_track(0, seen, line(10), POLICY)
    lefts = [p.candidate.xyxy[0] for p in placed if p.candidate.xyxy]
    assert len(lefts) == 10
    assert np.abs(np.diff(lefts, 2)).max() < 2.0
    assert placed[4].candidate.state == "bridged"


@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0, 20), st.floats(-0.5, 0.5))
def test_frames_of_the_ego_vehicle_and_back(x: float, y: float, speed: float, rate: float) -> None:
    pose = poses([0, 250_000_000, 500_000_000], [speed] * 3, [rate, None, rate])[-1]
    assert pose.ego(pose.still(np.array([[x, y]])))[0] == pytest.approx([x, y], abs=1e-9)
    assert np.hypot(pose.x_m, pose.y_m) <= speed / 2 + 1e-9
    assert pose.yaw_rad == pytest.approx(rate / 2)


def test_motion_that_was_not_measured_is_unknown() -> None:
    assert not poses([0, 1], [None, None], [0.0, 0.0])[0].known
    assert not poses([0, 2_000_000_000], [5.0, None], [0.0, 0.0])[1].known
    assert poses([], [], []) == []
