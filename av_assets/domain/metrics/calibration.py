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
    """Expected (l1), root mean square (l2) or maximum (max) calibration error over equal bins, by
    torchmetrics.

    Args:
        score: (n,) 0..1. correct: (n,) bool.

    Returns:
        None without scores.
    """
    if not len(score):
        return None
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    preds = torch.from_numpy(np.asarray(score, np.float64))
    target = torch.from_numpy(np.asarray(correct, np.int64))
    return float(binary_calibration_error(preds, target, n_bins=bins, norm=norm))


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
    at = np.clip((score * bins).astype(np.int64), 0, bins - 1)
    return [_bin(score[at == i], correct[at == i], i / bins, (i + 1) / bins) for i in range(bins)]


def _bin(score: NDArray[np.floating], correct: NDArray[np.bool_], low: float, high: float) -> dict[str, Any]:
    return {
        "low": round(low, DIGITS),
        "high": round(high, DIGITS),
        "count": len(score),
        "confidence": round(float(np.mean(score)), DIGITS) if len(score) else None,
        "accuracy": round(float(np.mean(correct)), DIGITS) if len(score) else None,
    }
