"""The drift report on simulated fleets whose drives are clusters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from av_assets.domain.errors import DatasetError
from av_assets.domain.monitoring.baseline import make_baseline
from av_assets.domain.monitoring.drift import drift_report
from av_assets.domain.monitoring.evidently_page import render_evidently
from av_assets.domain.monitoring.pictures import drift_png
from av_assets.policies.drift import DriftPolicy

POLICY = DriftPolicy.load().model_copy(update={"permutations": 500})
FEATURES = ("brightness_mean", "contrast", "vehicle_count")


def fleet(
    rng: np.random.Generator,
    drives: int,
    shift: float = 0.0,
    between: float = 1.0,
    rows: int = 40,
    name: str = "r",
) -> dict[str, pa.Table]:
    """Drives whose features have means of their own (`between`) and unit noise inside."""
    tables = {}
    for index in range(drives):
        drive = f"{name}-{index:02d}"
        columns = {f: rng.normal(between * rng.normal() + shift, 1.0, rows) for f in FEATURES}
        tables[drive] = pa.table({"drive": [drive] * rows, **columns})
    return tables


def baseline_of(tables: dict[str, pa.Table]) -> dict[str, object]:
    return make_baseline(pa.concat_tables(tables.values()), POLICY)


def test_no_drift_hardly_ever_alarms_although_drives_are_clusters() -> None:
    rng = np.random.default_rng(11)
    alarms = 0
    for seed in range(60):
        report = drift_report(baseline_of(fleet(rng, 8)), fleet(rng, 5, name="c"), POLICY, seed)
        alarms += report.state == "alarm"
    assert alarms / 60 <= 0.10  # alpha 0.05 and the noise of 60 rounds


def test_rows_taken_as_independent_would_alarm_nearly_always() -> None:
    rng = np.random.default_rng(12)
    naive = 0
    for seed in range(10):
        report = drift_report(baseline_of(fleet(rng, 8)), fleet(rng, 5, name="c"), POLICY, seed)
        naive += any((f.psi or 0) > max(f.psi_limit or 0, POLICY.alarm_psi) for f in report.features)
    assert naive >= 8


def test_a_count_that_was_always_zero_and_is_not_any_more_is_found() -> None:
    def drives(name: str, count: int, value: float) -> dict[str, pa.Table]:
        names = [f"{name}{i}" for i in range(count)]
        return {d: pa.table({"drive": [d] * 40, "cone_count": [value] * 40}) for d in names}

    report = drift_report(baseline_of(drives("r", 6, 0.0)), drives("c", 4, 3.0), POLICY, 0)
    assert report.alarms == ("cone_count",)


def test_a_shift_is_found() -> None:
    rng = np.random.default_rng(13)
    found = drift_report(
        baseline_of(fleet(rng, 12, between=0.2)), fleet(rng, 8, 1.0, between=0.2, name="c"), POLICY, 0
    )
    assert found.state == "alarm"
    assert set(found.alarms) == set(FEATURES)
    assert found.features[0].kind == "distribution"


def test_half_a_sigma_is_found_with_twenty_drives() -> None:
    rng = np.random.default_rng(14)
    found = drift_report(
        baseline_of(fleet(rng, 20, between=0.2)), fleet(rng, 20, 0.5, between=0.2, name="c"), POLICY, 0
    )
    assert found.state in ("alarm", "moderate")
    assert all((f.p_adjusted or 1) <= 0.05 for f in found.features)


def test_order_of_rows_and_drives_changes_nothing() -> None:
    rng = np.random.default_rng(15)
    reference, current = fleet(rng, 6), fleet(rng, 4, 0.5, name="c")
    shuffled = {d: t.take(pa.array(rng.permutation(t.num_rows))) for d, t in reversed(current.items())}
    rows = pa.concat_tables(reference.values())
    mixed = make_baseline(rows.take(pa.array(rng.permutation(rows.num_rows))), POLICY)
    assert mixed == baseline_of(reference)
    assert drift_report(mixed, shuffled, POLICY, 3) == drift_report(
        baseline_of(reference), current, POLICY, 3
    )


def test_a_burst_of_missing_values_is_a_schema_fault() -> None:
    rng = np.random.default_rng(16)
    reference, current = fleet(rng, 8), fleet(rng, 5, name="c")
    for drive, table in current.items():
        holes = np.where(np.arange(table.num_rows) % 3 == 0, np.nan, table["contrast"].to_numpy())
        current[drive] = table.set_column(2, "contrast", pa.array(holes, from_pandas=True))
    report = drift_report(baseline_of(reference), current, POLICY, 0)
    contrast = next(f for f in report.features if f.feature == "contrast")
    assert (contrast.state, contrast.kind) == ("alarm", "schema")
    assert (contrast.psi or 0) < 1.0  # the holes are not in it


@pytest.mark.parametrize(("drives", "rows"), [(1, 200), (5, 5)])
def test_too_little_data_says_so(drives: int, rows: int) -> None:
    rng = np.random.default_rng(17)
    report = drift_report(baseline_of(fleet(rng, 8)), fleet(rng, drives, rows=rows, name="c"), POLICY, 0)
    assert report.state == "insufficient"
    assert all(f.reason for f in report.features)


def test_nothing_current_is_insufficient() -> None:
    report = drift_report(baseline_of(fleet(np.random.default_rng(1), 4)), {}, POLICY, 0)
    assert report.state == "insufficient"


def test_an_empty_reference_is_refused() -> None:
    with pytest.raises(DatasetError) as caught:
        make_baseline(pa.table({"drive": pa.array([], pa.string())}), POLICY)
    assert caught.value.code == "empty_baseline"


def test_reports_and_baselines_are_json_and_pictures_repeat() -> None:
    rng = np.random.default_rng(18)
    baseline = json.loads(json.dumps(baseline_of(fleet(rng, 5)), allow_nan=False))
    current = fleet(rng, 3, name="c")
    report = drift_report(baseline, current, POLICY, 0)
    json.dumps(report.to_json(), allow_nan=False)
    assert drift_png(report) == drift_png(report)
    assert drift_png(report).startswith(b"\x89PNG")


def test_embeddings_that_turn_away_from_the_reference_are_found() -> None:
    rng = np.random.default_rng(19)
    centre, other = rng.normal(size=(2, 32))

    def drives(name: str, count: int, towards: np.ndarray) -> dict[str, pa.Table]:
        tables = {}
        for index in range(count):
            vectors = towards + 0.3 * rng.normal(size=(30, 32))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            drive = [f"{name}{index}"] * 30
            tables[drive[0]] = pa.table({"drive": drive, "embedding": vectors.tolist()})
        return tables

    baseline = baseline_of(drives("r", 6, centre))
    same = drift_report(baseline, drives("s", 4, centre), POLICY, 0)
    moved = drift_report(baseline, drives("m", 4, other), POLICY, 0)
    assert "embedding_distance" in moved.alarms
    assert same.state != "alarm"


@pytest.mark.slow
def test_evidently_page_is_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(20)
    reference = pd.DataFrame({f: rng.normal(size=100) for f in FEATURES})
    render_evidently(reference, reference + 1.0, tmp_path / "drift.html")
    assert (tmp_path / "drift.html").stat().st_size > 100_000
