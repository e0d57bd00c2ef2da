"""Boxes of many frames as flat arrays: what all detection metrics take.

Belongs here: that container. Does not belong here: matching, metrics, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Boxes:
    """n boxes: frame (n,) int64, xyxy (n, 4) float64 px, cls (n,) int64, score (n,) float64 (1 for truth)."""

    frame: NDArray[np.int64]
    xyxy: NDArray[np.float64]
    cls: NDArray[np.int64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def of_frame(cls, frame: int, xyxy: Any, classes: Any, score: Any = None) -> Self:
        """Boxes of one frame from anything numpy reads."""
        corners = np.asarray(xyxy, np.float64).reshape(-1, 4)
        scores = np.ones(len(corners)) if score is None else np.asarray(score, np.float64)
        return cls(np.full(len(corners), frame, np.int64), corners, np.asarray(classes, np.int64), scores)

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        if not parts:
            return cls.of_frame(0, [], [])
        names = ("frame", "xyxy", "cls", "score")
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))

    def where(self, keep: NDArray[np.bool_]) -> Self:
        return type(self)(self.frame[keep], self.xyxy[keep], self.cls[keep], self.score[keep])


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) intersection over union of (n, 4) and (m, 4) boxes x1 y1 x2 y2."""
    inner = _intersection(a, b)
    return _ratio(inner, _area(a)[:, None] + _area(b)[None, :] - inner)


def cover(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) share of each of `a` (n, 4) that lies on each of `b` (m, 4)."""
    return _ratio(_intersection(a, b), np.broadcast_to(_area(a)[:, None], (len(a), len(b))))


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), np.float64)


def _intersection(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(2), np.float64)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
