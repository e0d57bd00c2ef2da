"""What the catalog shows of label tasks, submissions and verified labels.

Belongs here: from published bundles to metadata. Does not belong here: making them (labels), drawing (domain/labels).
"""

from __future__ import annotations

import json
from typing import Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.labels.people.label_files import FRAME_MEANINGS, FRAMES
from av_assets.presentation import table
from av_assets.tables_metadata import table_metadata
from resources.lake import Lake

SHOWN_ROWS = 50


def read_json(lake: Lake, asset: str, drive: str, path: str) -> dict[str, Any]:
    """A JSON file of the drive's bundle; empty where there is none."""
    manifest = lake.manifest(asset, drive)
    return {} if manifest is None else _json(lake, manifest, path)


def read_rows(lake: Lake, manifest: Manifest, path: str) -> list[dict[str, Any]]:
    """Rows of a Parquet file of a bundle; none where it does not hold the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not _holds(manifest, path):
        return []
    return list(pq.read_table(pa.BufferReader(lake.read_bytes(manifest, path))).to_pylist())


def describe_tasks(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    plan = _json(lake, manifest, "plan.json")
    rows = read_rows(lake, manifest, "tasks.parquet")
    columns = (
        "task_id",
        "stratum",
        "priority",
        "uncertainty",
        "rarity",
        "mistakenness",
        "annotations_wanted",
    )
    return {
        "tasks": plan["tasks"],
        "plan": dg.MetadataValue.json(plan),
        "strata": dg.MetadataValue.json(plan["strata"]),
        "most valuable": table({c: row[c] for c in columns} for row in rows[:SHOWN_ROWS]),
    }


def describe_submissions(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    report = _json(lake, manifest, "report.json")
    rejected = read_rows(lake, manifest, "rejected.parquet")
    columns = ("origin", "submission", "row", "task_id", "annotator", "constraint", "value")
    return {
        "returned": report["returned"],
        "simulated": report["simulated"],
        "rejected rows": len(rejected),
        "constraints": dg.MetadataValue.json(report["constraints"]),
        "files": table({"file": name, **counts} for name, counts in report["files"].items()),
        "to be reviewed": table({c: row[c] for c in columns} for row in rejected[:SHOWN_ROWS]),
    }


def describe_verified(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    report = _json(lake, manifest, "report.json")
    if not report:
        return {}
    from av_assets.mining.label_pictures import verified_label_pictures

    frames = read_rows(lake, manifest, "frames.parquet")
    return {
        **table_metadata(FRAMES, FRAME_MEANINGS, uri=lake.tables.path("label_frames"), rows=len(frames)),
        **{k: v for k, v in report.items() if isinstance(v, int | float | str) and v != ""},
        "report": dg.MetadataValue.json(report),
        "states": table({"state": s, "frames": n} for s, n in report["states"].items()),
        "annotators": table(
            {"annotator": name, **{k: "" if v is None else v for k, v in facts.items()}}
            for name, facts in report["annotators"].items()
        ),
        **verified_label_pictures(lake, manifest),
    }


def _holds(manifest: Manifest, path: str) -> bool:
    return any(f.path == path for f in manifest.files)


def _json(lake: Lake, manifest: Manifest, path: str) -> dict[str, Any]:
    return dict(json.loads(lake.read_bytes(manifest, path))) if _holds(manifest, path) else {}
