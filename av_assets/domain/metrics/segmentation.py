"""Drivable area: intersection over union from pixel counts.

Counts per frame are what is kept, because counts add up over any slice while means of means do not; tests
hold the result equal to torchmetrics' Jaccard index.
Belongs here: pixel metrics. Does not belong here: masks from files, slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SegmentationScores:
    """IoU of the drivable area, of the rest, and their mean; None without labelled frames."""

    drivable_iou: float | None
    other_iou: float | None
    miou: float | None
    frames: int


def pixel_counts(truth: NDArray[np.integer], probability: NDArray[np.floating]) -> NDArray[np.int64]:
    """(4,) int64: true negative, false positive, false negative, true positive pixels.

    Args:
        truth: (H, W) 0 or 1.
        probability: (h, w) of drivable; brought to (H, W) and cut at 0.5.
    """
    import cv2

    height, width = truth.shape
    resized = cv2.resize(np.asarray(probability, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.bincount((2 * (truth > 0) + (resized >= 0.5)).ravel(), minlength=4).astype(np.int64)


def segmentation_scores(counts: NDArray[np.int64]) -> SegmentationScores:
    """Scores from (n, 4) pixel counts; a kind of pixel that neither side has is left out of the mean."""
    if not len(counts):
        return SegmentationScores(None, None, None, 0)
    tn, fp, fn, tp = (int(v) for v in counts.sum(0))
    drivable = tp / (tp + fp + fn) if tp + fp + fn else None
    other = tn / (tn + fp + fn) if tn + fp + fn else None
    known = [v for v in (drivable, other) if v is not None]
    return SegmentationScores(drivable, other, sum(known) / len(known) if known else None, len(counts))
