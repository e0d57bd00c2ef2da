"""Which detection found which object, and the average precision that follows, in plain numpy.

The same greedy rules as the COCO evaluation, kept apart from it because calibration and confidence intervals
need the match of every detection, and resampling needs it a few hundred times. Tests hold both equal.
Belongs here: matching and precision-recall at one IoU. Does not belong here: COCO's twelve numbers
(`detection`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.metrics.boxes import Boxes, cover, iou

RECALL_POINTS: Final = np.linspace(0, 1, 101)
MAX_PER_FRAME: Final = 100


@dataclass(frozen=True)
class Matches:
    """What became of each detection and how many objects there were.

    Attributes:
        correct: (n,) bool, found an object. ignored: (n,) bool, lies on an ignored object: counts neither
        way. found: the detections, in input order. num_objects: (C,) objects that count, by class.
        overlap: (n,) IoU with the matched object, 0 without.
    """

    correct: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    overlap: NDArray[np.float64]
    found: Boxes
    num_objects: NDArray[np.int64]


def match(
    truth: Boxes, found: Boxes, ignore: NDArray[np.bool_], num_classes: int, min_iou: float = 0.5
) -> Matches:
    """Greedy by score within frame and class; each object that counts is found once and comes before ignored
    ones.

    An ignored object is what COCO calls a crowd: overlap is the share of the detection that lies on it, and
    it takes up any number of detections.

    Args:
        ignore: (len(truth),) objects that are neither to be found nor to be missed.
    """
    correct = np.zeros(len(found), bool)
    ignored = np.zeros(len(found), bool)
    overlap = np.zeros(len(found))
    truth_of = _groups(truth)
    for key, rows in _groups(found).items():
        rows = rows[np.argsort(-found.score[rows], kind="stable")]
        ignored[rows[MAX_PER_FRAME:]] = True
        targets = truth_of.get(key, np.empty(0, np.int64))
        targets = targets[np.argsort(ignore[targets], kind="stable")]
        _match_group(
            found, truth, rows[:MAX_PER_FRAME], targets, ignore, min_iou, (correct, ignored, overlap)
        )
    num_objects = np.bincount(truth.cls[~ignore], minlength=num_classes)
    return Matches(correct, ignored, overlap, found, num_objects)


def _groups(boxes: Boxes) -> dict[tuple[int, int], NDArray[np.int64]]:
    if not len(boxes):
        return {}
    order = np.lexsort((np.arange(len(boxes)), boxes.cls, boxes.frame))
    keys = np.stack([boxes.frame[order], boxes.cls[order]], 1)
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(1)])
    return {
        (int(keys[s, 0]), int(keys[s, 1])): rows
        for s, rows in zip(starts, np.split(order, starts[1:]), strict=True)
    }


def _match_group(
    found: Boxes,
    truth: Boxes,
    rows: NDArray[np.int64],
    targets: NDArray[np.int64],
    ignore: NDArray[np.bool_],
    min_iou: float,
    out: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    correct, ignored, overlap = out
    counts = ~ignore[targets]
    boxes = found.xyxy[rows]
    table = np.where(counts, iou(boxes, truth.xyxy[targets]), cover(boxes, truth.xyxy[targets]))
    free = np.ones(len(targets), bool)
    for i, row in enumerate(rows):
        for group in (counts, ~counts):
            candidates = np.where(group & free, table[i], -1.0)
            best = len(targets) - 1 - int(np.argmax(candidates[::-1])) if len(targets) else -1
            if best >= 0 and candidates[best] >= min_iou:
                free[best] = ignore[targets[best]]
                overlap[row] = table[i, best]
                (correct if counts[best] else ignored)[row] = True
                break


def precision_recall(matches: Matches, cls: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall (k,) rising and interpolated precision (k,) falling over the detections of one class."""
    rows = np.flatnonzero((matches.found.cls == cls) & ~matches.ignored)
    return _curve(matches.found.score[rows], matches.correct[rows], int(matches.num_objects[cls]))


def _curve(
    score: NDArray[np.float64], correct: NDArray[np.bool_], num_objects: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    hits = np.cumsum(correct[np.argsort(-score, kind="stable")])
    precision = hits / np.arange(1, len(hits) + 1)
    return hits / max(num_objects, 1), np.maximum.accumulate(precision[::-1])[::-1]


def average_precision(score: NDArray[np.float64], correct: NDArray[np.bool_], num_objects: int) -> float:
    """Mean of the interpolated precision at 101 recalls (COCO); 0 where nothing was found."""
    recall, precision = _curve(score, correct, num_objects)
    at = np.searchsorted(recall, RECALL_POINTS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(at, len(precision))].mean())


def mean_average_precision(matches: Matches) -> float | None:
    """Mean over the classes that have objects; None where no class has."""
    values = []
    for cls in np.flatnonzero(matches.num_objects):
        rows = (matches.found.cls == cls) & ~matches.ignored
        values.append(
            average_precision(matches.found.score[rows], matches.correct[rows], int(matches.num_objects[cls]))
        )
    return float(np.mean(values)) if values else None


def map50(truth: Boxes, found: Boxes, ignore: NDArray[np.bool_], num_classes: int) -> float | None:
    """Mean average precision at IoU 0.5; None where there is nothing to find."""
    return mean_average_precision(match(truth, found, ignore, num_classes))
