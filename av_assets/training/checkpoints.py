"""Workflow 13: a golden dataset becomes a trained network.

Training runs in a process of its own, started through Pipes, so that torch stays out of the code server and the same
asset becomes a Kubernetes job from its hardware word.
"""

import json
import sys
import time
from typing import Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.training import TrainingPolicy
from av_assets.presentation import pictures
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from partitions.releases import release_week, releases
from resources.compute import TRAIN_MULTISENSOR
from resources.environment import environment
from resources.lake import Lake
from sensors.conditions import on_new_release

SEED = 13


@dg.asset(
    partitions_def=releases,
    deps=[dg.AssetDep("golden_slices", partition_mapping=dg.AllPartitionMapping())],
    automation_condition=on_new_release,
    op_tags=TRAIN_MULTISENSOR.tags,
    pool=TRAIN_MULTISENSOR.pool,
    code_version="2",
    kinds={"pytorch", "wandb"},
)
def checkpoints(
    context: dg.AssetExecutionContext, lake: Lake, pipes: dg.PipesSubprocessClient
) -> dg.MaterializeResult:
    """Workflow 13 of 36: takes the release's golden_slices, gives a checkpoint with everything that resume needs."""
    started, release = time.time_ns(), context.partition_key
    golden = lake.require("golden_slices", release_week(release))
    made_from = lineage([golden], code_version(context), [TrainingPolicy.load()])

    def train(work: Work) -> str:
        dataset = work.checkout("golden_slices")
        resume = (
            environment().scratch
            / "training"
            / f"{release}-{made_from.inputs[f'golden_slices/{golden.partition}'][:12]}"
        )
        pipes.run(
            command=[sys.executable, "-m", "av_assets.training.worker"],
            context=context,
            extras={
                "release": release,
                "dataset": str(dataset),
                "out": str(work.out),
                "state": str(resume),
                "tracking": str(environment().home / "wandb"),
                "seed": SEED,
            },
        )
        return ""

    made = produce(lake, "checkpoints", release, made_from, {"golden_slices": golden}, train)
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    epochs = json.loads(lake.read_bytes(manifest, "history.json"))
    return {"history": dg.MetadataValue.json(epochs), **pictures(lake, manifest, "curves.png")}
