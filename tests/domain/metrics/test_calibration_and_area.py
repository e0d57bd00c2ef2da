from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error, multiclass_jaccard_index

from av_assets.domain.metrics.calibration import (
    Norm,
    adaptive_calibration_error,
    brier_score,
    calibration_error,
    reliability_bins,
)
from av_assets.domain.metrics.segmentation import pixel_counts, segmentation_scores

# The example of the torchmetrics documentation: the top class, its confidence, and whether it was right.
CONFIDENCE = np.array([0.55, 0.55, 0.6, 0.9])
CORRECT = np.array([False, False, True, True])
PROBS = np.array([[0.25, 0.20, 0.55], [0.55, 0.05, 0.40], [0.10, 0.30, 0.60], [0.90, 0.05, 0.05]])
TARGET = np.array([0, 1, 2, 0])


@pytest.mark.parametrize(("norm", "expected"), [("l1", 0.2000), ("l2", 0.2082), ("max", 0.2333)])
def test_published_calibration_errors(norm: str, expected: float) -> None:
    correct = PROBS.argmax(1) == TARGET
    assert calibration_error(PROBS.max(1), correct, 3, norm) == pytest.approx(expected, abs=5e-5)


def test_reference_calibration_errors(real_data: Path) -> None:
    checked = 0
    for case in json.loads((real_data / "metrics" / "calibration.json").read_text())["cases"]:
        probs, target = np.array(case["probs"]), np.array(case["target"])
        score, correct = (probs.max(1), probs.argmax(1) == target) if probs.ndim == 2 else (probs, target > 0)
        for name, norm in (("ece_l1", "l1"), ("rmsce_l2", "l2"), ("mce_max", "max")):
            if name in case["expected"]:
                assert calibration_error(score, correct, case["n_bins"], norm) == pytest.approx(
                    case["expected"][name], abs=1e-5
                ), case["name"]
                checked += 1
    assert checked >= 3


@given(
    st.lists(st.tuples(st.floats(0, 0.999), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sampled_from(["l1", "l2", "max"]),
)
def test_the_calibration_error_is_that_of_torchmetrics(
    rows: list[tuple[float, bool]], bins: int, norm: Norm
) -> None:
    score, correct = np.array([s for s, _ in rows]), np.array([c for _, c in rows])
    edges = np.linspace(0, 1, bins + 1)
    if (np.abs(score[:, None] - edges) < 1e-6).any():
        return  # on an edge the rounding of the two libraries decides
    wanted = binary_calibration_error(torch.from_numpy(score), torch.from_numpy(correct).long(), bins, norm)
    assert calibration_error(score, correct, bins, norm) == pytest.approx(float(wanted), abs=1e-6)


def test_scores_that_mean_what_they_say_have_no_error() -> None:
    score = np.repeat([0.25, 0.75], 100)
    correct = np.r_[np.arange(100) < 25, np.arange(100) < 75]
    assert calibration_error(score, correct, 10) == pytest.approx(0, abs=1e-9)
    assert adaptive_calibration_error(score, correct, 2) == pytest.approx(0, abs=1e-9)
    assert brier_score(score, correct) == pytest.approx(0.1875)


def test_one_wrong_answer_costs_its_share() -> None:
    score, correct = np.ones(10), np.arange(10) > 0
    assert calibration_error(score, correct, 15) == pytest.approx(0.1)
    assert brier_score(score, correct) == pytest.approx(0.1)


def test_bins_add_up_to_the_error() -> None:
    rng = np.random.default_rng(0)
    score = rng.uniform(0, 1, 500)
    correct = rng.random(500) < score**2
    bins = reliability_bins(score, correct, 15)
    assert sum(b["count"] for b in bins) == 500
    total = sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["count"]) / 500
    assert total == pytest.approx(calibration_error(score, correct, 15), abs=1e-6)


def test_without_scores_nothing_is_known() -> None:
    none = np.empty(0)
    assert calibration_error(none, none.astype(bool), 15) is None
    assert adaptive_calibration_error(none, none.astype(bool), 15) is None
    assert brier_score(none, none) is None
    assert reliability_bins(none, none.astype(bool), 2)[0]["accuracy"] is None


def test_the_true_area_is_ideal() -> None:
    truth = (np.random.default_rng(0).random((20, 30)) < 0.4).astype(np.uint8)
    result = segmentation_scores(pixel_counts(truth, truth.astype(np.float32))[None])
    assert (result.miou, result.drivable_iou, result.other_iou) == (1, 1, 1)


def test_area_equals_torchmetrics() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random((5, 20, 30)) < 0.3).astype(np.uint8)
    probability = rng.random((5, 20, 30)).astype(np.float32)
    counts = np.stack([pixel_counts(t, p) for t, p in zip(truth, probability, strict=True)])
    expected = multiclass_jaccard_index(
        torch.from_numpy((probability >= 0.5).astype(np.int64)), torch.from_numpy(truth.astype(np.int64)), 2
    )
    assert segmentation_scores(counts).miou == pytest.approx(float(expected), abs=1e-6)


def test_one_wrong_pixel() -> None:
    truth = np.zeros((10, 10), np.uint8)
    truth[:5] = 1
    probability = truth.astype(np.float32)
    probability[0, 0] = 0
    result = segmentation_scores(pixel_counts(truth, probability)[None])
    assert (result.drivable_iou, result.other_iou) == (49 / 50, 50 / 51)


def test_without_labelled_frames_no_area_is_known() -> None:
    assert segmentation_scores(np.zeros((0, 4), np.int64)).miou is None
