"""How much of what an exact search finds another search finds.

Belongs here: that measure. Does not belong here: either search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    Ranked = Sequence[tuple[str, float]]

SAME: Final = 1e-5
"""Similarities closer than this are a tie: float32 sums differ by their order."""


def recall_at(found: Sequence[Ranked], exact: Sequence[Ranked], k: int) -> float | None:
    """Mean share of the exact k nearest that were found: 0..1; None without queries that have an answer.

    Each list holds (id, similarity), best first. Clips that look exactly alike may come in any order: what is as
    similar as the k-th of the exact list counts as one of them.

    Raises:
        ValueError: not one list of each kind per query, or k below 1.
    """
    if len(found) != len(exact) or k < 1:
        raise ValueError(f"{len(found)} answers to {len(exact)} queries at k = {k}")
    shares = []
    for ours, truth in zip(found, exact, strict=True):
        wanted = truth[:k]
        if not wanted:
            continue
        worst = wanted[-1][1] - SAME
        ids = {name for name, _ in wanted}
        hits = {name for name, similarity in ours[:k] if name in ids or similarity >= worst}
        shares.append(min(len(hits), len(wanted)) / len(wanted))
    return sum(shares) / len(shares) if shares else None
