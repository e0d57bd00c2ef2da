"""Simulated people: the same seed gives the same work, and errors are as often as the profile says."""

from __future__ import annotations

import numpy as np
import pytest

from av_assets.domain.labels.matching import match_boxes
from av_assets.domain.labels.people.annotators import DrawnBox, annotate, coordinates, look_over
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


@pytest.mark.parametrize("profile", PEOPLE, ids=lambda p: p.name)
def test_a_review_puts_right_most_of_what_is_missing_and_removes_what_is_wrong(profile) -> None:
    truth = things(400)
    half = [DrawnBox(t.cls, t.xyxy, t.object_id) for t in truth[::2]]
    wrong = [DrawnBox("cone", (100.0 * i, 300.0, 100.0 * i + 30, 330.0)) for i in range(50)]
    rng = np.random.default_rng(1)
    seen = look_over([*half, *wrong], truth, [], profile, (100_000, 400), 0.9, POLICY.match_iou, rng).boxes
    found = {b.object_id for b in seen if b.object_id >= 0}
    assert {b.object_id for b in half} <= found
    assert len(found) >= 200 + 0.8 * 200
    assert sum(b.object_id < 0 for b in seen) <= 0.25 * len(wrong)


def test_boxes_name_the_pre_annotation_that_they_came_from() -> None:
    truth = things(3)
    auto = [DrawnBox(t.cls, t.xyxy, label_id=f"auto-{t.object_id:04d}") for t in truth[:2]]
    drawn = annotate(truth, auto, PEOPLE[-1], (100_000, 100), np.random.default_rng(0)).boxes
    assert {b.object_id: b.label_id for b in drawn} == {0: "auto-0000", 1: "auto-0001", 2: None}
