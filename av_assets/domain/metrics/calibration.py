"""Do scores mean what they say? Calibration of detection scores.

A detection is correct when it found an object (IoU as the policy says); detections on ignored objects do not
count. Bins as Guo et al. 2017 (equal width); detection calibration as Kueppers et al. 2020, without position.
Belongs here: calibration errors, Brier score, reliability bins. Does not belong here: matching, drawing.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Norm = Literal["l1", "l2", "max"]
DIGITS: Final = 9


def calibration_error(
    score: NDArray[np.floating], correct: NDArray[np.bool_], bins: int, norm: Norm = "l1"
) -> float | None:
    """Expected (l1), root mean square (l2) or maximum (max) gap of score and outcome over equal bins.

    Tests hold the result equal to torchmetrics, whose import alone takes longer than an evaluation.

    Args:
        score: (n,) 0..1. correct: (n,) bool.

    Returns:
        None without scores.
    """
    if not len(score):
        return None
    at = _bin_of(score, bins)
    count = np.bincount(at, minlength=bins)
    filled = count > 0
    outcome, said = (
        np.bincount(at, v, bins)[filled] / count[filled] for v in (correct, np.asarray(score, np.float64))
    )
    gap, share = np.abs(outcome - said), count[filled] / len(score)
    if norm == "max":
        return float(gap.max())
    return float((gap * share).sum()) if norm == "l1" else float(np.sqrt((gap**2 * share).sum()))


def _bin_of(score: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """(n,) the bin that each score falls into; a bin holds its lower edge, the last one both."""
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(
        np.searchsorted(edges, np.asarray(score, np.float64), side="right") - 1, 0, bins - 1
    ).astype(np.int64)


def adaptive_calibration_error(
    score: NDArray[np.floating], correct: NDArray[np.bool_], bins: int
) -> float | None:
    """Expected calibration error over bins that hold equally many scores (Nixon et al. 2019)."""
    if not len(score):
        return None
    order = np.argsort(score, kind="stable")
    parts = [p for p in np.array_split(order, min(bins, len(order))) if len(p)]
    gaps = [len(p) * abs(float(np.mean(correct[p])) - float(np.mean(score[p]))) for p in parts]
    return sum(gaps) / len(order)


def brier_score(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> float | None:
    """Mean squared distance of score and outcome (Brier 1950); None without scores."""
    return float(np.mean((np.asarray(score, np.float64) - correct) ** 2)) if len(score) else None


def reliability_bins(
    score: NDArray[np.floating], correct: NDArray[np.bool_], bins: int
) -> list[dict[str, Any]]:
    """Per equal-width bin: low, high, count, mean confidence and accuracy (None where empty)."""
    score = np.asarray(score, np.float64)
    at = _bin_of(score, bins)
    return [_bin(score[at == i], correct[at == i], i / bins, (i + 1) / bins) for i in range(bins)]


def _bin(score: NDArray[np.floating], correct: NDArray[np.bool_], low: float, high: float) -> dict[str, Any]:
    return {
        "low": round(low, DIGITS),
        "high": round(high, DIGITS),
        "count": len(score),
        "confidence": round(float(np.mean(score)), DIGITS) if len(score) else None,
        "accuracy": round(float(np.mean(correct)), DIGITS) if len(score) else None,
    }
