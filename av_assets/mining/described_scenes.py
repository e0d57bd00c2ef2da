"""Workflow 6: a drive as scenes that can be read, searched and counted."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.gates import checked_drives
from av_assets.policies.scenes import ScenesPolicy
from av_assets.presentation import pictures, table
from av_assets.production import Work, each_drive
from av_assets.tables_metadata import table_metadata
from partitions.drives import BATCH, drives
from resources.compute import LIGHT
from resources.environment import environment
from resources.lake import Lake
from resources.registration import register_scenes
from sensors.conditions import on_changed_content

READS = ("event_windows", "enriched_clips", "drive_catalog", "auto_labels")


@dg.asset(
    partitions_def=drives,
    deps=list(READS),
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=LIGHT.tags,
    pool=LIGHT.pool,
    code_version="1",
    kinds={"delta"},
)
def scenes(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 6 of 36: takes events, context, catalog and labels, gives scenes with tags and a sentence each."""
    policy = ScenesPolicy.load()
    yield from each_drive(context, lake, list(READS), [policy], partial(_scenes, policy), _describe)


@dg.asset_check(asset=scenes)
def scenes_cover_every_drive_once(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """Every instant of the recording lies in exactly one scene: no gap, no overlap."""
    from av_assets.domain.scenes.rows import uncovered_ns

    policy = ScenesPolicy.load()
    wrong = {
        drive: uncovered_ns(
            _rows(lake, "drive_catalog", drive, "clips"), _rows(lake, "scenes", drive), policy
        )
        for drive in checked_drives(context)
        if lake.manifest("scenes", drive) is not None
    }
    bad = {drive: round(ns / 1e9, 9) for drive, ns in wrong.items() if ns}
    return dg.AssetCheckResult(
        passed=not bad, metadata={"drives": len(wrong), "wrong_s": dg.MetadataValue.json(bad)}
    )


def _scenes(policy: ScenesPolicy, work: Work) -> str:
    import pyarrow.parquet as pq

    from av_assets.domain.scenes.rows import DriveRows, scene_rows
    from av_assets.domain.viewing.drives import events_png

    def rows(asset: str, name: str) -> list[dict[str, Any]]:
        return pq.read_table(work.checkout(asset, name) / name).to_pylist()

    catalog = work.checkout("drive_catalog", "drives.parquet", "clips.parquet")
    labels = work.checkout("auto_labels", "labels.parquet", "drivable.parquet")
    [drive] = pq.read_table(catalog / "drives.parquet").to_pylist()
    read = DriveRows(
        drive=drive,
        clips=pq.read_table(catalog / "clips.parquet").to_pylist(),
        context=rows("enriched_clips", "clip_context.parquet"),
        events=rows("event_windows", "events.parquet"),
        labels=pq.read_table(labels / "labels.parquet").to_pylist(),
        labelled=_labelled(labels / "drivable.parquet"),
    )
    with work.watch("compute"):
        found = scene_rows(read, policy)
    work.write_table("scenes", found)
    register_scenes(environment().scene_index, work.partition, found.to_pylist())
    points = pq.read_table(work.checkout("enriched_clips", "matched.parquet") / "matched.parquet")
    if (drawn := events_png(points, read.events, work.partition)) is not None:
        (work.out / "events.png").write_bytes(drawn)
    return "" if found.num_rows else "no clip in this drive: no scene"


def _labelled(path: Path) -> list[tuple[str, int]]:
    """Frames with a drivable area were labelled, even where nothing was found in them."""
    import pyarrow.parquet as pq

    frames = pq.read_table(path, columns=["camera", "ref_ns"]).to_pylist()
    return [(frame["camera"], frame["ref_ns"]) for frame in frames]


def _rows(lake: Lake, asset: str, drive: str, name: str = "scenes") -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = lake.read_bytes(lake.require(asset, drive), f"{name}.parquet")
    return pq.read_table(pa.BufferReader(content)).to_pylist()


def _describe(lake: Lake, manifest: Any) -> dict[str, Any]:
    from av_assets.domain.scenes.rows import SCENES

    rows = _rows(lake, manifest.asset, manifest.partition)
    shown = ({"scene": r["scene_id"], "s": _seconds(r), "description": r["description"]} for r in rows)
    tags = Counter(tag for row in rows for tag in row["tags"])
    return {
        **table_metadata(SCENES, uri=lake.tables.path("scenes"), rows=len(rows)),
        "tags": dg.MetadataValue.json(dict(sorted(tags.items()))),
        "scenes": table(shown),
        **pictures(lake, manifest, "events.png"),
    }


def _seconds(row: dict[str, Any]) -> float:
    return round((row["end_ns"] + 1 - row["start_ns"]) / 1e9, 1)
