"""Workflow 3: many clocks on one grid, written as clip shards."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from av_assets.domain.logs.drive_spec import SPEC_FILE
from av_assets.foundations.ingestion import raw_logs
from av_assets.foundations.redaction import redacted_clips
from av_assets.gates import checked_drives
from av_assets.policies.sync import SyncPolicy
from av_assets.presentation import pictures, table
from av_assets.production import Work, each_drive
from partitions.drives import BATCH, drives
from resources.compute import DECODE
from resources.lake import Lake
from sensors.conditions import on_changed_content


@dg.asset(
    partitions_def=drives,
    deps=[raw_logs, redacted_clips],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=DECODE.tags,
    pool=DECODE.pool,
    code_version="1",
    kinds={"parquet"},
)
def synced_shards(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 3 of 36: takes redacted_clips and the other sensors' raw_logs, gives fixed-length clips on one grid."""
    policy = SyncPolicy.load()
    yield from each_drive(
        context, lake, ["raw_logs", "redacted_clips"], [policy], partial(_synchronize, policy), _describe
    )


@dg.asset_check(asset=synced_shards)
def synced_shards_stay_within_tolerance(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """The p95 residual to the expected phase stays within the policy's tolerance, stream by stream."""
    late = {
        f"{drive}/{role}": stream["residual_ns"]["p95"]
        for drive in checked_drives(context)
        for role, stream in _read_report(lake, drive).get("streams", {}).items()
        if not stream["residual_ok"]
    }
    return dg.AssetCheckResult(
        passed=not late,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"late_streams": dg.MetadataValue.json(late)},
    )


def _synchronize(policy: SyncPolicy, work: Work) -> str:
    from av_assets.domain.logs.drive_spec import read_drive_spec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.domain.sync.synchronize import synchronize_drive

    folder = work.checkout("raw_logs")
    spec, redacted = read_drive_spec(folder / SPEC_FILE), work.checkout("redacted_clips")
    with LogReader(folder) as reader:
        synchronize_drive(reader, spec, redacted, policy, work.out, work.watch, folder)
    return ""


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
        **pictures(lake, manifest, "residuals.png"),
    }
