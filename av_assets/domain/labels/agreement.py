"""How far two people agree on the boxes of the same frames.

Belongs here: matched agreement and Cohen's kappa. Does not belong here: what is done about disagreement
(review).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.annotators import DrawnBox, coordinates
from av_assets.domain.labels.matching import match_boxes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOTHING = "none"
Pair = tuple[DrawnBox | None, DrawnBox | None, float]


@dataclass(frozen=True)
class Agreement:
    """Over all objects that either drew: `matched` by both, `share` of them with the same class, and so on.

    Attributes:
        share: objects drawn by both with one class, of all objects. 1 where there are none.
        kappa: Cohen's kappa over classes and "none" (drawn by the other only). Both drawing nothing at a
        place is
            not an item, so kappa is a bit too low rather than too high. None where it is not defined.
        mean_iou: of matched boxes.
    """

    objects: int
    matched: int
    share: float
    kappa: float | None
    mean_iou: float | None


def pair_boxes(a: Sequence[DrawnBox], b: Sequence[DrawnBox], least_iou: float) -> list[Pair]:
    """(box of a, box of b, IoU) for what both drew, then what only a and only b drew."""
    matches = match_boxes(coordinates(a), coordinates(b), least_iou)
    pairs: list[Pair] = [(a[i], b[j], iou) for i, j, iou in matches]
    in_a, in_b = {i for i, _, _ in matches}, {j for _, j, _ in matches}
    pairs += [(box, None, 0.0) for i, box in enumerate(a) if i not in in_a]
    pairs += [(None, box, 0.0) for j, box in enumerate(b) if j not in in_b]
    return pairs


def agreement(pairs: Iterable[Pair]) -> Agreement:
    """Agreement over the pairs of any number of frames."""
    table: Counter[tuple[str, str]] = Counter()
    overlaps = []
    for first, second, iou in pairs:
        table[first.cls if first else NOTHING, second.cls if second else NOTHING] += 1
        if first and second:
            overlaps.append(iou)
    total = sum(table.values())
    same = sum(count for (x, y), count in table.items() if x == y)
    names = sorted({name for key in table for name in key})
    matrix = np.array([[table[x, y] for y in names] for x in names])
    return Agreement(
        total,
        len(overlaps),
        round(same / total, 4) if total else 1.0,
        cohen_kappa(matrix),
        round(float(np.mean(overlaps)), 4) if overlaps else None,
    )


def cohen_kappa(table: npt.ArrayLike) -> float | None:
    """Cohen's kappa (1960) of a square table of counts (K, K); None where chance alone explains
    everything.
    """
    counts = np.asarray(table, dtype=np.float64)
    total = counts.sum()
    if total == 0:
        return None
    observed = np.trace(counts) / total
    expected = float((counts.sum(axis=0) * counts.sum(axis=1)).sum()) / total**2
    if 1.0 - expected < 1e-12:
        return None
    return round(float((observed - expected) / (1.0 - expected)), 6)
