"""What the fault kit does to a drive, from landing to labels: who stops it, what is said, and what is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from av_assets.domain.simulation.faults import FAULTS, inject
from av_assets.drives import STAGES
from av_assets.gates import record_of
from tests.faults.conftest import Installation, evaluations, rows_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STOPPED = ("rename_topic", "frozen_camera", "gps_jump", "wrong_serialization")
GOING_ON = ("truncate", "clock_jump", "uptime_clock", "duplicate_messages")
GOOD = "veh002-20250601t080000z"
CHECK = "log_reports_find_no_error"


def _ids(*names: str) -> dict[str, str]:
    return {name: f"veh001-20250601t0801{number:02d}z" for number, name in enumerate(names)}


def _land(installation: Installation, good: Path, out: Path, ids: dict[str, str], *how: str) -> None:
    """Each fault lands under an id of its own; so does the good drive, where it is named."""
    folders = {name: inject(name, good, out / name, seed=1) if name in FAULTS else good for name in ids}
    found = installation.many(
        *(["land", str(folders[name]), "--as", drive, *how, "--json"] for name, drive in ids.items())
    )
    assert [one["drive"] for one in found] == list(ids.values())


def test_drive_with_an_error_stops_at_its_report_and_the_mended_one_completes(
    installation: Installation, short_drive_folder: Path, tmp_path: Path
) -> None:
    ids = _ids(*STOPPED)
    _land(installation, short_drive_folder, tmp_path, ids | {"mended": GOOD}, "--here")
    rows, states, lake = installation.quarantined(), installation.states(), installation.lake
    assert set(rows) == set(ids.values())
    with installation.instance() as instance:
        completeness = evaluations(instance, "raw_logs", "raw_logs_leave_no_drive_in_quarantine")[0]
        assert not completeness.passed
        assert {row["drive"] for row in rows_of(completeness, "quarantine")} == set(ids.values())
        judged = evaluations(instance, "log_reports", CHECK)
        for name, drive in ids.items():
            rule, row = FAULTS[name].expects, rows[drive]
            assert (row["stage"], row["code"]) == ("log_reports", rule), name
            assert states[drive]["state"] == "quarantined"
            assert states[drive]["reason"].startswith(f"{rule}: ")
            report = lake.require("log_reports", drive)
            fixes = {
                r["fix"]
                for r in json.loads(lake.read_bytes(report, "report.json"))["rules"]
                if r["id"] == rule and r["status"] == "failed"
            }
            assert row["remedy"], name
            assert row["remedy"] in fixes, name
            assert {f.path for f in report.files} >= {"report.json", "timeline.png", "clocks.png"}
            record = record_of(lake, report)
            assert record is not None
            assert not record.passed
            assert lake.signature(report) is not None, "evidence against a drive is signed as well"
            assert all(lake.manifest(stage, drive) is None for stage in STAGES[2:]), name
            [said] = [e for e in judged if drive in {r["drive"] for r in rows_of(e, "failed")}]
            assert not said.passed
            assert {r["claim"] for r in rows_of(said, "failed")} >= {rule}
            runs = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": drive}))
            assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS], name
    assert states[GOOD]["state"] == "complete"
    assert all(state != "missing" for state in states[GOOD]["stages"].values())
    _land(installation, short_drive_folder, tmp_path, {"mended": ids["gps_jump"]}, "--here")
    row = installation.quarantined()[ids["gps_jump"]]
    assert (row["stage"], row["code"]) == ("raw_logs", "content_conflict"), "what was ingested once stays"
    assert row["remedy"] == "land it under an id of its own"


def test_drive_with_a_fault_that_can_be_dealt_with_completes_and_says_so(
    installation: Installation, short_drive_folder: Path, tmp_path: Path
) -> None:
    ids = _ids(*GOING_ON)
    _land(installation, short_drive_folder, tmp_path, ids, "--here")
    states, lake = installation.states(), installation.lake
    assert installation.quarantined() == {}
    for name, drive in ids.items():
        assert states[drive]["state"] == "complete", states[drive]
        report = lake.require("log_reports", drive)
        rules = json.loads(lake.read_bytes(report, "report.json"))["rules"]
        failed = {r["id"]: r["severity"] for r in rules if r["status"] == "failed"}
        assert failed[FAULTS[name].expects] == FAULTS[name].severity, name
        record = record_of(lake, report)
        assert record is not None
        assert record.passed
        tolerated = {claim.name for claim in record.claims if not claim.passed}
        assert tolerated == {rule for rule, severity in failed.items() if severity == "error"}, name
    assert _note(installation, ids["truncate"]).startswith("salvaged: recording/recording.mcap: ")
    assert _note(installation, ids["clock_jump"]) == ""
    clocks = {name: _clocks(installation, drive) for name, drive in ids.items()}
    assert clocks["clock_jump"] == {"/camera_front/image/compressed": "remove_step"}
    assert clocks["uptime_clock"] == {"/imu/data": "add_offset"}
    assert clocks["duplicate_messages"] == {}


def _note(installation: Installation, drive: str) -> str:
    return installation.lake.require("log_reports", drive).note


def _clocks(installation: Installation, drive: str) -> dict[str, str]:
    """topic -> repair, of the clocks that were repaired on the way to the shards."""
    shards = installation.lake.require("synced_shards", drive)
    found = json.loads(installation.lake.read_bytes(shards, "sync_report.json"))["clocks"]
    return {topic: clock["repair"] for topic, clock in found.items() if clock["repair"] != "none"}


def test_good_drives_of_a_range_complete_beside_bad_ones(
    installation: Installation, short_drive_folder: Path, tmp_path: Path
) -> None:
    ids = _ids("rename_topic", "good", "bit_flip", "mended")
    _land(installation, short_drive_folder, tmp_path, ids)
    assert installation.backfill_range(list(ids.values()), list(STAGES))
    found = installation.states()
    assert {name: found[drive]["state"] for name, drive in ids.items()} == {
        "rename_topic": "quarantined",
        "good": "complete",
        "bit_flip": "quarantined",
        "mended": "complete",
    }
    codes = {drive: row["code"] for drive, row in installation.quarantined().items()}
    assert codes == {ids["rename_topic"]: "stream_is_present", ids["bit_flip"]: "checksum_mismatch"}
    with installation.instance() as instance:
        made = instance.fetch_materializations(dg.AssetKey("synced_shards"), limit=10).records
        assert sorted(str(r.partition_key) for r in made) == sorted([ids["good"], ids["mended"]])
    again = installation.av("backfill", "veh001-*", "--assets", ",".join(STAGES[:2]), "--here", "--json")
    assert all(json.loads(again.stdout.splitlines()[-1])["ok"].values()), "nothing to make is no failure"
