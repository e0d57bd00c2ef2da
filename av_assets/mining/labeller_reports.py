"""Workflow 9: how good the auto-labeller is on what people verified, and which thresholds it should have."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.evidence.signatures import sign
from av_assets.policies.label_fusion import LabelFusionPolicy
from av_assets.presentation import pictures, table
from av_assets.production import ALL, Work, bundle_metadata, code_version, lineage, produce
from resources.compute import LIGHT
from resources.lake import Lake
from resources.signing import signing_key
from sensors.conditions import on_changed_members

if TYPE_CHECKING:
    from av_assets.domain.labels.quality.labeller_quality import JudgedDrive

QUALITY_FILE, THRESHOLDS_FILE, PROPOSAL_FILE = "quality_report.json", "thresholds.json", "label_fusion.yaml"
READ = ("auto_labels", "verified_labels")
QUALITY = {
    "found": "found",
    "objects": "objects",
    "precision": "precision",
    "at least": "precision_lower_bound",
    "recall": "recall",
    "IoU": "median_iou",
    "AP50": "ap50",
    "ECE": "ece",
}
TRACKS = {"hota": "HOTA", "deta": "DetA", "assa": "AssA", "idf1": "IDF1", "idp": "IDP", "idr": "IDR", "mota": "MOTA",
          "motp": "MOTP", "switches": "switches"}  # fmt: skip
"""Headings of the tables, in this order."""


@dg.asset(
    deps=[dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping()) for name in READ],
    automation_condition=on_changed_members,
    op_tags=LIGHT.tags,
    pool=LIGHT.pool,
    code_version="1",
    kinds={"json"},
)
def labeller_reports(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 9 of 36: takes auto_labels and verified_labels of all drives, gives the labeller's quality and a
    proposal of thresholds."""
    from resources.policies import active

    started, policy = time.time_ns(), active(lake, LabelFusionPolicy)
    members = _members(lake)
    rows: dict[str, Any] = {
        "members": [[drive, *(m.content for m in made)] for drive, made in members.items()]
    }
    made_from = lineage([], code_version(context), [policy], rows)
    made = produce(
        lake,
        "labeller_reports",
        ALL,
        made_from,
        {},
        lambda work: _judge(work, members, policy),
        rows=rows,
        run_id=context.run.run_id,
        policies=[policy],
    )
    if lake.signature(made.manifest) is None:  # activating thresholds rests on it
        lake.keep_signature(made.manifest, sign(signing_key(), made.manifest))
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=labeller_reports)
def auto_labels_reach_their_target(lake: Lake) -> dg.AssetCheckResult:
    """The share of right labels, class by class and on drives that chose no threshold, is what the policy asks for."""
    scores = _report(lake)["active"]["classes"]
    missed = [cls for cls, one in scores.items() if one["verdict"] == "missed"]
    shown = ("target", "precision", "precision_lower_bound", "found", "recall", "objects", "verdict")
    return dg.AssetCheckResult(
        passed=not missed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "classes": table({"class": c, **{k: _cell(one[k]) for k in shown}} for c, one in scores.items()),
            "insufficient": ", ".join(c for c, o in scores.items() if o["verdict"] == "insufficient")
            or "none",
        },
    )


@dg.asset_check(asset=labeller_reports)
def labeller_is_calibrated(lake: Lake) -> dg.AssetCheckResult:
    """Scores of candidates are, on average over bins, near the share of them that are right."""
    manifest = lake.require("labeller_reports", ALL)
    found = _report(lake)["active"]["all"]
    most = json.loads(lake.read_bytes(manifest, THRESHOLDS_FILE))["max_ece"]
    return dg.AssetCheckResult(
        passed=found["ece"] is None or found["ece"] <= most,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"ece": _cell(found["ece"]), "most": most, "candidates": found["candidates"]},
    )


def _members(lake: Lake) -> dict[str, tuple[Manifest, Manifest]]:
    """Drives whose labels people, or those who stand in for them, have verified, with both bundles."""
    found = {}
    for drive in lake.partitions("verified_labels"):
        auto, verified = (lake.manifest(name, drive) for name in READ)
        if auto is None or verified is None or verified.note or auto.note:
            continue
        if auto.matching("candidates.parquet") and verified.matching("frames.parquet"):
            found[drive] = (auto, verified)
    return found


def _judge(work: Work, members: dict[str, tuple[Manifest, Manifest]], policy: LabelFusionPolicy) -> str:
    import yaml

    from av_assets.domain.labels.pictures import confusion_png
    from av_assets.domain.labels.quality.labeller_quality import labeller_report, with_thresholds
    from av_assets.domain.labels.quality.thresholds import Chosen
    from av_assets.domain.metrics.pictures import reliability_diagram

    with work.watch("compute"):
        judged = list(_judged(work.lake, members, policy))
        report = labeller_report(judged, policy)
    _write_json(work, QUALITY_FILE, report)
    chosen = {
        cls: {name: Chosen(**one) for name, one in slices.items()}
        for cls, slices in report["thresholds"].items()
    }
    proposed = with_thresholds(policy, chosen)
    facts = {
        "chosen": report["thresholds"],
        "active": policy.model_dump(mode="json")["thresholds"],
        "default": dict(policy.default),
        "target": report["target"],
        "confidence": policy.choosing.confidence,
        "max_ece": policy.choosing.max_ece,
        "missed": _missed(report, policy, proposed),
        "base": policy.digest,
        "digest": proposed.digest,
        "reason": report["reason"],
    }
    _write_json(work, THRESHOLDS_FILE, facts)
    if not report["reason"]:
        text = yaml.safe_dump(proposed.model_dump(mode="json"), sort_keys=False)
        (work.out / PROPOSAL_FILE).write_text(text, "utf-8")
    held = report["active"]
    (work.out / "confusion.png").write_bytes(confusion_png(**held["confusion"]))
    (work.out / "thresholds.png").write_bytes(_curves(judged, chosen, policy))
    (work.out / "reliability.png").write_bytes(reliability_diagram(held["reliability"], held["all"]["ece"]))
    return "" if report["drives"] else report["reason"]


def _curves(judged: "list[JudgedDrive]", chosen: Any, policy: LabelFusionPolicy) -> bytes:
    """What every threshold would have given on the drives that chose none."""
    from av_assets.domain.labels.pictures import thresholds_png
    from av_assets.domain.labels.quality.labeller_quality import JUDGE, half_of
    from av_assets.domain.labels.quality.threshold_curves import threshold_curves

    part = [d for d in judged if half_of(d.drive, policy.choosing.salt) == JUDGE]
    objects: Counter[str] = Counter()
    for drive in part:
        for (cls, _), number in drive.objects.items():
            objects[cls] += number
    return thresholds_png(threshold_curves([v for d in part for v in d.verdicts], objects, chosen, policy))


def _missed(report: dict[str, Any], policy: LabelFusionPolicy, proposed: LabelFusionPolicy) -> list[str]:
    """Classes with other thresholds than now that would miss their target on the drives that did not choose."""
    return [
        cls
        for cls, scores in report["proposed"]["classes"].items()
        if scores["verdict"] == "missed" and proposed.thresholds[cls] != policy.thresholds.get(cls, {})
    ]


def _judged(
    lake: Lake, members: dict[str, tuple[Manifest, Manifest]], policy: LabelFusionPolicy
) -> "Iterator[JudgedDrive]":
    from av_assets.domain.labels.quality.labeller_quality import JudgedDrive

    for drive, (auto, verified) in members.items():
        frames = [f for f in lake.rows_of(verified, "frames.parquet") if f["state"] == "final"]
        yield JudgedDrive.of(
            drive,
            lake.rows_of(auto, "candidates.parquet"),
            lake.rows_of(verified, "labels.parquet"),
            [(f["clip_id"], f["ref_ns"]) for f in frames],
            policy,
        )


def _write_json(work: Work, path: str, data: dict[str, Any]) -> None:
    (work.out / path).write_text(json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n", "utf-8")


def _report(lake: Lake) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lake.read_bytes(lake.require("labeller_reports", ALL), QUALITY_FILE))
    return found


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    from av_assets.mining.label_pictures import fleet_label_pictures

    report = json.loads(lake.read_bytes(manifest, QUALITY_FILE))
    rows = [
        {"class": cls, "thresholds": kind} | {name: _cell(scores[k]) for name, k in QUALITY.items()}
        for cls in report["active"]["classes"]
        for kind in ("active", "proposed")
        if (scores := report[kind]["classes"].get(cls))
    ]
    tracks = [
        {"drive": drive} | {name: _cell(scores[k]) for k, name in TRACKS.items()}
        for drive, scores in report["active"]["tracks"].items()
    ]
    return {
        "verified drives": report["drives"],
        "drives that judge": len(report["judged_on"]),
        "verified frames": report["frames"],
        "proposal of thresholds": report["reason"] or "av labels thresholds shows it",
        "quality": table(rows),
        "quality by light and weather": table(
            {"class/slice": name} | {heading: _cell(scores[k]) for heading, k in QUALITY.items()}
            for name, scores in report["active"]["slices"].items()
        ),
        "tracks": table(tracks),
        **pictures(lake, manifest, "confusion.png", "thresholds.png", "reliability.png"),
        **fleet_label_pictures(lake),
    }
