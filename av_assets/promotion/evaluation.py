"""Workflow 16: what a bundle can do, slice by slice, and the verdict on it."""

import json
import time
from typing import Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.evaluation import EvaluationPolicy
from av_assets.presentation import pictures, table
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from av_assets.promotion.bundles import model_bundles
from av_assets.releases import dataset_of
from partitions.releases import releases
from resources.compute import EVALUATE
from resources.lake import Lake
from sensors.conditions import on_new_release


@dg.asset(
    partitions_def=releases,
    deps=[model_bundles, dg.AssetDep("golden_slices", partition_mapping=dg.AllPartitionMapping())],
    automation_condition=on_new_release,
    op_tags=EVALUATE.tags,
    pool=EVALUATE.pool,
    code_version="4",
    kinds={"onnx", "json"},
)
def eval_reports(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 16 of 36: takes model_bundles and golden_slices, gives 2D and 3D metrics per slice and a verdict."""
    started, release = time.time_ns(), context.partition_key
    inputs = {
        "model_bundles": lake.require("model_bundles", release),
        "golden_slices": dataset_of(lake, release),
    }
    policy = EvaluationPolicy.load()
    made_from = lineage(list(inputs.values()), code_version(context), [policy])
    made = produce(lake, "eval_reports", release, made_from, inputs, lambda work: _evaluate(work, policy))
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=eval_reports)
def eval_reports_pass_the_gate(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """Every critical slice meets the evaluation policy."""
    report = _read(lake, lake.require("eval_reports", context.partition_key))
    verdict = report["verdict"]
    return dg.AssetCheckResult(
        passed=verdict["state"] == "pass",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"verdict": dg.MetadataValue.json(verdict)},
    )


def _evaluate(work: Work, policy: EvaluationPolicy) -> str:
    from av_assets.domain.metrics.evaluate import evaluate_bundle

    evaluate_bundle(
        work.checkout("model_bundles"), work.checkout("golden_slices"), policy, work.out, work.watch
    )
    # Latency differs from run to run: it is shown in the catalog, and is no part of the bundle.
    latency = work.out / "latency.json"
    measured = json.loads(latency.read_bytes())
    figures = {k: round(v, 2) if isinstance(v, float) else v for k, v in measured.items()}
    work.facts.update({f"latency/{k}": v for k, v in figures.items() if isinstance(v, int | float)})
    latency.unlink()
    return ""


def _read(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    return json.loads(lake.read_bytes(manifest, "report.json"))


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    report = _read(lake, manifest)
    columns = ("map50", "miou", "ece", "map3d", "nds", "drives", "frames", "objects", "objects3d")
    rows = (
        {"slice": name, **{c: "-" if found[c] is None else str(round(found[c], 3)) for c in columns}}
        for name, found in sorted(report["slices"].items())
    )
    return {
        "verdict": report["verdict"]["state"],
        "slices": table(rows),
        **_cuboid_errors(report["slices"]["all"]),
        "dataset_version": report["dataset_version"],
        **pictures(lake, manifest, *(f.path for f in manifest.matching("*.png"))),
    }


def _cuboid_errors(whole: dict[str, Any]) -> dict[str, Any]:
    """How far off found cuboids are, class by class, as nuScenes measures it; nothing where none was compared."""
    by_class = whole["tp_errors_by_class"]
    rows = [
        {"class": name, **{kind: "-" if off is None else f"{off:.3f}" for kind, off in one.items()}}
        for name, one in (by_class or {}).items()
        if one
    ]
    return {"cuboid_errors": table(rows)} if rows else {}
