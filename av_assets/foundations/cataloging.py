"""Workflow 4: what there is, as tables that anyone can query."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.domain.logs.drive_spec import SPEC_FILE, DriveSpec
from av_assets.foundations.ingestion import log_reports, raw_logs
from av_assets.foundations.synchronization import synced_shards
from av_assets.gates import checked_drives
from av_assets.policies.catalog import CatalogPolicy
from av_assets.policies.landing import LandingPolicy
from av_assets.presentation import table
from av_assets.production import Work, each_drive
from av_assets.tables_metadata import table_metadata
from partitions.drives import BATCH, drives
from resources import ingestions
from resources.compute import LIGHT
from resources.environment import environment
from resources.lake import Lake
from resources.registration import register_tables
from sensors.conditions import on_changed_content

TABLES = ("drives", "streams", "clips", "frames", "calibrations")


@dg.asset(
    partitions_def=drives,
    deps=[raw_logs, log_reports, synced_shards],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=LIGHT.tags,
    pool=LIGHT.pool,
    code_version="3",
    kinds={"delta"},
)
def drive_catalog(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 4 of 36: takes shards and reports, gives the tables drives, streams, clips, frames, calibrations."""
    reads = ["raw_logs", "log_reports", "synced_shards"]
    yield from each_drive(
        context,
        lake,
        reads,
        [CatalogPolicy.load()],
        partial(_catalog, lake),
        _describe,
        guarded=["log_reports", "synced_shards"],
    )


@dg.asset_check(asset=drive_catalog)
def drive_catalog_is_queryable_in_time(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """From the completion marker to the catalog within the goal of the landing policy."""
    goal_s = LandingPolicy.load().queryable_goal_s
    rows = {drive: ingestions.of(lake, drive) for drive in checked_drives(context)}
    late = {drive: row.latency_s for drive, row in rows.items() if row and (row.latency_s or 0) > goal_s}
    return dg.AssetCheckResult(
        passed=not late,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"goal_s": goal_s, "late_s": dg.MetadataValue.json(late)},
    )


def _catalog(lake: Lake, work: Work) -> str:
    from av_assets.domain.catalog.rows import catalog_rows
    from av_assets.domain.geometry.ledger_files import ledger_table
    from av_assets.domain.logs.drive_spec import read_drive_spec
    from av_assets.domain.sync.frames_table import frames_table

    shards = work.checkout("synced_shards")
    spec = read_drive_spec(work.checkout("raw_logs", SPEC_FILE) / SPEC_FILE)
    report = json.loads((work.checkout("log_reports", "report.json") / "report.json").read_bytes())
    tables = catalog_rows(
        work.partition,
        spec,
        sorted((shards / "clips").glob("*.parquet")),
        report,
        json.loads((shards / "sync_report.json").read_bytes()),
        {asset: manifest.content for asset, manifest in work.inputs.items()},
        CatalogPolicy.load(),
    )
    tables["frames"] = frames_table(shards)
    tables["calibrations"] = ledger_table(_stated(work.partition, spec, shards, report))
    for name in TABLES:
        work.write_table(name, tables[name])
    register_tables(environment().glue_database, lake.tables, TABLES)
    latency_s = _note_queryable(lake, work.partition)
    if latency_s is not None:
        work.facts["latency_s"] = latency_s
    return ""


def _stated(drive: str, spec: DriveSpec, shards: Path, report: Mapping[str, Any]) -> list[Any]:
    """What the log itself says of its sensors: the next drives of the vehicle may need it."""
    from av_assets.domain.geometry.calibration import Calibration
    from av_assets.domain.geometry.ledger import entries_from

    in_log = Calibration.load(shards / "calibration_in_log.json")
    return entries_from(in_log, spec.vehicle, drive, report["start_ns"], report["end_ns"])


def _note_queryable(lake: Lake, drive: str) -> float | None:
    """Write down when the drive could be queried for the first time; gives the seconds since its marker."""
    row = ingestions.of(lake, drive)
    if row is None:
        return None
    if not row.queryable_ns:
        row = replace(row, queryable_ns=time.time_ns())
        ingestions.write(lake, row)
    return row.latency_s


def _describe(lake: Lake, manifest: Any) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.catalog.schemas import DRIVES
    from av_assets.domain.catalog.sources import DRIVES_FROM

    row = pq.read_table(pa.BufferReader(lake.read_bytes(manifest, "drives.parquet"))).to_pylist()[0]
    facts = lake.tables.facts("drives")
    return table_metadata(
        facts.schema if facts else DRIVES,
        uri=lake.tables.path("drives"),
        rows=facts.rows if facts else None,
        sources=DRIVES_FROM,
    ) | {"row": table({"column": k, "value": _shown(v)} for k, v in row.items() if v is not None)}


def _shown(value: Any) -> str:
    """Long values are told by their size: the picture of a route is elsewhere."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return f"{len(value)}: {', '.join(value[:3])} ..." if isinstance(value, list) else str(value)
