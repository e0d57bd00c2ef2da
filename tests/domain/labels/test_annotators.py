"""Simulated people: the same seed gives the same work, and errors are as often as the profile says."""

from __future__ import annotations

import numpy as np
import pytest

from av_assets.domain.labels.annotators import DrawnBox, annotate, coordinates
from av_assets.domain.labels.matching import match_boxes
from av_assets.domain.labels.review import plan_tasks, sample_size, work_on
from av_assets.policies.annotation import AnnotationPolicy

POLICY = AnnotationPolicy.load()
SIZE = (640, 384)
PEOPLE = (*POLICY.annotators, POLICY.adjudicator)


def things(count: int = 400, seed: int = 0) -> list[DrawnBox]:
    """Boxes that do not overlap, of 30 to 60 px."""
    rng = np.random.default_rng(seed)
    result = []
    for index in range(count):
        x, y = 100.0 * (index % 1000), 0.0
        w, h = rng.uniform(30, 60, 2)
        cls = ("vehicle", "pedestrian", "cone")[index % 3]
        result.append(DrawnBox(cls, (x, y, x + w, y + h), index, 0.1, 20.0))
    return result


def test_the_same_seed_gives_the_same_annotation() -> None:
    one = annotate(things(), [], PEOPLE[0], (100_000, 100), np.random.default_rng(3))
    two = annotate(things(), [], PEOPLE[0], (100_000, 100), np.random.default_rng(3))
    other = annotate(things(), [], PEOPLE[0], (100_000, 100), np.random.default_rng(4))
    assert one == two != other


@pytest.mark.parametrize("profile", PEOPLE, ids=lambda p: p.name)
def test_errors_are_as_often_as_the_profile_says(profile) -> None:
    truth = things(2000)
    drawn = annotate(truth, [], profile, (1_000_000, 100), np.random.default_rng(0)).boxes
    assert 1 - len(drawn) / 2000 == pytest.approx(profile.miss_rate, abs=0.012)
    wrong = sum(box.cls != truth[box.object_id].cls for box in drawn)
    assert wrong / 2000 == pytest.approx(profile.confusion_rate, abs=0.01)
    pairs = match_boxes(coordinates(drawn[:300]), coordinates([truth[b.object_id] for b in drawn[:300]]), 0.3)
    assert np.mean([iou for _, _, iou in pairs]) > 0.88


def test_good_pre_annotations_are_kept_and_save_time() -> None:
    truth = things(50)
    perfect = [DrawnBox(t.cls, t.xyxy) for t in truth]
    profile = PEOPLE[0]
    size = (100_000, 100)
    helped = annotate(truth, perfect, profile, size, np.random.default_rng(0))
    alone = annotate(truth, [], profile, size, np.random.default_rng(0))
    assert {b.xyxy for b in helped.boxes} <= {t.xyxy for t in truth}
    assert helped.seconds < alone.seconds


def test_boxes_stay_in_the_picture() -> None:
    edge = [
        DrawnBox("vehicle", (0.0, 0.0, 640.0, 384.0), 0),
        DrawnBox("cone", (630.0, 370.0, 640.0, 384.0), 1),
    ]
    for seed in range(50):
        for box in annotate(edge, [], PEOPLE[1], SIZE, np.random.default_rng(seed)).boxes:
            x1, y1, x2, y2 = box.xyxy
            assert 0 <= x1 < x2 <= 640
            assert 0 <= y1 < y2 <= 384


def test_sample_size_of_the_textbook() -> None:
    assert sample_size(10**9, 0.5, 0.05, 1.96) == 385
    assert sample_size(100, 0.5, 0.05, 1.96) == 80
    assert sample_size(0, 0.5, 0.05, 1.96) == 0


def test_nobody_reviews_their_own_work_and_safety_frames_are_done_twice() -> None:
    classes = [frozenset({"pedestrian"} if i % 7 == 0 else {"vehicle"}) for i in range(900)]
    tasks = plan_tasks(classes, POLICY, np.random.default_rng(0))
    assert all(task.author != task.reviewer for task in tasks)
    assert all(task.twice for task in tasks if task.index % 7 == 0)
    assert any(not task.twice for task in tasks)
    assert sum(task.gold for task in tasks) == 90
    assert {task.author.name for task in tasks} == {p.name for p in POLICY.annotators}


@pytest.mark.parametrize("cls", ["vehicle", "pedestrian"])
def test_after_review_hardly_anything_is_missing_or_wrong(cls: str) -> None:
    policy = POLICY
    found = wanted = wrong = adjudicated = 0
    for seed in range(60):
        truth = [DrawnBox(cls, (40.0 * i, 100.0, 40.0 * i + 30, 140.0), i, 0.0, 20.0) for i in range(10)]
        junk = [DrawnBox("vehicle", (40.0 * i, 300.0, 40.0 * i + 20, 330.0)) for i in range(3)]
        rng = np.random.default_rng(seed)
        (task,) = plan_tasks([frozenset({cls})], policy, rng)
        result = work_on(task, truth, junk, SIZE, policy, rng)
        pairs = match_boxes(coordinates(result.boxes), coordinates(truth), 0.5)
        found += sum(result.boxes[i].cls == cls for i, _, _ in pairs)
        wanted += len(truth)
        wrong += len(result.boxes) - len(pairs)
        adjudicated += result.adjudicated
        assert len(set(result.annotators)) >= 2
    assert found / wanted >= 0.97
    assert wrong <= 3
    assert adjudicated > 0
