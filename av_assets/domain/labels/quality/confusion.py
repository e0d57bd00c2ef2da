"""Which class becomes which: labels of two makers, matched frame by frame.

Belongs here: counting. Does not belong here: drawing (pictures), agreement beyond chance (agreement).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.matching import match_boxes

Rows = Sequence[Mapping[str, Any]]


def by_frame(rows: Rows) -> dict[tuple[str, int, str], list[Mapping[str, Any]]]:
    """(clip_id, ref_ns, camera) -> rows of that frame, in their order."""
    found: dict[tuple[str, int, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["clip_id"], row["ref_ns"], row["camera"]].append(row)
    return dict(found)


def corners(rows: Rows) -> npt.NDArray[np.float64]:
    """(N, 4) x1, y1, x2, y2 in pixels."""
    return np.array([[row[k] for k in ("x1", "y1", "x2", "y2")] for row in rows], np.float64).reshape(-1, 4)


def unmatched(rows: Rows, others: Rows, least_iou: float = 0.5) -> list[Mapping[str, Any]]:
    """Rows of one frame that no row of `others` overlaps by `least_iou`."""
    kept = {row for row, _, _ in match_boxes(corners(rows), corners(others), least_iou)}
    return [row for number, row in enumerate(rows) if number not in kept]


def confusion(
    truth: Rows, found: Rows, classes: Sequence[str], least_iou: float = 0.5
) -> npt.NDArray[np.int64]:
    """Counts (K + 1, K + 1) of boxes: class in `truth` by class in `found`, the last row and column mean "none".

    Boxes of a frame are paired one to one by overlap, whatever their class. A class that is not in `classes` counts as
    nothing was drawn.
    """
    place = {name: number for number, name in enumerate(classes)}
    counts = np.zeros((len(classes) + 1, len(classes) + 1), np.int64)
    left = by_frame([row for row in truth if row["cls"] in place])
    right = by_frame([row for row in found if row["cls"] in place])
    for frame in sorted({*left, *right}):
        a, b = left.get(frame, []), right.get(frame, [])
        pairs = match_boxes(corners(a), corners(b), least_iou)
        for i, j, _ in pairs:
            counts[place[a[i]["cls"]], place[b[j]["cls"]]] += 1
        met_a, met_b = {i for i, _, _ in pairs}, {j for _, j, _ in pairs}
        for i, row in enumerate(a):
            counts[place[row["cls"]], -1] += i not in met_a
        for j, row in enumerate(b):
            counts[-1, place[row["cls"]]] += j not in met_b
    return counts
