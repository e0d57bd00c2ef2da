"""Workflow 5: the road under a drive and the weather around it, with their sources, or why they are missing."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import dagster as dg

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.domain.evidence.manifest import Manifest
from av_assets.gates import checked_drives
from av_assets.policies.catalog import CatalogPolicy
from av_assets.policies.context import ContextPolicy
from av_assets.policies.roads import RoadsPolicy
from av_assets.presentation import pictures, table
from av_assets.production import ALL, Rows, Work, bundle_metadata, code_version, each_drive, lineage, produce
from partitions.drives import BATCH, drives
from resources.compute import CPU
from resources.lake import Lake
from resources.weather import Weather, weather_version
from sensors.conditions import on_changed_drive, until_present

REPORT, POINTS = "report.json", "matched.parquet"


@dg.asset(
    automation_condition=until_present, op_tags=CPU.tags, pool=CPU.pool, code_version="1", kinds={"delta"}
)
def weather_observations(
    context: dg.AssetExecutionContext, lake: Lake, weather: Weather
) -> dg.MaterializeResult:
    """Before workflow 5: takes tables of stations and grids, gives the table weather and what was left out."""
    import time

    started, policy = time.time_ns(), ContextPolicy.load()
    files = weather_version(weather)
    rows = {"weather_files": files}
    made_from = lineage([], code_version(context), [policy], rows)
    make = partial(_observe, policy, weather)
    made = produce(
        lake, "weather_observations", ALL, made_from, {}, make, rows=rows, run_id=context.run.run_id
    )
    report = json.loads(lake.read_bytes(made.manifest, REPORT))
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started)
        | {
            "dagster/uri": lake.tables.path("weather"),
            "dagster/row_count": report["rows"],
            "tables": table({k: str(v) for k, v in file.items()} for file in report["files"]),
            "areas": dg.MetadataValue.json(report["areas"]),
        },
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=weather_observations)
def weather_rows_are_plausible(lake: Lake) -> dg.AssetCheckResult:
    """Every row could be read, stands somewhere on earth, came once, and holds values within the policy's ranges."""
    report = json.loads(lake.read_bytes(lake.require("weather_observations", ALL), REPORT))
    damaged = {file["file"]: file["damaged"] for file in report["files"] if file["damaged"]}
    counts = {name: report[name] for name in ("implausible", "misplaced", "repeated")}
    return dg.AssetCheckResult(
        passed=not damaged and not any(counts.values()),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"rows": report["rows"], "damaged": dg.MetadataValue.json(damaged)}
        | {
            name: found if isinstance(found, int) else dg.MetadataValue.json(found)
            for name, found in counts.items()
        },
    )


def _observe(policy: ContextPolicy, weather: Weather, work: Work) -> str:
    """Judge all rows and publish them twice: by area and month for drives that need few, and as the lake's table."""
    from av_assets.domain.context.observations import judged
    from resources.weather_lake import replace_weather, write_observations

    with work.watch("read"):
        read = weather.read(policy.limits)
    if weather_version(weather) != list(work.rows["weather_files"]):
        raise TransientError("weather tables changed while they were read", code="weather_busy")
    found = judged(read.rows, policy.plausible)
    with work.watch("write"):
        write_observations(found.rows, work.out)
        areas = replace_weather(work.lake, found.rows, work.rows["weather_files"], work.run_id)
    report = {
        "files": read.files,
        "rows": found.rows.num_rows,
        "areas": areas,
        "implausible": dict(sorted(found.implausible.items())),
        "misplaced": found.misplaced,
        "repeated": found.repeated,
    }
    (work.out / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", "utf-8")
    return "" if work.rows["weather_files"] else "no weather table was given"


@dg.asset(
    partitions_def=drives,
    deps=["synced_shards", "map_tiles", "weather_observations"],
    automation_condition=on_changed_drive,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"delta"},
)
def enriched_clips(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 5 of 36: takes synced_shards, map tiles and weather near the drive, gives the table clip_context."""
    policy, roads = ContextPolicy.load(), RoadsPolicy.load()
    yield from each_drive(
        context,
        lake,
        ["synced_shards"],
        [policy, roads, CatalogPolicy.load()],
        partial(_enrich, policy, roads),
        _describe,
        guarded=["synced_shards"],
        read_rows=partial(surroundings, lake, policy, roads),
    )


@dg.asset_check(asset=enriched_clips)
def enriched_clips_explain_what_is_missing(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """Whatever is not known of a clip has a reason: nothing is left open, and nothing is assumed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.context.rows import unexplained

    found, clips = [], 0
    for drive in checked_drives(context):
        manifest = lake.manifest("enriched_clips", drive)
        if manifest is not None:
            rows = pq.read_table(pa.BufferReader(lake.read_bytes(manifest, "clip_context.parquet")))
            clips, found = clips + rows.num_rows, [*found, *unexplained(rows)]
    return dg.AssetCheckResult(passed=not found, metadata={"clips": clips, "unexplained": table(found[:100])})


def surroundings(
    lake: Lake, policy: ContextPolicy, roads: RoadsPolicy, drive: str, inputs: Mapping[str, Manifest]
) -> dict[str, Rows]:
    """What of the map and of the weather this drive depends on: tiles near its positions, observations in reach."""
    from av_assets.domain.context.clips import bounds, moments
    from resources.maps import tiles_near
    from resources.weather_lake import observations_near

    clips = _positions(lake, drive, inputs["synced_shards"])
    tiles = {row["cell"]: row for box in bounds(clips, roads) for row in tiles_near(lake, box, roads)}
    return {
        "map_tiles": sorted(tiles.values(), key=lambda row: row["cell"]),
        "weather": observations_near(lake, moments(clips), policy.match).to_pylist(),
    }


def _positions(lake: Lake, drive: str, shards: Manifest) -> Any:
    """The clips with their positions; from what was made of these very shards before, which is small, or from them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.context.clips import cleaned, clips_of_points, read_clips

    made = lake.manifest("enriched_clips", drive)
    if made is not None and shards.digest in made.made_from.inputs.values():
        with suppress(EvidenceError):  # lost or damaged: made again, and what it needs is in the shards
            return clips_of_points(pq.read_table(pa.BufferReader(lake.read_bytes(made, POINTS))))
    with lake.workdir() as folder:
        checkout = lake.checkout(shards, folder, "clips/*")
        return cleaned(read_clips(list((checkout / "clips").glob("*.parquet"))), CatalogPolicy.load())


def _enrich(policy: ContextPolicy, roads: RoadsPolicy, work: Work) -> str:
    import pyarrow.parquet as pq

    from av_assets.domain.context.clips import cleaned, moments, read_clips
    from av_assets.domain.context.evidence import conflict, evidence
    from av_assets.domain.context.rows import context_report, context_rows, note_of, report_json
    from av_assets.domain.context.weather import observations_from, weather_at
    from av_assets.domain.roads.facts import match_clips, matched_points, road_context
    from av_assets.domain.viewing.drives import matched_png
    from resources.maps import graph_of

    wanted = (*policy.evidence.wiper_signals, *policy.evidence.rain_sensor_signals)
    shards = work.checkout("synced_shards", "clips/*") / "clips"
    clips = cleaned(read_clips(sorted(shards.glob("*.parquet")), wanted), CatalogPolicy.load())
    tracks = [clip.track() for clip in clips]
    start_ns = next((int(clip.ref_ns[0]) for clip in clips if len(clip.ref_ns)), None)
    with work.watch("match"):
        graph = graph_of(work.lake, work.rows["map_tiles"], roads, start_ns)
        found = match_clips(tracks, graph, roads)
        road = road_context(tracks, graph, roads, found)
        points = matched_points(tracks, graph, roads, found)
    weather = weather_at(moments(clips), observations_from(work.rows["weather"]), policy)
    with work.watch("pictures"):
        shown = evidence(clips, policy.evidence)
    conflicts = [
        conflict(w["weather"], e["evidence_weather"], policy.evidence)
        for w, e in zip(weather, shown, strict=True)
    ]
    rows = context_rows(work.partition, [clip.clip_id for clip in clips], [road, weather, shown], conflicts)
    work.write_table("clip_context", rows)
    pq.write_table(points, work.out / POINTS, compression="zstd")
    if (drawn := matched_png(points, graph, work.partition)) is not None:
        (work.out / "route.png").write_bytes(drawn)
    report = context_report(rows, points)
    (work.out / REPORT).write_text(report_json(report), "utf-8")
    return note_of(report)


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.read_table(pa.BufferReader(lake.read_bytes(manifest, "clip_context.parquet"))).to_pylist()
    report = json.loads(lake.read_bytes(manifest, REPORT))
    shown = (
        "clip_id", "road_class", "speed_limit_mps", "snapped_share", "weather", "weather_source", "weather_lag_s",
        "evidence_weather", "weather_conflict", "road_reason", "weather_reason", "evidence_reason",
    )  # fmt: skip
    return {
        "dagster/uri": lake.tables.path("clip_context"),
        "dagster/row_count": len(rows),
        "clips": table({k: "" if row[k] is None else str(row[k]) for k in shown} for row in rows),
        "report": dg.MetadataValue.json(report),
        **pictures(lake, manifest, "route.png"),
    }
