"""3D detection scores are nuScenes': the development kit itself is the oracle."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import DatasetError, TransientError
from av_assets.domain.metrics.boxes3d import Boxes3d
from av_assets.domain.metrics.nuscenes import (
    DISTANCES_M,
    ERRORS,
    MAX_PER_FRAME,
    RULES,
    ClassRule,
    detection_score,
    map3d,
    match_classes,
    nuscenes_scores,
    rules_of,
)
from resources.tool_environments import tool, tool_variables

NAMES = tuple(sorted(RULES))
ALL_RULES = tuple(RULES[name] for name in NAMES)
DEVKIT_ERRORS = dict(
    zip(ERRORS, ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"), strict=True)
)
CARS = (ClassRule(50.0),)


def random_boxes(rng: np.random.Generator, frames: int, classes: int, most: int) -> Boxes3d:
    parts = []
    for frame in range(frames):
        n = int(rng.integers(0, most + 1))
        place = rng.uniform(-45, 45, (n, 2))
        box = np.column_stack(
            [
                place,
                rng.uniform(-1, 2, n),
                rng.uniform(0.3, 6, (n, 3)),
                rng.uniform(-4, 4, n),
                rng.normal(0, 5, (n, 2)),
            ]
        )
        box[rng.random(n) < 0.2, 7:] = np.nan
        parts.append(Boxes3d.of_frame(frame, box, rng.integers(0, classes, n), points=rng.integers(0, 5, n)))
    return Boxes3d.concat(parts)


def noisy(truth: Boxes3d, rng: np.random.Generator, classes: int) -> Boxes3d:
    """Most objects, moved by up to a few metres, among false ones; scores with and without ties."""
    kept = truth.where(rng.random(len(truth)) < 0.85)
    box = kept.box.copy()
    box[:, :2] += rng.normal(0, 1, (len(box), 2)) * rng.choice([0.2, 1.0, 3.0], (len(box), 1))
    box[:, 3:6] *= rng.uniform(0.7, 1.4, (len(box), 3))
    box[:, 6] += rng.normal(0, 0.6, len(box))
    box[:, 7:] = np.nan_to_num(box[:, 7:]) + rng.normal(0, 1, (len(box), 2))
    frames = int(truth.frame.max(initial=0)) + 1
    false = random_boxes(rng, frames, classes, 6)
    false.box[:, 7:] = 0.0
    parts = [Boxes3d(kept.frame, box, kept.cls, np.ones(len(box)), np.full(len(box), -1)), false]
    found = Boxes3d.concat(parts)
    score = rng.random(len(found))
    score = np.round(score, 1) if rng.random() < 0.3 else score
    order = np.argsort(found.frame, kind="stable")  # as a model gives them, frame by frame
    return Boxes3d(found.frame, found.box, found.cls, score, np.full(len(found), -1)).where(order)


def counted(boxes: Boxes3d) -> Boxes3d:
    ranges = np.array([rule.range_m for rule in ALL_RULES])[boxes.cls]
    return boxes.where((boxes.distance_m < ranges) & (boxes.points != 0))


def rows_of(boxes: Boxes3d) -> list[dict[str, Any]]:
    return [
        {
            "frame": int(f),
            "box": [None if np.isnan(v) else float(v) for v in box],
            "cls": NAMES[c],
            "score": float(s),
            "points": int(p),
        }
        for f, box, c, s, p in zip(boxes.frame, boxes.box, boxes.cls, boxes.score, boxes.points, strict=True)
    ]


def test_scores_are_those_of_the_development_kit(tmp_path: Path) -> None:
    try:
        python = tool("nuscenes", "python")
    except TransientError:
        pytest.skip("the devkit cannot be installed: the package registry cannot be reached")
    cases = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        classes = [len(NAMES), 3][seed % 2]
        truth = random_boxes(rng, int(rng.integers(1, 12)), classes, int(rng.choice([3, 12, 40])))
        cases.append((truth, noisy(truth, rng, classes)))
    frames = [int(t.frame.max(initial=0)) + 1 for t, _ in cases]
    told = [
        {"frames": n, "truth": rows_of(t), "found": rows_of(f)}
        for n, (t, f) in zip(frames, cases, strict=True)
    ]
    (tmp_path / "cases.json").write_text(json.dumps(told))
    script = Path(__file__).with_name("devkit_scores.py")
    run = subprocess.run(
        [str(python), str(script), str(tmp_path / "cases.json")],
        capture_output=True,
        text=True,
        env=tool_variables(MPLCONFIGDIR=str(tmp_path)),
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    wanted = json.loads(run.stdout.splitlines()[-1])
    reached = 0
    for (truth, found), kit in zip(cases, wanted, strict=True):
        scores = nuscenes_scores(match_classes(counted(truth), counted(found), ALL_RULES), ALL_RULES)
        ap = [[kit["label_aps"][name][str(d)] for d in DISTANCES_M] for name in NAMES]
        np.testing.assert_allclose(scores.ap, ap, atol=1e-6)
        errors = [[kit["label_tp_errors"][name][DEVKIT_ERRORS[e]] for e in ERRORS] for name in NAMES]
        np.testing.assert_allclose(scores.errors, errors, atol=1e-6)
        assert scores.mean_ap == pytest.approx(kit["mean_ap"], abs=1e-6)
        assert scores.nds == pytest.approx(kit["nd_score"], abs=1e-6)
        reached += int((scores.errors[:, :4] < 1).any())
    assert reached >= 30  # cases in which errors come from matches


def test_nds_of_a_known_vector() -> None:
    errors = dict(zip(ERRORS, (0.3, 0.25, 0.4, 1.2, 0.2), strict=True))
    assert detection_score(0.5, errors) == pytest.approx(0.535)
    assert detection_score(0.5, errors | {"aoe_rad": None}) is None


def cuboids(xs: list[float], scores: list[float] | None = None, frame: int = 0) -> Boxes3d:
    box = [[x, 0.0, 0.5, 4.0, 2.0, 1.5, 0.0, 1.0, 0.0] for x in xs]
    return Boxes3d.of_frame(frame, box, [0] * len(xs), scores)


@pytest.mark.parametrize(("off_m", "within"), [(0.49, 4), (0.5, 3), (0.99, 3), (1.0, 2), (2.0, 1), (4.0, 0)])
def test_a_distance_must_stay_below_the_threshold(off_m: float, within: int) -> None:
    (matches,) = match_classes(cuboids([10.0]), cuboids([10.0 + off_m], [0.5]), CARS)
    assert matches.hit.sum() == within


def test_each_object_is_found_once_and_the_better_detection_chooses_first() -> None:
    (matches,) = match_classes(cuboids([10.0, 11.0]), cuboids([10.4, 10.6, 10.5], [0.9, 0.8, 0.7]), CARS)
    assert matches.score.tolist() == [0.9, 0.8, 0.7]
    assert matches.hit[1].tolist() == [True, True, False]
    (matches,) = match_classes(cuboids([10.0]), cuboids([10.1, 10.0], [0.9, 0.8]), CARS)
    assert matches.hit[0].tolist() == [True, False]


def test_without_objects_there_is_nothing_to_say_and_without_detections_nothing_is_found() -> None:
    none = Boxes3d.concat([])
    assert map3d(none, cuboids([1.0], [0.5]), CARS) is None
    assert map3d(cuboids([1.0]), none, CARS) == 0.0
    scores = nuscenes_scores(match_classes(none, none, CARS), CARS)
    assert (scores.mean_ap, scores.nds) == (0.0, 0.0)
    assert set(scores.mean_errors.values()) == {1.0}


def test_a_class_without_objects_is_0_by_the_definition_and_left_out_of_what_is_reported() -> None:
    truth, rules = cuboids([10.0]), (*CARS, ClassRule(40.0))
    assert nuscenes_scores(match_classes(truth, truth, rules), rules).mean_ap == pytest.approx(0.5)
    assert map3d(truth, truth, rules) == pytest.approx(1.0)


def test_a_velocity_that_nobody_knows_is_no_error() -> None:
    truth = cuboids([float(x) for x in range(0, 40, 5)])
    truth.box[1:, 7:] = np.nan
    found = Boxes3d(truth.frame, truth.box.copy(), truth.cls, np.linspace(0.9, 0.2, len(truth)), truth.points)
    found.box[:, 7:] = (1.0, 0.5)
    scores = nuscenes_scores(match_classes(truth, found, CARS), CARS)
    assert scores.mean_errors["ave_mps"] == pytest.approx(0.5)
    truth.box[:, 7:] = np.nan
    assert nuscenes_scores(match_classes(truth, found, CARS), CARS).mean_errors["ave_mps"] == 1.0


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_truth_itself_is_ideal_but_for_attributes(seed: int) -> None:
    truth = random_boxes(np.random.default_rng(seed), 6, 3, 8)
    rules = tuple(RULES[n] for n in ("car", "pedestrian", "traffic_cone"))
    present = sorted(set(truth.cls.tolist()))
    if not present:
        return
    told = Boxes3d(truth.frame, np.nan_to_num(truth.box), truth.cls, np.full(len(truth), 0.5), truth.points)
    assert map3d(truth, told, rules) == pytest.approx(1.0)
    scores = nuscenes_scores(match_classes(truth, told, rules), rules)
    assert scores.errors[present, :2] == pytest.approx(0.0, abs=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = random_boxes(rng, 4, 3, 8)
    found = noisy(truth, rng, 3)
    found = Boxes3d(
        found.frame, found.box, found.cls, rng.permutation(len(found)) / 100.0 + 0.01, found.points
    )
    mixed = truth.where(rng.permutation(len(truth))), found.where(rng.permutation(len(found)))
    one = nuscenes_scores(match_classes(truth, found, ALL_RULES), ALL_RULES)
    other = nuscenes_scores(match_classes(*mixed, ALL_RULES), ALL_RULES)
    np.testing.assert_allclose(one.ap, other.ap, atol=1e-12)
    np.testing.assert_allclose(one.errors, other.errors, atol=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_wider_threshold_never_finds_less_of_far_apart_objects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 10))
    truth = cuboids([10.0 * i for i in range(n)])  # too far apart for a detection to choose between two
    found = cuboids([10.0 * i + rng.uniform(-4.5, 4.5) for i in range(n)], list(rng.random(n) + 0.01))
    (matches,) = match_classes(truth, found, CARS)
    assert (np.diff(matches.hit.astype(int), axis=0) >= 0).all()


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_frames_that_count_twice_are_frames_that_are_there_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = random_boxes(rng, 4, 1, 6)
    found = noisy(truth, rng, 1)
    times = rng.integers(0, 3, 4)
    copies = [
        [(f * 10 + k, part.where(part.frame == f)) for f in range(4) for k in range(times[f])]
        for part in (truth, found)
    ]
    truth2, found2 = (
        Boxes3d.concat([Boxes3d(np.full(len(b), f), b.box, b.cls, b.score, b.points) for f, b in part])
        for part in copies
    )
    (matches,) = match_classes(truth, found, CARS)
    (wanted,) = match_classes(truth2, found2, CARS)
    given_ = matches.resampled(times)
    np.testing.assert_array_equal(given_.score, wanted.score)
    assert len(given_.objects) == len(wanted.objects)
    assert given_.hit.sum(1).tolist() == wanted.hit.sum(1).tolist()


def test_classes_need_a_rule() -> None:
    assert rules_of(["vehicle"], {"vehicle": "car"}) == (RULES["car"],)
    with pytest.raises(DatasetError) as caught:
        rules_of(["vehicle", "tram"], {"vehicle": "car"})
    assert caught.value.code == "class_without_rule"
    assert MAX_PER_FRAME == 500
