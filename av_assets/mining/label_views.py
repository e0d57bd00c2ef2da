"""What the catalog shows of label tasks, submissions and verified labels.

Belongs here: from published bundles to metadata. Does not belong here: making them (labels), drawing (domain/labels).
"""

from __future__ import annotations

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


def describe_tasks(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    plan = lake.json_of(manifest, "plan.json")
    rows = lake.rows_of(manifest, "tasks.parquet")
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

    report = lake.json_of(manifest, "report.json")
    rejected = lake.rows_of(manifest, "rejected.parquet")
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
    report = lake.json_of(manifest, "report.json")
    if not report:
        return {}
    from av_assets.mining.label_pictures import verified_label_pictures

    frames = lake.rows_of(manifest, "frames.parquet")
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
