"""How much a clip is worth to a labeller: rarity, uncertainty, disagreement, relevance, and their mixture.

Every part is a figure in 0..1, or None where it is not known.
Belongs here: the figures. Does not belong here: choosing.
"""

from __future__ import annotations

from collections import Counter
from math import log, log2
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PARTS: Final = ("relevance", "rarity", "uncertainty", "disagreement")
Parts = dict[str, float | None]


def rarity(cells: Mapping[str, tuple[Any, ...]]) -> dict[str, float]:
    """-log of the share of each clip's cell among `cells`, over log N, the rarity of a clip that is alone in its cell.

    N clips of one cell have rarity 0; a value that is not known is a value of its own.
    """
    count, most = Counter(cells.values()), log(len(cells)) if len(cells) > 1 else 1.0
    return {clip: -log(count[cell] / len(cells)) / most + 0.0 for clip, cell in cells.items()}


def uncertainty(
    scores: Sequence[float], worst: int, how: Literal["entropy", "one_minus_max"]
) -> float | None:
    """Mean over the `worst` most uncertain boxes of a clip; None without a box.

    one_minus_max is 1 - p for the score p of the best class; entropy is that of p against 1 - p, in bits.
    """
    values = sorted((_entropy(p) if how == "entropy" else 1.0 - p for p in scores), reverse=True)[:worst]
    return sum(values) / len(values) if values else None


def _entropy(p: float) -> float:
    return 0.0 if p <= 0.0 or p >= 1.0 else -p * log2(p) - (1 - p) * log2(1 - p)


def disagreement(automatic: int, verified: int, matched: int, accepted: int) -> float | None:
    """Share of boxes, of people or of the automatic labels, that people did not leave as they were.

    Args:
        automatic, verified: boxes of each; `matched` of them are the same object, `accepted` of these unchanged.
    """
    union = automatic + verified - matched
    return None if union <= 0 else 1.0 - accepted / union


def relevance(fused: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Fused scores over the best one."""
    best = max((score for _, score in fused), default=0.0)
    return {clip: score / best for clip, score in fused} if best > 0 else {}


def score(parts: Mapping[str, float | None], weights: Mapping[str, float]) -> tuple[float, list[str]]:
    """Weighted mean of the known parts, and the names of those that count but are not known.

    The weight of an unknown part goes to the others in proportion; without any known part the score is 0.
    """
    counted = [name for name in PARTS if weights[name] > 0]
    known = [name for name in counted if parts.get(name) is not None]
    total = sum(weights[name] for name in known)
    value = sum(weights[name] * (parts[name] or 0.0) for name in known) / total if total else 0.0
    return value, [name for name in counted if name not in known]
