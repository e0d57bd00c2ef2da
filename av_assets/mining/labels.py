"""Workflow 10: labels that annotators have verified."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from av_assets.gates import checked_drives
from av_assets.mining.autolabels import auto_labels
from av_assets.policies.annotation import AnnotationPolicy
from av_assets.production import Work, each_drive
from partitions.drives import BATCH, drives
from resources.compute import LIGHT
from resources.labeling import Annotators
from resources.lake import Lake
from sensors.conditions import on_changed_content

SEED = 10


@dg.asset(
    partitions_def=drives,
    deps=["synced_shards", auto_labels],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=LIGHT.tags,
    pool=LIGHT.pool,
    code_version="1",
    kinds={"parquet"},
)
def verified_labels(
    context: dg.AssetExecutionContext, lake: Lake, annotators: Annotators
) -> Iterator[dg.MaterializeResult]:
    """Workflow 10 of 36: takes auto_labels, gives labels that annotators corrected and agreed on."""
    policy = AnnotationPolicy.load()
    yield from each_drive(
        context,
        lake,
        ["synced_shards", "auto_labels"],
        [policy],
        partial(_verify, annotators, policy),
        _describe,
        guarded=["synced_shards"],
    )


@dg.asset_check(asset=verified_labels)
def verified_labels_are_agreed_on(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """Annotators who saw the same frame agree beyond chance (Cohen's kappa), drive by drive."""
    reports = {drive: _read_report(lake, drive) for drive in checked_drives(context)}
    kappa = {drive: report["kappa"] for drive, report in reports.items() if report.get("kappa") is not None}
    low = [drive for drive, report in reports.items() if report.get("kappa_ok") is False]
    return dg.AssetCheckResult(
        passed=not low,
        metadata={"kappa": dg.MetadataValue.json(kappa), "required": AnnotationPolicy.load().min_kappa},
    )


def _verify(annotators: Annotators, policy: AnnotationPolicy, work: Work) -> str:
    from av_assets.domain.labels.verify import verify_drive

    if not annotators.knows(work.partition):
        return "no annotator knows this drive: its labels wait for people"
    summary = verify_drive(
        work.checkout("auto_labels"),
        annotators.truth_of(work.partition),
        sorted((work.checkout("synced_shards", "clips/*") / "clips").glob("*.parquet")),
        policy,
        SEED,
        work.out,
        work.watch,
    )
    return summary.reason


def _read_report(lake: Lake, drive: str) -> dict[str, Any]:
    manifest = lake.manifest("verified_labels", drive)
    held = manifest is not None and any(f.path == "report.json" for f in manifest.files)
    return json.loads(lake.read_bytes(manifest, "report.json")) if manifest and held else {}


def _describe(lake: Lake, manifest: Any) -> dict[str, Any]:
    report = _read_report(lake, manifest.partition)
    return {k: v for k, v in report.items() if isinstance(v, int | float | str)} | {
        "report": dg.MetadataValue.json(report)
    }
