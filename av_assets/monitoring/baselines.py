"""What new drives are compared with: the features of a frozen dataset, binned once and kept with it."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.manifest import Manifest, bundle_name
from av_assets.policies.drift import DriftPolicy
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from partitions.calendar import weeks
from resources.compute import CPU
from resources.lake import Lake
from sensors.conditions import on_changed_content

if TYPE_CHECKING:
    import pyarrow as pa


@dg.asset(
    partitions_def=weeks,
    deps=["golden_slices"],
    automation_condition=on_changed_content,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"parquet"},
)
def drift_baselines(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Part of workflow 25 of 36: takes golden_slices, gives its features per frame and their fixed bins."""
    started, week = time.time_ns(), context.partition_key
    golden = lake.require("golden_slices", week)
    members = [m["drive"] for m in json.loads(lake.read_bytes(golden, "dataset.json"))["members"]]
    inputs = {"golden_slices": golden} | {d: _embeddings(lake, golden, d) for d in members}
    policy = DriftPolicy.load()
    made = produce(
        lake,
        "drift_baselines",
        week,
        lineage(list(inputs.values()), code_version(context), [policy]),
        inputs,
        lambda work: _measure(work, policy, members),
    )
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


def _embeddings(lake: Lake, golden: Manifest, drive: str) -> Manifest:
    """The embeddings that were there when the dataset was frozen."""
    bundle = bundle_name("clip_embeddings", drive)
    found = lake.past_manifest(bundle, golden.made_from.inputs.get(bundle, ""))
    if found is None:
        raise EvidenceError(
            f"golden_slices/{golden.partition} does not say which embeddings of the drive it looked at",
            code="missing_bundle",
            drive=drive,
            remedy="freeze the dataset again",
        )
    return found


def _measure(work: Work, policy: DriftPolicy, members: list[str]) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.monitoring.baseline import make_baseline

    dataset = work.checkout("golden_slices", "drives/*/clips/*.parquet", "drives/*/labels.parquet")
    features = pa.concat_tables(_features(work, dataset / "drives" / d, policy) for d in members)
    pq.write_table(features.drop_columns(["embedding"]), work.out / "features.parquet")
    (work.out / "reference.json").write_text(json.dumps(make_baseline(features, policy), sort_keys=True))
    return ""


def _features(work: Work, folder: Path, policy: DriftPolicy) -> "pa.Table":
    from av_assets.domain.monitoring.features import drive_features

    vectors = work.checkout(folder.name) / "embeddings.parquet"
    clips = sorted((folder / "clips").glob("*.parquet"))
    return drive_features(clips, policy, folder / "labels.parquet", vectors if vectors.is_file() else None)


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    reference = json.loads(lake.read_bytes(manifest, "reference.json"))
    return {
        "drives": len(reference["drives"]),
        "frames": reference["rows"],
        "features": ", ".join(sorted(reference["features"])),
    }
