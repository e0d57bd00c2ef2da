"""Several rankings made one: reciprocal rank fusion.

Belongs here: how ranked lists of ids are merged. Does not belong here: how a list came to its order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def reciprocal_rank_fusion(lists: Sequence[Sequence[str]], k: int = 60) -> list[tuple[str, float]]:
    """(id, score) of every id of the lists, best first, ties by id.

    Score = sum over the lists of 1 / (k + rank), rank from 1 (Cormack, Clarke and Buettcher 2009). Only ranks
    count, so lists whose scores have nothing in common (BM25, cosine) may be fused. An id that a list names
    twice counts once there, at its better rank.

    Raises:
        ValueError: k is negative.
    """
    if k < 0:
        raise ValueError(f"k must not be negative, got {k}")
    scores: dict[str, float] = {}
    for ranked in lists:
        for rank, name in enumerate(dict.fromkeys(ranked), start=1):
            scores[name] = scores.get(name, 0.0) + 1.0 / (k + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
