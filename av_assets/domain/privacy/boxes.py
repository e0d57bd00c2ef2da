"""Boxes of findings: overlap, suppression, and what a finding may look like.

Boxes are (N, 5) float32 of x1, y1, x2, y2 (px) and score. Belongs here: arithmetic on them. Does not belong
here: networks, pictures, time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from av_assets.policies.detection import ShapeRule

NO_BOXES: Final = np.zeros((0, 5), np.float32)
MAX_CANDIDATES: Final = 1000
"""Findings of one picture that are looked at any further, best first: suppression costs their square."""


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4+) and (M, 4+) boxes -> (N, M) intersection over union."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = ((x[:, 2:4] - x[:, :2]).prod(-1) for x in (a, b))
    return np.asarray(shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-9))


def suppress(boxes: np.ndarray, iou_limit: float) -> np.ndarray:
    """Greedy non-maximum suppression of (N, 5) boxes that come best first."""
    kept = []
    while len(boxes):
        kept.append(boxes[0])
        boxes = boxes[1:][iou_matrix(boxes[:1], boxes[1:])[0] <= iou_limit]
    return np.stack(kept) if kept else NO_BOXES


def best_first(boxes: np.ndarray) -> np.ndarray:
    """The `MAX_CANDIDATES` boxes with the highest scores, equal scores in the order given."""
    return np.asarray(boxes[np.argsort(-boxes[:, 4], kind="stable")[:MAX_CANDIDATES]])


def plausible(boxes: np.ndarray, shape: tuple[int, ...], rule: ShapeRule, nms_iou: float) -> np.ndarray:
    """Boxes in pixels of a picture of `shape` (H, W, ...), clipped to it, held to the rule, without doubles."""
    if not len(boxes):
        return NO_BOXES
    height, width = shape[:2]
    boxes = boxes.astype(np.float32)
    boxes[:, :4] = np.clip(boxes[:, :4], 0, [width, height, width, height])
    boxes = boxes[np.isfinite(boxes).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    shaped = (wide >= rule.aspect[0] * high) & (wide <= rule.aspect[1] * high)
    likely = (boxes[:, 4] >= rule.wide_min_score) | (wide <= rule.wide_share * width)
    scored = boxes[:, 4] >= rule.min_score
    boxes = boxes[shaped & likely & scored & (wide <= rule.max_width_share * width)]
    return suppress(best_first(boxes), nms_iou)
