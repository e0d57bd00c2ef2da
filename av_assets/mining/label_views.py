"""What the catalog shows of label tasks, submissions and verified labels.

Belongs here: from published bundles to metadata. Does not belong here: making them (labels), drawing (domain/labels).
"""

from __future__ import annotations

import json
from typing import Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.labels.people.label_files import FRAME_MEANINGS, FRAMES
from av_assets.policies.annotation import AnnotationPolicy
from av_assets.presentation import table
from av_assets.tables_metadata import table_metadata
from resources.lake import Lake

SHOWN_ROWS, MOST_VALUABLE = 50, 20
VERIFIED = {
    "labels": "labels",
    "labels accepted as proposed": "accepted",
    "labels corrected": "corrected",
    "labels added": "added",
    "proposals removed": "removed",
    "labelled frames": "frames",
    "frames that two people drew": "frames_twice",
    "frames that a third person decided": "adjudicated",
    "minutes of people": "minutes",
    "minutes for each frame": "mean_minutes",
    "share of objects drawn alike": "agreement",
    "Krippendorff's alpha": "alpha",
    "alpha is": "alpha_verdict",
    "Cohen's kappa": "kappa",
    "precision of the proposals": "precision",
    "recall of the proposals": "recall",
    "IoU of proposals and labels": "mean_iou",
    "rules of people": "rules",
    "labeller_digest": "labeller_digest",
    "why there is nothing": "reason",
}
"""What the page of verified labels shows -> where the report has it, in this order."""


def read_json(lake: Lake, asset: str, drive: str, path: str) -> dict[str, Any]:
    """A JSON file of the drive's bundle; empty where there is none."""
    return read_json_of(lake, lake.manifest(asset, drive), path)


def read_json_of(lake: Lake, manifest: Manifest | None, path: str) -> dict[str, Any]:
    """A JSON file of a bundle; empty where it does not hold the file."""
    if manifest is None or not _holds(manifest, path):
        return {}
    return dict(json.loads(lake.read_bytes(manifest, path)))


def read_rows(lake: Lake, manifest: Manifest | None, path: str) -> list[dict[str, Any]]:
    """Rows of a Parquet file of a bundle; none where it does not hold the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if manifest is None or not _holds(manifest, path):
        return []
    return list(pq.read_table(pa.BufferReader(lake.read_bytes(manifest, path))).to_pylist())


def describe_tasks(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    plan = read_json_of(lake, manifest, "plan.json")
    rows = read_rows(lake, manifest, "tasks.parquet")
    budget = plan.get("budget", {})
    measures = ("priority", "uncertainty", "rarity", "mistakenness")
    return {
        "tasks": plan["tasks"],
        "planned minutes": budget.get("planned_minutes"),
        "budget in minutes": budget.get("minutes"),
        "tasks beyond the budget": len(budget.get("beyond_budget", [])),
        "strata": table({"stratum": name, "tasks": count} for name, count in plan["strata"].items()),
        "most valuable": table(
            {"task_id": row["task_id"], "stratum": row["stratum"], "people": row["annotations_wanted"]}
            | {name: float(f"{row[name]:.3g}") for name in measures}
            for row in rows[:MOST_VALUABLE]
        ),
        "plan": dg.MetadataValue.json(plan),
    }


def describe_submissions(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    from av_assets.mining.constrained_frames import returned_boxes

    report = read_json_of(lake, manifest, "report.json")
    rejected = read_rows(lake, manifest, "rejected.parquet")
    columns = ("origin", "submission", "row", "task_id", "annotator", "constraint", "value")
    return {
        "returned submissions": report["returned"],
        "simulated submissions": report["simulated"],
        "rejected rows": len(rejected),
        "rejected by constraint": table(
            {"constraint": name, "rows": count} for name, count in report["constraints"].items()
        ),
        "constraints": dg.MetadataValue.md(returned_boxes(AnnotationPolicy.load()).description or ""),
        "returned files": table({"file": name, **counts} for name, counts in report["files"].items()),
        "first rejected rows": table({c: row[c] for c in columns} for row in rejected[:SHOWN_ROWS]),
    }


def describe_verified(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    report = read_json_of(lake, manifest, "report.json")
    if not report:
        return {}
    from av_assets.mining.label_pictures import verified_label_pictures

    frames = read_rows(lake, manifest, "frames.parquet")
    return {
        **{name: report[key] for name, key in VERIFIED.items() if report.get(key) not in (None, "")},
        "states": table({"state": s, "frames": n} for s, n in report["states"].items() if n),
        "annotators": table(
            {"annotator": name, **{k: "" if v is None else v for k, v in facts.items()}}
            for name, facts in report["annotators"].items()
        ),
        **verified_label_pictures(lake, manifest),
        "report": dg.MetadataValue.json(report),
        **table_metadata(FRAMES, FRAME_MEANINGS, uri=lake.tables.path("label_frames"), rows=len(frames)),
    }


def _holds(manifest: Manifest, path: str) -> bool:
    return any(f.path == path for f in manifest.files)
