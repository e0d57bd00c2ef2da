"""Detection quality as COCO defines it, computed by faster-coco-eval.

Belongs here: the way into and out of the COCO evaluation. Does not belong here: matching for other purposes
(`matching`), slices, thresholds.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.metrics.boxes import Boxes

NAMES: Final = (
    *("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge"),
    *("AR1", "AR10", "AR100", "ARsmall", "ARmedium", "ARlarge"),
)
IOU_50: Final = 0  # first of the ten thresholds .50:.05:.95


@dataclass(frozen=True)
class DetectionScores:
    """The twelve COCO numbers (None where nothing of the kind exists) and AP50 by class name."""

    numbers: dict[str, float | None]
    ap50_by_class: dict[str, float | None]

    @property
    def map50(self) -> float | None:
        return self.numbers["AP50"]


def coco_numbers(
    truth: dict[str, Any], found: Sequence[dict[str, Any]]
) -> tuple[dict[str, float | None], dict[int, float | None], dict[int, float | None]]:
    """The twelve numbers, AP by category id and AP50 by category id, of COCO-style annotations and results.

    Without any result all numbers are 0 where there is something to find, None elsewhere.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    ids = [int(c["id"]) for c in truth["categories"]]
    if not truth["annotations"] or not found:
        annotated = {a["category_id"] for a in truth["annotations"] if not a.get("iscrowd")}
        by_class: dict[int, float | None] = {i: 0.0 if i in annotated else None for i in ids}
        return dict.fromkeys(NAMES, 0.0 if annotated else None), by_class, dict(by_class)
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(truth)
        evaluation = COCOeval_faster(gt, gt.loadRes(list(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = {name: _known(value) for name, value in zip(NAMES, evaluation.stats, strict=False)}
    precision = evaluation.eval["precision"][
        :, :, :, 0, -1
    ]  # (IoU, recall, class), all areas, most detections
    order = [int(c) for c in evaluation.params.catIds]
    ap = {c: _mean(precision[:, :, k]) for k, c in enumerate(order)}
    ap50 = {c: _mean(precision[IOU_50, :, k]) for k, c in enumerate(order)}
    return numbers, ap, ap50


def _known(value: float) -> float | None:
    return None if value < 0 or not np.isfinite(value) else float(value)


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def detection_scores(
    truth: Boxes, found: Boxes, ignore: NDArray[np.bool_], frames: Sequence[int], classes: Sequence[str]
) -> DetectionScores:
    """COCO numbers over `frames`.

    Args:
        ignore: (len(truth),) bool; such objects are crowds: neither to be found nor to be missed.
        frames: ids of all frames, also those without objects: detections on them are false.
        classes: names; `cls` of the boxes is the index.
    """
    annotations = [
        {"id": i + 1, "image_id": int(f), "category_id": int(c) + 1, "bbox": box, "area": box[2] * box[3]}
        | {"iscrowd": int(crowd)}
        for i, (f, c, box, crowd) in enumerate(
            zip(truth.frame, truth.cls, _xywh(truth.xyxy), ignore, strict=True)
        )
    ]
    results = [
        {"image_id": int(f), "category_id": int(c) + 1, "bbox": box, "score": float(s)}
        for f, c, box, s in zip(found.frame, found.cls, _xywh(found.xyxy), found.score, strict=True)
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(classes)]
    images = [{"id": int(f)} for f in frames]
    dataset = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    numbers, _, ap50 = coco_numbers(dataset, results)
    return DetectionScores(numbers, {name: ap50.get(i + 1) for i, name in enumerate(classes)})


def _xywh(xyxy: NDArray[np.float64]) -> list[list[float]]:
    return [[float(v) for v in row] for row in np.column_stack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]])]
