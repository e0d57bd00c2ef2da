"""Workflow 36, map part: the map in versions, cut so that only drives near a change are remade."""

import json
import time
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.roads import RoadsPolicy
from av_assets.presentation import table
from av_assets.production import ALL, Work, bundle_metadata, code_version, lineage, produce
from resources.compute import CPU
from resources.lake import Lake
from resources.maps import MapFile, Maps, extract_rows, is_delta
from sensors.conditions import until_present

if TYPE_CHECKING:
    from av_assets.domain.roads.features import Feature

SHOWN = 50


@dg.asset(
    automation_condition=until_present,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"deltalake", "json"},
)
def map_tiles(context: dg.AssetExecutionContext, lake: Lake, maps: Maps) -> dg.MaterializeResult:
    """Workflow 36 of 36: takes OpenStreetMap extracts and deltas, gives tiles by H3 cell and what changed in them."""
    started = time.time_ns()
    files, policy = maps.files(), RoadsPolicy.load()
    rows = {"map_extract": extract_rows(files)}
    made_from = lineage([], code_version(context), [policy], rows)
    made = produce(
        lake, "map_tiles", ALL, made_from, {},
        lambda work: _cut(work, files, policy), rows=rows, run_id=context.run.run_id,
    )  # fmt: skip
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=map_tiles)
def map_tiles_keep_their_topology(lake: Lake) -> dg.AssetCheckResult:
    """No road of the map is without length, drawn twice, or at odds with itself over direction or speed."""
    manifest = lake.require("map_tiles", ALL)
    errors = [f for f in json.loads(lake.read_bytes(manifest, "lint.json")) if f["error"]]
    rows = ({"rule": f["rule"], "way": str(f["way_id"]), "detail": f["detail"]} for f in errors[:SHOWN])
    return dg.AssetCheckResult(
        passed=not errors,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"errors": len(errors), "findings": table(rows)},
    )


def _cut(work: Work, files: list[MapFile], policy: RoadsPolicy) -> str:
    import pyarrow as pa

    from av_assets.domain.roads.map_version import map_version_of

    with work.watch("read"):
        before = _features_before(work.lake, policy)
    extracts = [(file.file, file.path) for file in files if not is_delta(file)]
    deltas = [(file.file, file.path) for file in files if is_delta(file)]
    version = map_version_of(extracts, before, policy, deltas, work.watch)
    for cell, tile in version.tiles.items():
        path = work.out / "tiles" / f"{cell}.json.zst"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tile)
    for name, value in version.reports().items():
        (work.out / name).write_text(json.dumps(value, sort_keys=True), "utf-8")
    rows = pa.Table.from_pylist(
        [row | {"map": work.partition} for row in version.rows], schema=version.schema
    )
    with work.watch("write"):
        work.write_table("map_tiles", rows, key="map")
    return "" if files else "no map was given"


def _features_before(lake: Lake, policy: RoadsPolicy) -> "list[Feature] | None":
    """The roads of the map that is there now; None where there is none, or none that this code can read."""
    from av_assets.domain.errors import PoisonError
    from av_assets.domain.roads.tiles import unpack

    present = lake.manifest("map_tiles", ALL)
    if present is None:
        return None
    tiles = (f.path for f in present.matching("tiles/*"))
    try:
        return [f for path in tiles for f in unpack(lake.read_bytes(present, path), policy, path)]
    except PoisonError:
        return None


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    summary = json.loads(lake.read_bytes(manifest, "summary.json"))
    changed = json.loads(lake.read_bytes(manifest, "changed_cells.json"))
    return {
        **{name: summary[name] for name in ("tiles", "roads", "segments", "added", "modified", "deleted")},
        "dagster/row_count": summary["tiles"],
        "changed_cells": len(changed),
        "cells": table(changed[:SHOWN]),
        "lint": table({"rule": rule, "findings": n} for rule, n in summary["lint"].items()),
    }
