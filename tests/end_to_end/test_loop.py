"""The product's promise, on a running platform: a dropped folder becomes an evaluated model without a touch."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from av_assets.drives import STAGES
from av_assets.mining.failing import Pool
from av_assets.mining.pool import ASSET, ledger_of, uncovered
from av_assets.platform import request_run, submit_backfill
from partitions.releases import release_id
from resources.production_models import require_production_model
from tests.end_to_end.conftest import Running

WEEK = "2025-06-02"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def drop(running: Running, recorded: Path, drive: str) -> None:
    shutil.copytree(recorded / "truth" / drive, running.here.truth / drive, dirs_exist_ok=True)
    growing = Path(running.here.landing) / f".{drive}"
    shutil.copytree(recorded / "landing" / drive, growing)
    growing.rename(Path(running.here.landing) / drive)


def test_dropped_drives_flow_to_verified_labels_by_two_runs_each(running: Running, recorded: Path) -> None:
    drives = sorted(p.name for p in (recorded / "landing").iterdir())
    for drive in drives:
        drop(running, recorded, drive)
    running.wait(lambda: all(running.state(d).state == "complete" for d in drives), 400)
    for drive in drives:
        runs = running.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": drive}))
        assert {r.status for r in runs} == {dg.DagsterRunStatus.SUCCESS}
        # A look of the daemon between two steps of a run can ask for one more, which then finds everything made.
        made = [_made(running, run) for run in runs]
        assert sorted(filter(None, made), key=len) == [{"raw_logs"}, set(STAGES) - {"raw_logs"}]


def _made(running: Running, run: dg.DagsterRun) -> set[str]:
    """The assets that the run really made, and did not find made already."""
    events = running.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    found = [e.get_dagster_event().step_materialization_data.materialization for e in events]
    return {m.asset_key.to_user_string() for m in found if not m.metadata["reused"].value}


def test_relanding_the_same_content_changes_nothing(running: Running, recorded: Path) -> None:
    drive = sorted(p.name for p in (recorded / "landing").iterdir())[0]
    before = {a: running.lake.require(a, drive).digest for a in STAGES}
    shutil.rmtree(Path(running.here.landing) / drive)
    running.landing.land(recorded / "landing" / drive)
    runs = running.instance.get_runs_count(dg.RunsFilter(tags={"dagster/partition": drive}))
    running.wait(
        lambda: running.instance.get_runs_count(dg.RunsFilter(tags={"dagster/partition": drive})) > runs, 60
    )
    running.wait(lambda: running.state(drive).state == "complete", 60)
    assert {a: running.lake.require(a, drive).digest for a in STAGES} == before


def test_bad_folder_is_quarantined_and_named(running: Running) -> None:
    bad = Path(running.here.landing) / "Not A Drive"
    bad.mkdir()
    (bad / "COMPLETE").touch()

    def quarantined() -> bool:
        return running.state("not-a-drive").state == "quarantined"

    running.wait(lambda: bool(running.lake.tables.read("quarantine")), 60)
    assert quarantined()
    assert "invalid_drive_id" in running.state("not-a-drive").reason


def test_backfill_by_drive_records_each_drive(running: Running, recorded: Path) -> None:
    drives = sorted(p.name for p in (recorded / "landing").iterdir())[:2]
    backfill = submit_backfill(running.instance, ["event_windows"], drives, "test")
    running.wait(
        lambda: running.instance.get_backfill(backfill).status.value not in ("REQUESTED",),
        120,  # type: ignore[union-attr]
    )
    assert running.instance.get_backfill(backfill).status.value == "COMPLETED_SUCCESS"  # type: ignore[union-attr]
    runs = running.instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
    assert len(runs) == 1
    events = running.instance.all_logs(runs[0].run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert sorted(e.get_dagster_event().partition or "" for e in events) == drives


def test_golden_dataset_becomes_an_evaluated_release(running: Running) -> None:
    run_id = request_run(running.platform.url, ["golden_slices"], WEEK)
    running.wait(lambda: running.instance.get_run_by_id(run_id).is_finished, 120)  # type: ignore[union-attr]
    golden = running.lake.require("golden_slices", WEEK)
    release = release_id(WEEK, golden.content)
    running.wait(lambda: running.lake.manifest("eval_reports", release) is not None, 400)
    report = json.loads(running.lake.read_bytes(running.lake.require("eval_reports", release), "report.json"))
    assert report["verdict"]["state"] in ("pass", "fail", "insufficient")
    whole = report["slices"]["all"]
    assert whole["drives"] >= 1
    members = json.loads(running.lake.read_bytes(golden, "dataset.json"))["members"]
    held = {entry.path for entry in golden.matching("drives/*/cuboids.parquet")}
    assert held == {f"drives/{member['drive']}/cuboids.parquet" for member in members}
    assert whole["objects3d"] > 0
    assert 0 <= whole["map3d"] <= 1
    assert 0 <= whole["nds"] <= 1
    runs = running.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": release}))
    assert len(runs) == 1, "checkpoints, model_bundles and eval_reports are one run"


def test_the_new_model_looks_at_every_drive_and_its_failures_get_buckets(running: Running) -> None:
    lake = running.lake
    model, drives = require_production_model(lake), set(lake.partitions("synced_shards"))
    running.wait(lambda: set(Pool.of(lake, model).predictions) == drives, 240)
    assert not [row for drive in drives for row in uncovered(lake, drive)]
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    run_id = request_run(running.platform.url, ["failure_buckets"], today)
    running.wait(lambda: running.instance.get_run_by_id(run_id).is_finished, 120)  # type: ignore[union-attr]
    found = json.loads(lake.read_bytes(lake.require("failure_buckets", today), "report.json"))
    predicted = sum(
        e.predicted for drive in drives for e in ledger_of(lake, lake.require(ASSET, drive)).entries
    )
    assert (found["release"], found["drives"]) == (model.partition, len(drives))
    assert found["frames"] + found["frames_trained_on"] == predicted
    assert found["frames_labelled"] > 0
    assert sum(found["buckets"].values()) == found["clips_failing"]
