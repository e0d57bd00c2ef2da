"""How far people agree on the boxes of the same frames.

Belongs here: matched agreement, Cohen's kappa for two, Krippendorff's alpha for any number. Does not belong
here: what is done about disagreement (consensus), who is good (label_qa).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.matching import match_boxes
from av_assets.domain.labels.people.annotators import DrawnBox, coordinates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


def shared(pairs: Sequence[Pair], least_iou: float) -> float | None:
    """Share of objects that both drew with one class and at least this overlap; None where there is no object."""
    if not pairs:
        return None
    return round(
        sum(bool(a and b and a.cls == b.cls and iou >= least_iou) for a, b, iou in pairs) / len(pairs), 4
    )


def krippendorff_alpha(things: Sequence[Mapping[str, str]]) -> float | None:
    """Krippendorff's alpha of nominal opinions ("Content Analysis", 2004); people may be missing anywhere.

    Args:
        things: per thing, person -> what they called it; "none" where they saw the place and drew nothing.

    None where fewer than two people met, or all of them always said the same one word.
    """
    things = [
        thing for thing in things if len(thing) > 1
    ]  # what one person alone said has nothing to agree with
    people = sorted({name for thing in things for name in thing})
    words = {word: n for n, word in enumerate(sorted({w for thing in things for w in thing.values()}))}
    if len(words) < 2:
        return None
    import krippendorff

    data = np.full((len(people), len(things)), np.nan)
    for column, thing in enumerate(things):
        for name, word in thing.items():
            data[people.index(name), column] = words[word]
    alpha = krippendorff.alpha(
        reliability_data=data, level_of_measurement="nominal", value_domain=list(range(len(words)))
    )
    return None if np.isnan(alpha) else round(float(alpha), 6)
