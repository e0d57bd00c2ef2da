"""Workflow 13: a golden dataset becomes a trained network.

Training runs in a process of its own, started through Pipes, so that torch stays out of the code server and the same
asset becomes a pod of its hardware word in the cluster. A worker that vanishes is tried again within the run, and goes
on from the checkpoint that it left in the lake.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg

from av_assets.domain.errors import TransientError
from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.evidence.manifest import MadeFrom, Manifest
from av_assets.policies.training import TrainingPolicy
from av_assets.presentation import pictures, table
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from av_assets.releases import dataset_of
from av_assets.training.keeping import Keeping
from partitions.releases import releases
from resources import segments
from resources.compute import TRAIN_MULTISENSOR
from resources.lake import Lake
from resources.launching import gpus_of, launch, processes_for
from resources.policies import active
from sensors.conditions import on_new_release

SEED = 13
WORKER = "av_assets.training.worker"
COLUMNS = ("epoch", "loss", "heatmap", "box", "drivable", "bev_heatmap", "bev_box", "learning_rate", "val_map50",
           "val_map3d")  # fmt: skip
"""What the catalog shows of an epoch; slices stand in history.json."""


@dg.asset(
    partitions_def=releases,
    deps=[dg.AssetDep("golden_slices", partition_mapping=dg.AllPartitionMapping())],
    automation_condition=on_new_release,
    op_tags=TRAIN_MULTISENSOR.tags,
    pool=TRAIN_MULTISENSOR.pool,
    code_version="4",
    kinds={"pytorch", "wandb"},
)
def checkpoints(
    context: dg.AssetExecutionContext, lake: Lake, pipes: dg.ResourceParam[dg.PipesClient]
) -> dg.MaterializeResult:
    """Workflow 13 of 36: takes the release's golden_slices, gives a checkpoint with everything that resume needs."""
    started, release, policy = time.time_ns(), context.partition_key, active(lake, TrainingPolicy)
    golden = dataset_of(lake, release)
    made_from = lineage([golden], code_version(context), [policy])

    def train(work: Work) -> str:
        spec = worker_spec(lake, "checkpoints", release, golden, made_from, policy, SEED)
        work.facts.update(run_worker(context, pipes, policy, spec, work))
        return ""

    made = produce(lake, "checkpoints", release, made_from, {"golden_slices": golden}, train)
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


def worker_spec(
    lake: Lake,
    asset: str,
    partition: str,
    golden: Manifest,
    made_from: MadeFrom,
    policy: TrainingPolicy,
    seed: int,
) -> dict[str, Any]:
    """What the worker is told; its state lies among the segments of the bundle to be, so other inputs share nothing."""
    place = {"uri": lake.uri, "endpoint": lake.endpoint}
    attempt = sha256_json(made_from.model_dump())[:16]
    return {
        "release": partition,
        "seed": seed,
        "policy": policy.model_dump(mode="json"),
        "dataset": {**place, "bundle": f"{golden.asset}/{golden.partition}", "digest": golden.digest},
        "state": {**place, "key": f"{segments.ROOT}/{asset}/{partition}/training-{attempt}"},
    }


def run_worker(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesClient,
    policy: TrainingPolicy,
    spec: Mapping[str, Any],
    work: Work,
) -> dict[str, float]:
    """Train in a process or pod, collect its outputs in `work.out`; figures that differ from run to run.

    Raises:
        ModelError, DatasetError: training refused what it was given; trying again would give the same answer.
        dagster.RetryRequested: the worker vanished; the next attempt goes on from its checkpoint.
    """
    keeping = Keeping.at(spec["state"])
    processes = processes_for(policy.processes, policy.micro_batches, gpus_of(pipes, TRAIN_MULTISENSOR))
    try:
        with work.watch("train"):
            launch(
                pipes, context, TRAIN_MULTISENSOR, WORKER, [json.dumps(spec)], processes, policy.num_threads
            )
    except TransientError as error:
        if refusal := keeping.refusal():
            raise refusal from error
        context.log.warning(f"the worker vanished: {error}")
        raise dg.RetryRequested(max_retries=policy.max_restarts, seconds_to_wait=1) from error
    facts = keeping.collect(work.out)
    if facts is None:
        raise TransientError("the worker left no results", code="no_results", file=spec["state"]["key"])
    return {f"training/{name}": value for name, value in facts.items()}


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    history = json.loads(lake.read_bytes(manifest, "history.json"))
    shown = [{**row, "epoch": row["epoch"] + 1} for row in history]  # people count from one, as the curves do
    rows = ({c: _text(row[c]) for c in COLUMNS if c in row} for row in shown)
    scores = {c: row[c] for row in history[-1:] for c in ("val_map50", "val_map3d") if row.get(c) is not None}
    return {**scores, "epochs": table(rows), **pictures(lake, manifest, "curves.png")}


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
