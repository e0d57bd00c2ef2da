"""Choosing under a budget: worth of each clip plus what the set shows together, with quotas per slice.

The objective F(S) = (1 - d) mean over the budget of the scores in S + d mean over all clips v of max over s in S of
their likeness is monotone and submodular (a modular part plus facility location). Greedy choice therefore reaches at
least (1 - 1/e) of the best set of that size (Nemhauser, Wolsey and Fisher 1978), 1/2 where disjoint slices have
quotas, and 1/(1 + p) where a clip may be in p - 1 slices with quotas (Fisher, Nemhauser and Wolsey 1978).
Belongs here: the greedy choice. Does not belong here: scores, likeness, slices.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from av_assets.policies.mining import MiningSpec

_ROUND = 12


@dataclass(frozen=True)
class Pick:
    """One chosen row with the gain that it brought; `diversity` is the facility-location part before its weight."""

    row: int
    gain: float
    diversity: float


@dataclass(frozen=True)
class Selection:
    """`picks` in the order of choice; `rest` has row -> (gain it would still bring, first full slice or None)."""

    picks: tuple[Pick, ...]
    rest: Mapping[int, tuple[float, str | None]]


def choose(
    scores: Sequence[float],
    likeness: NDArray[np.float32],
    diversity: float,
    budget: int,
    slices: Sequence[frozenset[str]],
    quotas: Mapping[str, int],
) -> Selection:
    """Greedy choice, lazily evaluated (Minoux 1978); ties go to the lower row.

    Args:
        scores: worth in 0..1 of each of N rows.
        likeness: (N, N), symmetric, in 0..1, 1 on the diagonal.
        diversity: share d of diversity in the objective, 0..1.
        slices: the quota slices that each row is in.
        quotas: slice -> most rows.
    """
    worth = (1.0 - diversity) * np.asarray(scores, np.float64) / max(budget, 1)
    covered = np.zeros(len(likeness), np.float64)
    taken: Counter[str] = Counter()
    picks: list[Pick] = []
    heap = [(-_gain(worth, likeness, covered, diversity, row), row, 0) for row in range(len(worth))]
    heapq.heapify(heap)
    blocked: list[int] = []
    while heap and len(picks) < budget:
        negative, row, seen = heapq.heappop(heap)
        if _full(slices[row], taken, quotas):
            blocked.append(row)  # quotas never empty again
        elif seen < len(picks):
            heapq.heappush(heap, (-_gain(worth, likeness, covered, diversity, row), row, len(picks)))
        else:
            added = _added(likeness, covered, row)
            picks.append(Pick(row, -negative, added))
            covered = np.maximum(covered, likeness[row])
            taken.update(slices[row])
    left = sorted([*blocked, *(row for _, row, _ in heap)])
    rest = {
        row: (_gain(worth, likeness, covered, diversity, row), _full(slices[row], taken, quotas))
        for row in left
    }
    return Selection(tuple(picks), rest)


def coverage(likeness: NDArray[np.float32], rows: Sequence[int]) -> float:
    """Facility location of a set: how much each of all rows looks like its nearest in the set, on average."""
    if not len(likeness) or not len(rows):
        return 0.0
    return float(likeness[list(rows)].max(axis=0).mean())


def likeness_of(vectors: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """(N, N) cosines of unit vectors, negative ones 0, the diagonal 1. A row without a vector is like itself alone."""
    count = len(vectors)
    known = [i for i, vector in enumerate(vectors) if vector is not None]
    result = np.zeros((count, count), np.float32)
    if known:
        matrix = np.stack([v for v in vectors if v is not None])
        result[np.ix_(known, known)] = np.clip(matrix @ matrix.T, 0.0, 1.0)
    result = np.maximum(result, result.T)  # a product may differ from its mirror image in the last bit
    np.fill_diagonal(result, 1.0)
    return result


def _gain(
    worth: NDArray[np.float64],
    likeness: NDArray[np.float32],
    covered: NDArray[np.float64],
    diversity: float,
    row: int,
) -> float:
    # Rounded, so that equals stay equal in whichever order their sums were made.
    return round(float(worth[row]) + diversity * _added(likeness, covered, row), _ROUND)


def _added(likeness: NDArray[np.float32], covered: NDArray[np.float64], row: int) -> float:
    return float(np.maximum(likeness[row] - covered, 0.0).mean())


def _full(slices: frozenset[str], taken: Counter[str], quotas: Mapping[str, int]) -> str | None:
    return next((name for name in sorted(slices) if taken[name] >= quotas[name]), None)


def broken_limits(rows: Sequence[Mapping[str, Any]], specs: Sequence[MiningSpec]) -> list[str]:
    """What is wrong with chosen rows (`spec`, `clip_id`, `slices`): over a budget or quota, twice, of no spec."""
    known = {spec.name: spec for spec in specs}
    broken = [f"{row['clip_id']}: no spec {row['spec']}" for row in rows if row["spec"] not in known]
    for name, spec in known.items():
        mine = [row for row in rows if row["spec"] == name]
        inside = Counter(part for row in mine for part in row["slices"])
        limits = {f"quota {q}": (inside[q], quota.at_most) for q, quota in spec.quotas.items()}
        limits["budget"] = (len(mine), spec.budget)
        broken += [f"{name}: {n} clips, {limit} is {most}" for limit, (n, most) in limits.items() if n > most]
        twice = [clip for clip, n in Counter(row["clip_id"] for row in mine).items() if n > 1]
        broken += [f"{name}: {clip} twice" for clip in sorted(twice)]
    return broken
