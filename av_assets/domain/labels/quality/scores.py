"""Precision, recall and overlap of one set of boxes against another, frame by frame.

Belongs here: those counts at one overlap. Does not belong here: average precision of models (metrics).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.labels.people.agreement import pair_boxes
from av_assets.domain.labels.schema import CLASSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.labels.people.annotators import DrawnBox


def label_quality(
    found: Sequence[Sequence[DrawnBox]], final: Sequence[Sequence[DrawnBox]], least_iou: float
) -> dict[str, dict[str, Any]]:
    """`found` against `final`, per class and over "all": tp, fp, fn, precision, recall, mean_iou (null
    where empty).

    Classes are matched apart, so a wrong class is one false and one missed box.
    """
    result = {}
    total: list[tuple[int, int, int, list[float]]] = []
    for cls in CLASSES:
        tp, fp, fn = 0, 0, 0
        overlaps: list[float] = []
        for ours, theirs in zip(found, final, strict=True):
            pairs = pair_boxes(
                [b for b in ours if b.cls == cls], [b for b in theirs if b.cls == cls], least_iou
            )
            overlaps += [iou for a, b, iou in pairs if a and b]
            fp += sum(b is None for _, b, _ in pairs)
            fn += sum(a is None for a, _, _ in pairs)
        tp = len(overlaps)
        total.append((tp, fp, fn, overlaps))
        result[cls] = _scores(tp, fp, fn, overlaps)
    tp, fp, fn = (sum(part[k] for part in total) for k in range(3))  # type: ignore[misc]
    result["all"] = _scores(tp, fp, fn, [iou for part in total for iou in part[3]])
    return result


def gold_scores(
    pairs: Sequence[tuple[Sequence[DrawnBox], Sequence[DrawnBox]]], least_iou: float
) -> dict[str, Any]:
    """One person on the frames whose answer is known."""
    scores = label_quality([a for a, _ in pairs], [b for _, b in pairs], least_iou)
    return {"frames": len(pairs), **scores["all"]}


def _scores(tp: int, fp: int, fn: int, overlaps: Sequence[float]) -> dict[str, Any]:
    return {
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "precision": round(tp / (tp + fp), 4) if tp + fp else None,
        "recall": round(tp / (tp + fn), 4) if tp + fn else None,
        "mean_iou": round(float(np.mean(overlaps)), 4) if len(overlaps) else None,
    }
