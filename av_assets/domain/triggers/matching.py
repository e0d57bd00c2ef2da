"""Which alert is which adjudicated event: at most one of the other, by time.

Belongs here: pairing of time windows. Does not belong here: what is counted from the pairs (`backtest`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from av_assets.policies.triggers import MatchingLimits

Window = tuple[int, int]
"""Start and end in ns, both included."""


class Pair(NamedTuple):
    """Indices into the two sequences that were matched."""

    first: int
    second: int


def iou(one: Window, other: Window) -> float:
    """Intersection over union of two windows of time; 1 for two moments that are the same."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    spanned = max(one[1], other[1]) - min(one[0], other[0])
    if shared < 0:
        return 0.0
    return shared / spanned if spanned else 1.0


def admissible(one: Window, other: Window, limits: MatchingLimits) -> bool:
    """Enough overlap, or both ends close: short events that are a little late would not overlap."""
    apart_ns = max(abs(one[0] - other[0]), abs(one[1] - other[1]))
    return iou(one, other) >= limits.min_iou or apart_ns <= limits.tolerance_s * 1e9


def match(first: Sequence[Window], second: Sequence[Window], limits: MatchingLimits) -> list[Pair]:
    """As many pairs as can be made, and of those choices the one with the most overlap; sorted.

    An assignment problem per group of windows that lie near each other (Kuhn 1955, solved by SciPy).
    """
    from scipy.optimize import linear_sum_assignment

    pairs: list[Pair] = []
    for ours, theirs in _groups(first, second, round(limits.tolerance_s * 1e9)):
        worth = np.zeros((len(ours), len(theirs)))
        for row, i in enumerate(ours):
            for column, j in enumerate(theirs):
                if admissible(first[i], second[j], limits):
                    # One pair more is worth more than all overlap there can be.
                    worth[row, column] = min(len(ours), len(theirs)) + 1 + iou(first[i], second[j])
        rows, columns = linear_sum_assignment(worth, maximize=True)
        pairs += [Pair(ours[r], theirs[c]) for r, c in zip(rows, columns, strict=True) if worth[r, c] > 0]
    return sorted(pairs)


def _groups(
    first: Sequence[Window], second: Sequence[Window], gap_ns: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Indices of windows with no more than `gap_ns` between them; no pair can be admissible across groups."""
    every = sorted(
        [(*w, 0, i) for i, w in enumerate(first)] + [(*w, 1, j) for j, w in enumerate(second)],
    )
    held: tuple[list[int], list[int]] = ([], [])
    reached = 0
    for start, end, side, index in every:
        if (held[0] or held[1]) and start > reached + gap_ns:
            if held[0] and held[1]:
                yield held
            held = ([], [])
        reached = max(reached, end) if held[0] or held[1] else end
        held[side].append(index)
    if held[0] and held[1]:
        yield held
