"""Workflow 9: labels that a machine proposes, each with its provenance."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from av_assets.policies.autolabels import AutolabelPolicy
from av_assets.production import Work, each_drive
from partitions.drives import BATCH, drives
from resources.compute import CPU
from resources.lake import Lake
from sensors.conditions import on_changed_content


@dg.asset(
    partitions_def=drives,
    deps=["synced_shards"],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"parquet"},
)
def auto_labels(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 9 of 36: takes synced_shards, gives boxes and drivable area proposed from the lidar."""
    policy = AutolabelPolicy.load()
    yield from each_drive(
        context,
        lake,
        ["synced_shards"],
        [policy],
        partial(_label, policy),
        _describe,
        guarded=["synced_shards"],
    )


def _label(policy: AutolabelPolicy, work: Work) -> str:
    from av_assets.domain.labels.autolabel import auto_label_drive

    shards = work.checkout("synced_shards")
    summary = auto_label_drive(
        sorted((shards / "clips").glob("*.parquet")),
        json.loads((shards / "calibration.json").read_bytes()),
        policy,
        work.out,
        work.watch,
    )
    return summary.reason


def _describe(lake: Lake, manifest: Any) -> dict[str, Any]:
    report = json.loads(lake.read_bytes(manifest, "report.json"))
    return {k: v for k, v in report.items() if isinstance(v, int | float | str)} | {
        "report": dg.MetadataValue.json(report)
    }
