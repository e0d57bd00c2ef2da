"""Workflow 3: many clocks on one grid, written as clip shards."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.domain.evidence.claims import Claim
from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.logs.drive_spec import SPEC_FILE, parse_drive_spec
from av_assets.foundations.ingestion import log_reports, raw_logs
from av_assets.foundations.redaction import redacted_clips
from av_assets.gates import Gate, gate_result
from av_assets.policies.calibration import CalibrationPolicy
from av_assets.policies.clocks import ClockPolicy
from av_assets.policies.redaction import RedactionPolicy
from av_assets.policies.sync import SyncPolicy
from av_assets.policies.topics import TopicPolicy
from av_assets.presentation import pictures, table
from av_assets.production import Rows, Work, each_drive
from partitions.drives import BATCH, drives
from resources.compute import DECODE
from resources.lake import Lake
from sensors.conditions import on_changed_content

CALIBRATIONS = "calibrations"


@dg.asset(
    partitions_def=drives,
    deps=[raw_logs, log_reports, redacted_clips],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=DECODE.tags,
    pool=DECODE.pool,
    code_version="2",
    kinds={"parquet"},
)
def synced_shards(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 3 of 36: takes redacted_clips and the other sensors' raw_logs, gives fixed-length clips on one grid."""
    yield from each_drive(
        context,
        lake,
        ["raw_logs", "log_reports", "redacted_clips"],
        [
            policy.load()
            for policy in (SyncPolicy, ClockPolicy, CalibrationPolicy, RedactionPolicy, TopicPolicy)
        ],
        _synchronize,
        _describe,
        gate=GATE,
        guarded=["log_reports", "redacted_clips"],
        read_rows=partial(_known_calibrations, lake),
    )


@dg.asset_check(asset=synced_shards, blocking=True)
def synced_shards_keep_every_row(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """Rows are in order, and as many as the plan says; residuals to the expected phase stay within tolerance."""
    return gate_result(context, lake, "synced_shards")


def _known_calibrations(lake: Lake, drive: str, inputs: Mapping[str, Manifest]) -> dict[str, Rows]:
    """What the fleet's ledger says of this vehicle from before the drive."""
    from av_assets.domain.geometry.ledger_files import rows_before

    start_ns = json.loads(lake.read_bytes(inputs["log_reports"], "report.json"))["start_ns"]
    vehicle = parse_drive_spec(lake.read_bytes(inputs["raw_logs"], SPEC_FILE), Path(SPEC_FILE)).vehicle
    return {
        CALIBRATIONS: rows_before(
            lake.tables.read(CALIBRATIONS, [("vehicle", "=", vehicle)]), drive, start_ns
        )
    }


def _synchronize(work: Work) -> str:
    from av_assets.domain.geometry.ledger_files import ledger_of
    from av_assets.domain.logs.aliases import with_confirmed
    from av_assets.domain.logs.drive_spec import read_drive_spec
    from av_assets.domain.logs.messages.ouster import with_clouds
    from av_assets.domain.logs.reader import LogReader
    from av_assets.domain.privacy.places import without_private_positions
    from av_assets.domain.sync.streams import drive_streams
    from av_assets.domain.sync.synchronize import synchronize_drive

    folder, clocks = work.checkout("raw_logs"), ClockPolicy.load()
    spec, redacted = (
        with_confirmed(read_drive_spec(folder / SPEC_FILE), TopicPolicy.load()),
        work.checkout("redacted_clips"),
    )
    ledger = ledger_of(work.rows[CALIBRATIONS], folder, CalibrationPolicy.load())
    logs, note = with_clouds(folder, work.folder / "ouster.mcap")
    with LogReader(logs) as log:
        reader = without_private_positions(log, drive_streams(log, spec), RedactionPolicy.load())
        made = synchronize_drive(
            reader,
            spec,
            redacted,
            SyncPolicy.load(),
            work.out,
            work.watch,
            folder,
            work.segments,
            clocks,
            ledger,
        )
    return "; ".join(filter(None, [note, "" if made.clips else "no sensor stream in this drive: no clips"]))


def _judge(folder: Path) -> list[Claim]:
    from av_assets.domain.sync.claims import shard_claims

    return shard_claims(folder)


GATE = Gate("synced_shards_keep_every_row", _judge)


def _read_report(lake: Lake, drive: str) -> dict[str, Any]:
    manifest = lake.manifest("synced_shards", drive)
    return {} if manifest is None else json.loads(lake.read_bytes(manifest, "sync_report.json"))


def _describe(lake: Lake, manifest: Any) -> dict[str, Any]:
    report = _read_report(lake, manifest.partition)
    rows = (
        {
            "stream": role,
            **{f"p{p}_ms": stream["residual_ns"][f"p{p}"] / 1e6 for p in (50, 95, 99) if stream["matched"]},
        }
        | {
            k: stream[k]
            for k in ("samples", "matched", "missing", "orphans", "duplicates", "within_tolerance")
        }
        for role, stream in sorted(report["streams"].items())
    )
    return {
        "dagster/row_count": report["reference"]["frames"],
        "reference": dg.MetadataValue.json(report["reference"]),
        "streams": table(rows),
        "pairs": table(
            {"pair": name, **{k: str(v) for k, v in pair.items() if k != "histogram"}}
            for name, pair in sorted(report["pairs"].items())
        ),
        "clocks": table(
            {"topic": topic, **{k: str(clock[k]) for k in ("classification", "repair", "reason")}}
            for topic, clock in sorted(report["clocks"].items())
            if clock["repair"] != "none"
        ),
        "calibration": table(
            {"sensor": role, **{k: str(one[k]) for k in ("state", "flags", "entry_drive")}}
            for role, one in sorted(report["calibration"].items())
        ),
        **pictures(lake, manifest, "residuals.png"),
    }
