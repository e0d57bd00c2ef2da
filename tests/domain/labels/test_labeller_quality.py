"""The report on the labeller: figures by hand, against scikit-learn, and that the halves never mix."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score

from av_assets.domain.labels.quality.labeller_quality import (
    CHOOSE,
    JUDGE,
    JudgedDrive,
    expected_calibration_error,
    half_of,
    labeller_report,
    quality,
    with_thresholds,
)
from av_assets.domain.labels.quality.thresholds import choose_thresholds
from av_assets.policies.label_fusion import LabelFusionPolicy

SHIPPED = LabelFusionPolicy.load().model_copy(
    update={"version": "1.0.0", "thresholds": {"vehicle": {}, "pedestrian": {}, "cone": {}}}
)
SALT = SHIPPED.choosing.salt


def row(ref_ns: int, x: float, score: float = 1.0, cls: str = "vehicle", track: int = 0) -> dict[str, Any]:
    return {
        "clip_id": "d/0", "ref_ns": ref_ns, "camera": "camera_front", "cls": cls, "score": score, "track": track,
        "label_id": f"t{track}", "slice": "near", "distance_m": 10.0, "x1": x, "y1": 0.0, "x2": x + 10, "y2": 10.0,
    }  # fmt: skip


def judged(drive: str, found: list[dict[str, Any]], truth: list[dict[str, Any]], frames: int) -> JudgedDrive:
    return JudgedDrive.of(drive, found, truth, [("d/0", n) for n in range(frames)], SHIPPED)


def noisy(drive: str, frames: int = 30, seed: int = 0, wrong: float = 0.3) -> JudgedDrive:
    """A true object in every frame, and false ones with lower scores."""
    rng = np.random.default_rng([seed, *drive.encode()])
    truth = [row(n, 0.0) for n in range(frames)]
    found = [row(n, 1.0, float(rng.uniform(0.4, 1))) for n in range(frames)]
    found += [
        row(n, 50.0, float(rng.uniform(0.3, 0.7)), track=9) for n in range(frames) if rng.random() < wrong
    ]
    return judged(drive, found, truth, frames)


def test_figures_by_hand() -> None:
    found = [row(0, 0, 0.9), row(0, 50, 0.8), row(1, 0, 0.7), row(2, 0, 0.1), row(9, 0, 0.9)]
    truth = [row(0, 1), row(1, 0), row(2, 0), row(2, 90, cls="cone"), row(9, 0)]
    scores = quality([judged("d", found, truth, 3)], SHIPPED)
    vehicle = scores["classes"]["vehicle"]
    assert (vehicle["candidates"], vehicle["found"], vehicle["correct"], vehicle["objects"]) == (4, 3, 2, 3)
    assert vehicle["precision"] == vehicle["recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert vehicle["median_iou"] == pytest.approx((9 / 11 + 1) / 2, abs=1e-4)
    assert vehicle["verdict"] == "insufficient"
    assert scores["classes"]["cone"]["precision"] is None
    assert scores["classes"]["cone"]["recall"] == 0
    assert scores["frames"] == 3
    # vehicle: two found, one missed; the cone missed; one box where there is nothing.
    assert scores["confusion"]["matrix"] == [[2, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert scores["slices"]["vehicle/near"]["objects"] == 3


def test_ap_of_a_perfect_and_of_a_useless_labeller() -> None:
    truth = [row(n, 0.0) for n in range(20)]
    good = quality([judged("d", [row(n, 0.0, 0.9) for n in range(20)], truth, 20)], SHIPPED)
    bad = quality([judged("d", [row(n, 70.0, 0.9) for n in range(20)], truth, 20)], SHIPPED)
    assert good["classes"]["vehicle"]["ap50"] == 1.0
    assert good["all"]["ece"] == pytest.approx(0.1)
    assert bad["classes"]["vehicle"]["ap50"] == 0.0
    assert bad["all"]["ece"] == pytest.approx(0.9)
    assert good["tracks"]["d"]["idf1"] == pytest.approx(1.0)
    assert good["tracks"]["d"]["hota"] == pytest.approx(1.0)
    assert bad["tracks"]["d"]["idf1"] == pytest.approx(0.0)


def test_precision_and_recall_are_those_of_scikit_learn() -> None:
    drive = noisy("veh001-a", 200)
    scores = quality([drive], SHIPPED)["classes"]["vehicle"]
    taken = [v for v in drive.verdicts if v.score >= SHIPPED.default["vehicle"]]
    missed = 200 - sum(v.correct for v in taken)
    real = [v.correct for v in taken] + [True] * missed
    said = [True] * len(taken) + [False] * missed
    assert scores["precision"] == pytest.approx(precision_score(real, said), abs=1e-4)
    assert scores["recall"] == pytest.approx(recall_score(real, said), abs=1e-4)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60), st.integers(2, 20))
def test_the_calibration_error_is_the_mean_gap_of_bins(rows: list[tuple[float, bool]], bins: int) -> None:
    score, correct = np.array([s for s, _ in rows]), np.array([c for _, c in rows], bool)
    wanted = 0.0
    for b in range(bins):
        inside = [i for i, s in enumerate(score) if min(int(s * bins), bins - 1) == b]
        if inside:
            wanted += len(inside) / len(rows) * abs(score[inside].mean() - correct[inside].mean())
    found = expected_calibration_error(score, correct, bins)
    assert found is None if not rows else found == pytest.approx(wanted, abs=1e-4)


def test_thresholds_are_chosen_on_one_half_and_judged_on_the_other() -> None:
    names = [f"veh{n:03d}-20250601t080000z" for n in range(24)]
    drives = [noisy(name) for name in names]
    report = labeller_report(drives, SHIPPED)
    assert set(report["chosen_on"]) == {n for n in names if half_of(n, SALT) == CHOOSE}
    assert set(report["judged_on"]) == {n for n in names if half_of(n, SALT) == JUDGE}
    assert min(len(report["chosen_on"]), len(report["judged_on"])) >= 6
    own = choose_thresholds(
        [v for d in drives if d.drive in report["chosen_on"] for v in d.verdicts], SHIPPED
    )
    assert report["thresholds"]["vehicle"]["all"]["score"] == own["vehicle"]["all"].score
    assert report["reason"] == ""
    active, proposed = (report[kind]["classes"]["vehicle"] for kind in ("active", "proposed"))
    assert active["verdict"] == "missed"
    assert proposed["precision"] >= report["target"]["vehicle"]
    assert set(report["active"]["tracks"]) == set(report["judged_on"])
    json.dumps(report, allow_nan=False)
    assert labeller_report(list(reversed(drives)), SHIPPED) == report


def test_nothing_verified_gives_a_report_that_says_so() -> None:
    report = labeller_report([], SHIPPED)
    assert report["reason"] == "no drive has labels that people verified"
    assert report["active"]["classes"]["vehicle"]["verdict"] == "insufficient"
    assert report["active"]["all"]["precision"] is None


def test_a_proposal_raises_the_minor_number_and_keeps_what_was_not_chosen() -> None:
    data = SHIPPED.model_dump(mode="json")
    data["thresholds"]["cone"] = {"near": 0.77}
    held = LabelFusionPolicy.model_validate(data)
    drives = [noisy(f"veh{n:03d}") for n in range(12)]
    proposed = with_thresholds(held, choose_thresholds([v for d in drives for v in d.verdicts], held))
    assert proposed.version == "1.1.0"
    assert proposed.thresholds["cone"] == {"near": 0.77}
    assert proposed.thresholds["vehicle"]["all"] > 0.34


def test_the_halves_are_about_even_and_depend_on_the_salt() -> None:
    names = [f"veh{n:04d}" for n in range(1000)]
    halves = [half_of(n, "a") for n in names]
    assert 420 < halves.count(CHOOSE) < 580
    assert halves != [half_of(n, "b") for n in names]
