from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from av_assets.domain.metrics.boxes import Boxes, cover, iou
from av_assets.domain.metrics.detection import NAMES, coco_numbers, detection_scores
from av_assets.domain.metrics.matching import map50, match

CLASSES = ("vehicle", "pedestrian", "cone")


def random_boxes(rng: np.random.Generator, count: int, frames: int = 6) -> Boxes:
    corner = rng.uniform(0, 300, (count, 2))
    xyxy = np.column_stack([corner, corner + rng.uniform(8, 120, (count, 2))])
    return Boxes(rng.integers(0, frames, count), xyxy, rng.integers(0, 3, count), rng.uniform(0, 1, count))


def jittered(rng: np.random.Generator, truth: Boxes, extra: int) -> Boxes:
    """Most objects found, some a little off, some of another class, and some found where nothing is."""
    keep = rng.random(len(truth)) < 0.8
    found = truth.where(keep)
    cls = np.where(rng.random(len(found)) < 0.9, found.cls, (found.cls + 1) % 3)
    xyxy = found.xyxy + rng.normal(0, 4, (len(found), 4))
    xyxy[:, 2:] = np.maximum(xyxy[:, 2:], xyxy[:, :2] + 1)
    moved = Boxes(found.frame, xyxy, cls, rng.uniform(0, 1, len(found)))
    return Boxes.concat([moved, random_boxes(rng, extra)])


def scores(truth: Boxes, found: Boxes, ignore: np.ndarray | None = None):
    ignore = np.zeros(len(truth), bool) if ignore is None else ignore
    return detection_scores(truth, found, ignore, range(6), CLASSES)


def pycocotools_numbers(dataset: dict, found: list[dict]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = json.loads(json.dumps(dataset))
        gt.createIndex()
        reference = COCOeval(gt, gt.loadRes(json.loads(json.dumps(found))), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    return [float(v) for v in reference.stats]


def as_coco(truth: Boxes, found: Boxes, ignore: np.ndarray) -> tuple[dict, list[dict]]:
    def box(row: np.ndarray) -> list[float]:
        return [float(row[0]), float(row[1]), float(row[2] - row[0]), float(row[3] - row[1])]

    annotations = [
        {"id": i + 1, "image_id": int(f), "category_id": int(c) + 1, "bbox": box(b), "iscrowd": int(g)}
        | {"area": box(b)[2] * box(b)[3]}
        for i, (f, c, b, g) in enumerate(zip(truth.frame, truth.cls, truth.xyxy, ignore, strict=True))
    ]
    results = [
        {"image_id": int(f), "category_id": int(c) + 1, "bbox": box(b), "score": float(s)}
        for f, c, b, s in zip(found.frame, found.cls, found.xyxy, found.score, strict=True)
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    images = [{"id": i} for i in range(6)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}, results


def test_finding_exactly_what_is_there_is_ideal() -> None:
    truth = random_boxes(np.random.default_rng(0), 40)
    result = scores(truth, truth)
    assert result.map50 == 1
    assert result.numbers["AP"] == 1
    assert set(result.ap50_by_class.values()) == {1.0}
    assert map50(truth, truth, np.zeros(40, bool), 3) == 1


def test_one_box_moved_costs_what_it_must() -> None:
    """Ten objects, the surest detection moved away: precision 9/10 up to recall 9/10, then nothing."""
    xyxy = np.array([[40.0 * i, 0, 40 * i + 30, 30] for i in range(10)])
    truth = Boxes.of_frame(0, xyxy, np.zeros(10, int))
    moved = xyxy.copy()
    moved[0] += 500
    found = Boxes.of_frame(0, moved, np.zeros(10, int), np.linspace(1, 0.1, 10))
    expected = 0.9 * 91 / 101
    assert scores(truth, found).ap50_by_class["vehicle"] == pytest.approx(expected, abs=1e-9)
    assert map50(truth, found, np.zeros(10, bool), 3) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_random_cases_equal_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = random_boxes(rng, 60)
    found = jittered(rng, truth, 30)
    ignore = rng.random(60) < 0.2
    dataset, results = as_coco(truth, found, ignore)
    expected = pycocotools_numbers(dataset, results)
    numbers, _, ap50 = coco_numbers(dataset, results)
    for name, value in zip(NAMES, expected, strict=True):
        assert (numbers[name] if numbers[name] is not None else -1) == pytest.approx(value, abs=1e-6), name
    assert scores(truth, found, ignore).numbers == pytest.approx(numbers, abs=1e-12)
    # our own matching gives the same AP50 as COCO
    assert map50(truth, found, ignore, 3) == pytest.approx(numbers["AP50"], abs=1e-9)
    assert np.mean(list(ap50.values())) == pytest.approx(numbers["AP50"], abs=1e-9)


def test_published_coco_numbers(real_data: Path) -> None:
    case = json.loads((real_data / "metrics" / "coco_val2014_100.json").read_text())
    numbers, by_class, _ = coco_numbers(case["gt"], case["dt"])
    assert numbers == pytest.approx(case["expected"], abs=1e-6)
    assert numbers["AP"] == pytest.approx(0.505, abs=5e-4)
    for category, value in case["expected_per_category"].items():
        assert by_class[int(category)] == (None if value is None else pytest.approx(value, abs=1e-6))


def test_nothing_found_is_zero_and_nothing_there_is_unknown() -> None:
    truth, nothing = random_boxes(np.random.default_rng(0), 10), Boxes.concat([])
    assert scores(truth, nothing).map50 == 0
    assert scores(nothing, truth).map50 is None
    assert scores(nothing, nothing).map50 is None
    assert map50(truth, nothing, np.zeros(10, bool), 3) == 0
    assert map50(nothing, truth, np.zeros(0, bool), 3) is None


def test_detections_on_ignored_objects_do_not_count() -> None:
    truth = Boxes.of_frame(0, [[0, 0, 40, 40], [100, 0, 140, 40]], [0, 0])
    found = Boxes.of_frame(
        0, [[0, 0, 40, 40], [100, 0, 140, 40], [102, 0, 140, 38]], [0, 0, 0], [0.5, 0.9, 0.8]
    )
    matches = match(truth, found, np.array([False, True]), 3)
    assert matches.correct.tolist() == [True, False, False]
    assert matches.ignored.tolist() == [False, True, True]
    assert matches.num_objects.tolist() == [1, 0, 0]


def test_an_object_is_found_once() -> None:
    truth = Boxes.of_frame(0, [[0, 0, 40, 40]], [0])
    found = Boxes.of_frame(0, [[1, 0, 41, 40], [0, 0, 40, 40]], [0, 0], [0.9, 0.8])
    assert match(truth, found, np.array([False]), 1).correct.tolist() == [True, False]


def test_overlaps() -> None:
    a, b = np.array([[0, 0, 10, 10], [20, 20, 20, 20]], float), np.array([[5, 0, 15, 10]], float)
    assert iou(a, b).ravel() == pytest.approx([1 / 3, 0])
    assert cover(a, b).ravel() == pytest.approx([0.5, 0])


def test_curves_of_a_class_of_which_nothing_was_found_are_drawn_empty() -> None:
    from av_assets.domain.metrics.pictures import pr_curves

    nothing = np.zeros(0)
    assert pr_curves({"cone": (nothing, nothing, 0.0), "vehicle": (np.ones(1), np.ones(1), 1.0)}).startswith(
        b"\x89PNG"
    )
