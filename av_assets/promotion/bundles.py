"""Workflow 15: a checkpoint becomes a file that runs anywhere."""

import json
import time
from typing import Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from partitions.releases import releases
from resources.compute import CPU
from resources.lake import Lake
from sensors.conditions import on_changed_content


@dg.asset(
    partitions_def=releases,
    deps=["checkpoints"],
    automation_condition=on_changed_content,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"onnx"},
)
def model_bundles(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 15 of 36: takes checkpoints, gives an ONNX bundle whose outputs equal the network's."""
    started, release = time.time_ns(), context.partition_key
    checkpoint = lake.require("checkpoints", release)
    made_from = lineage([checkpoint], code_version(context), [])
    made = produce(lake, "model_bundles", release, made_from, {"checkpoints": checkpoint}, _export)
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=model_bundles, blocking=True)
def model_bundles_equal_their_checkpoint(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """ONNX and torch agree on seeded inputs within the policy's tolerance."""
    parity = json.loads(lake.read_bytes(lake.require("model_bundles", context.partition_key), "parity.json"))
    return dg.AssetCheckResult(
        passed=bool(parity["passed"]), metadata={"parity": dg.MetadataValue.json(parity)}
    )


def _export(work: Work) -> str:
    from av_assets.domain.packaging.export import export_bundle

    export_bundle(work.checkout("checkpoints", "checkpoint.pt") / "checkpoint.pt", work.out)
    return ""


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    config = json.loads(lake.read_bytes(manifest, "inference_config.json"))
    return {"inference_config": dg.MetadataValue.json(config)}
