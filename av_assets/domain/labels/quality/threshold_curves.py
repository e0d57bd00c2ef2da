"""Precision and recall as a threshold falls: what `pictures.thresholds_png` draws.

Belongs here: curves over verdicts. Does not belong here: choosing (thresholds), drawing (pictures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from av_assets.domain.labels.quality.thresholds import Chosen, Verdict, clustered_lower_bound, clusters_of
from av_assets.policies.label_fusion import WHOLE_CLASS

if TYPE_CHECKING:
    from av_assets.policies.label_fusion import LabelFusionPolicy

POINTS: Final = 60
"""Thresholds per curve: each costs a bound."""


def threshold_curves(
    verdicts: Sequence[Verdict],
    objects: Mapping[str, int],
    chosen: Mapping[str, Mapping[str, Chosen]],
    policy: LabelFusionPolicy,
) -> dict[str, dict[str, Any]]:
    """class -> recall, precision, lower, threshold (lists), chosen, target, n, reason.

    Args:
        verdicts: of candidates that took no part in choosing.
        objects: class -> verified objects in the same frames.
        chosen: class -> slice -> what was chosen; the one of the whole class is marked.
    """
    found: dict[str, dict[str, Any]] = {}
    for cls in policy.default:
        own = sorted((v for v in verdicts if v.cls == cls), key=lambda v: -v.score)
        whole = chosen.get(cls, {}).get(WHOLE_CLASS)
        curve = _curve(own, objects.get(cls, 0), policy) if own and objects.get(cls) else {}
        found[cls] = curve | {
            "chosen": whole.score if whole else None,
            "target": policy.choosing.target_precision[cls],
            "n": len(own),
            "reason": "" if curve else "no candidate" if not own else "no verified object",
        }
    return found


def _curve(ordered: Sequence[Verdict], objects: int, policy: LabelFusionPolicy) -> dict[str, Any]:
    rule = policy.choosing
    _, cluster = clusters_of(ordered, rule)
    score = np.array([v.score for v in ordered])
    correct = np.array([v.correct for v in ordered])
    wanted = np.unique(np.linspace(1, len(ordered), min(POINTS, len(ordered))).round().astype(int))
    # Equal scores pass a threshold together.
    ends = np.unique(np.searchsorted(-score, -score[wanted - 1], side="right"))
    hits = np.cumsum(correct)[ends - 1]
    lower = [
        clustered_lower_bound(correct[:n], cluster[:n], rule.confidence, rule.assumed_correlation)
        for n in ends.tolist()
    ]
    return {
        "recall": (hits / objects).tolist(),
        "precision": (hits / ends).tolist(),
        "lower": lower,
        "threshold": score[ends - 1].tolist(),
    }
