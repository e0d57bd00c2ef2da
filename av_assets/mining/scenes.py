"""Workflow 6: the moments of a drive that matter."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dagster as dg

from av_assets.policies.events import EventsPolicy
from av_assets.presentation import table
from av_assets.production import Work, each_drive
from av_assets.tables_metadata import table_metadata
from partitions.drives import BATCH, drives
from resources.compute import CPU
from resources.lake import Lake
from resources.policies import policies_of_drives
from sensors.conditions import on_changed_content

REASONS = "reasons.json"


@dg.asset(
    partitions_def=drives,
    deps=[
        "synced_shards",
        "drive_catalog",
    ],  # the catalog says where the drive was, and so which numbers hold for it
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="3",
    kinds={"delta"},
)
def event_windows(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 6 of 36: takes synced_shards, gives windows of braking, cut-ins, conflicts and manoeuvres."""
    yield from each_drive(
        context,
        lake,
        ["synced_shards"],
        lambda drive: list(policies_of_drives(lake, [drive]).values()),
        _detect,
        _describe,
        guarded=["synced_shards"],
    )


def _detect(work: Work) -> str:
    import pyarrow as pa

    from av_assets.domain.events.detectors import detect_events

    clips = sorted((work.checkout("synced_shards", "clips/*") / "clips").glob("*.parquet"))
    events = detect_events(clips, work.policies[EventsPolicy.name])
    reasons = json.loads((events.schema.metadata or {}).get(b"reasons", b"{}"))
    (work.out / REASONS).write_text(json.dumps(reasons, sort_keys=True, indent=1) + "\n", "utf-8")
    drive = pa.array([work.partition] * events.num_rows, pa.string())
    work.write_table("events", events.add_column(0, "drive", drive).replace_schema_metadata(None))
    return "" if events.num_rows else "no event found"


def _describe(lake: Lake, manifest: Any) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    events = pq.read_table(pa.BufferReader(lake.read_bytes(manifest, "events.parquet")))
    rows = events.to_pylist()
    shown = [
        {k: str(r[k]) for k in ("kind", "level", "clip_id", "start_ns", "end_ns", "peak", "tags")}
        for r in rows
    ]
    return {
        **table_metadata(events.schema, uri=lake.tables.path("events"), rows=len(rows)),
        "not looked for": dg.MetadataValue.json(json.loads(lake.read_bytes(manifest, REASONS))),
        "kinds": dg.MetadataValue.json(dict(sorted(Counter(r["kind"] for r in rows).items()))),
        "events": table(shown),
    }
