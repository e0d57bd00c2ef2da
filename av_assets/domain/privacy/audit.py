"""How much redaction misses, measured against known places, with an exact upper bound.

Belongs here: recall against truth. Does not belong here: making truth, deciding what recall is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

_SIDES = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Recall:
    """`hidden` of `total` known objects were covered; `miss_bound`: 95 % upper bound of the miss rate."""

    total: int
    hidden: int
    miss_bound: float

    @classmethod
    def of(cls, total: int, hidden: int) -> Recall:
        return cls(total, hidden, miss_bound(total - hidden, total))

    @property
    def recall(self) -> float:
        return self.hidden / self.total if self.total else float("nan")


def measure_recall(
    boxes: pa.Table,
    truth: pa.Table,
    kind: str,
    min_side_px: float,
    cover: float = 0.75,
    max_side_px: float = float("inf"),
) -> Recall:
    """Recall over objects of `kind` in `truth` (role, sensor_ns, kind, sides) of a longer side of at least
    `min_side_px` and below `max_side_px`.

    One counts as hidden if the boxes of its frame, of any kind, cover a share `cover` of it.
    """
    areas: dict[tuple[str, int], list[np.ndarray]] = {}
    for row in boxes.to_pylist():
        sides = np.array([row[s] for s in _SIDES])
        areas.setdefault((row["role"], row["sensor_ns"]), []).append(sides)
    total = hidden = 0
    for row in truth.to_pylist():
        x1, y1, x2, y2 = (float(row[s]) for s in _SIDES)
        if row["kind"] != kind or not min_side_px <= max(x2 - x1, y2 - y1) < max_side_px:
            continue
        total += 1
        target = np.array([x1, y1, x2, y2])
        hidden += covered_share(target, areas.get((row["role"], row["sensor_ns"]), [])) >= cover
    return Recall.of(total, hidden)


def covered_share(target: np.ndarray, boxes: list[np.ndarray]) -> float:
    """Share of the target box that the union of boxes covers, on a grid of 32 x 32 points."""
    steps = (np.arange(32) + 0.5) / 32
    x = target[0] + steps * (target[2] - target[0])
    y = target[1] + steps * (target[3] - target[1])
    inside = np.zeros((32, 32), bool)
    for box in boxes:
        inside |= ((y >= box[1]) & (y <= box[3]))[:, None] & ((x >= box[0]) & (x <= box[2]))[None]
    return float(inside.mean())


def miss_bound(misses: int, total: int, confidence: float = 0.95) -> float:
    """One-sided Clopper-Pearson upper bound of the miss rate; 1 - 0.05^(1/n) where nothing was missed."""
    from scipy.stats import beta

    if total == 0 or misses >= total:
        return 1.0
    return float(beta.ppf(confidence, misses + 1, total - misses))
