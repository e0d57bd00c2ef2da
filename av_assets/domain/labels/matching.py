"""Which box of one list is which of another: overlap, and one-to-one assignment.

Belongs here: geometry of two lists of picture boxes. Does not belong here: average precision (metrics),
decisions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def iou_matrix(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """(N, 4) and (M, 4) boxes x1, y1, x2, y2 -> (N, M) intersection over union; empty boxes give 0."""
    first = np.asarray(a, dtype=np.float64).reshape(-1, 1, 4)
    second = np.asarray(b, dtype=np.float64).reshape(1, -1, 4)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    both = np.maximum(high - low, 0).prod(axis=-1)
    area = [np.maximum(x[..., 2:] - x[..., :2], 0).prod(axis=-1) for x in (first, second)]
    union = area[0] + area[1] - both
    result: Floats = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return result


def match_boxes(a: npt.ArrayLike, b: npt.ArrayLike, least_iou: float) -> list[tuple[int, int, float]]:
    """Pairs (row, column, IoU) of the assignment with the largest total IoU among pairs of at least
    `least_iou`.
    """
    from scipy.optimize import linear_sum_assignment

    overlap = iou_matrix(a, b)
    if overlap.size == 0:
        return []
    gain = np.where(overlap >= least_iou, overlap, 0.0)
    rows, columns = linear_sum_assignment(-gain)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(r, c, float(overlap[r, c])) for r, c in pairs if overlap[r, c] >= max(least_iou, 1e-12)]
