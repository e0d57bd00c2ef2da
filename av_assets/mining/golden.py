"""Workflow 11: datasets that never change once named."""

import json
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.datasets.members import MemberInfo
from av_assets.domain.evidence.manifest import Manifest
from av_assets.mining.embeddings import clip_embeddings
from av_assets.mining.labels import verified_labels
from av_assets.policies.drift import DriftPolicy
from av_assets.policies.golden import GoldenPolicy
from av_assets.presentation import table
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from partitions.calendar import weeks
from resources.compute import CPU
from resources.lake import Lake
from sensors.conditions import every_monday

if TYPE_CHECKING:
    import pyarrow as pa

_ALL_DRIVES = dg.AllPartitionMapping()


@dg.asset(
    partitions_def=weeks,
    deps=[
        dg.AssetDep(verified_labels, partition_mapping=_ALL_DRIVES),
        dg.AssetDep(clip_embeddings, partition_mapping=_ALL_DRIVES),
        dg.AssetDep("synced_shards", partition_mapping=_ALL_DRIVES),
        dg.AssetDep("drive_catalog", partition_mapping=_ALL_DRIVES),
    ],
    automation_condition=every_monday,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"parquet"},
)
def golden_slices(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 11 of 36: takes all verified drives up to the week's end, gives one frozen, split, sliced dataset."""
    started, week = time.time_ns(), context.partition_key
    policy = GoldenPolicy.load()
    members = _verified_drives(lake, week)
    read = ("synced_shards", "verified_labels", "clip_embeddings", "drive_catalog")
    inputs = {f"{asset}/{d}": lake.require(asset, d) for d in members for asset in read}
    made_from = lineage(list(inputs.values()), code_version(context), [policy])
    made = produce(
        lake, "golden_slices", week, made_from, inputs, lambda work: _freeze(lake, policy, work, members)
    )
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=golden_slices)
def golden_slices_leak_nothing(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """No drive, and no clip that looks the same, stands on both sides of a split."""
    leaks = json.loads(lake.read_bytes(lake.require("golden_slices", context.partition_key), "leaks.json"))
    return dg.AssetCheckResult(
        passed=not leaks,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"leaks": dg.MetadataValue.json(leaks)},
    )


def _verified_drives(lake: Lake, week: str) -> list[str]:
    """Drives with verified labels that started before the week ended."""
    end_ns = int((datetime.fromisoformat(week).replace(tzinfo=UTC) + timedelta(days=7)).timestamp()) * 10**9
    catalog = lake.tables.read("drives", [("start_ns", "<", end_ns)])
    known = set(catalog["drive"].to_pylist()) if catalog is not None else set()
    return [
        d
        for d in lake.partitions("verified_labels")
        if d in known and lake.require("verified_labels", d).files
    ]


def _freeze(lake: Lake, policy: GoldenPolicy, work: Work, drives_in: list[str]) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from av_assets.domain.datasets.golden import plan_golden, write_dataset_json
    from av_assets.domain.datasets.leakage import near_duplicates
    from av_assets.domain.monitoring.baseline import make_baseline

    plan = plan_golden([_member(lake, work, drive) for drive in drives_in], work.partition, policy)
    write_dataset_json(plan, work.out)
    vectors, features = {}, []
    for member in plan.members:
        embeddings = _lay_out(work, member.drive)
        vectors[member.drive] = pq.read_table(embeddings)
        features.append(_features(work.out / "drives" / member.drive, embeddings))
    leaks = near_duplicates(vectors, plan.splits, policy.near_duplicate_cosine, policy.max_leaks_listed)
    _write_json(work.out / "leaks.json", [asdict(leak) for leak in leaks])
    _write_json(work.out / "reference.json", make_baseline(pa.concat_tables(features), DriftPolicy.load()))
    return ""


def _lay_out(work: Work, drive: str) -> Path:
    """Put the drive's frozen files under the dataset; returns its embeddings, which stay outside."""
    folder = work.out / "drives" / drive
    work.lake.checkout(work.inputs[f"synced_shards/{drive}"], folder, "clips/*", "calibration.json")
    work.lake.checkout(work.inputs[f"verified_labels/{drive}"], folder, "*.parquet")
    vectors = work.lake.checkout(work.inputs[f"clip_embeddings/{drive}"], work.folder / "vectors" / drive)
    return vectors / "embeddings.parquet"


def _features(folder: Path, embeddings: Path) -> "pa.Table":
    from av_assets.domain.monitoring.features import drive_features

    clips = sorted((folder / "clips").glob("*.parquet"))
    return drive_features(clips, DriftPolicy.load(), folder / "labels.parquet", embeddings)


def _member(lake: Lake, work: Work, drive: str) -> MemberInfo:
    """What the plan needs to know: labelled frames, objects per class, and the catalog's tags."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def table(asset: str, path: str) -> "pa.Table":
        return pq.read_table(pa.BufferReader(lake.read_bytes(work.inputs[f"{asset}/{drive}"], path)))

    row = table("drive_catalog", "drives.parquet").to_pylist()[0]
    return MemberInfo(
        drive,
        frames=len(set(table("verified_labels", "drivable.parquet")["ref_ns"].to_pylist())),
        objects=dict(Counter(table("verified_labels", "labels.parquet")["cls"].to_pylist())),
        tags={tag: str(row[tag]) for tag in ("light", "weather", "zone") if row.get(tag)},
        synced_shards=work.inputs[f"synced_shards/{drive}"].content,
        verified_labels=work.inputs[f"verified_labels/{drive}"].content,
    )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, sort_keys=True), "utf-8")


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    dataset = json.loads(lake.read_bytes(manifest, "dataset.json"))
    rows = [
        {
            "drive": m["drive"],
            "split": m["split"],
            "frames": m["frames"],
            **{k: str(v) for k, v in m["tags"].items()},
        }
        for m in dataset["members"]
    ]
    return {
        "version": dataset["version"],
        "drives": len(rows),
        "members": table({**_NO_TAGS, **row} for row in rows),
        "slices": dg.MetadataValue.json(dataset["slices"]),
        "counts": dg.MetadataValue.json(dataset["counts"]),
    }


_NO_TAGS = {"light": "", "weather": "", "zone": ""}
