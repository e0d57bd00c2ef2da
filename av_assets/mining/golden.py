"""Workflow 11: datasets that never change once named."""

import json
import time
from collections import Counter
from typing import Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.mining.embeddings import clip_embeddings
from av_assets.mining.freezing import INDEX_FILE, LEAKS_FILE, freeze, verified_drives
from av_assets.mining.gathering import inputs_of, read
from av_assets.mining.labels import verified_labels
from av_assets.policies.golden import GoldenPolicy
from av_assets.presentation import picture, table
from av_assets.production import bundle_metadata, code_version, lineage, produce
from partitions.calendar import weeks
from resources.compute import CPU
from resources.datasets import GOLDEN, record
from resources.lake import Lake
from sensors.conditions import every_monday

_ALL_DRIVES = dg.AllPartitionMapping()
_SPLITS = ("train", "val", "test")
_NO_TAGS = {"light": "", "weather": "", "zone": ""}


@dg.asset(
    partitions_def=weeks,
    deps=[
        dg.AssetDep(verified_labels, partition_mapping=_ALL_DRIVES),
        dg.AssetDep(clip_embeddings, partition_mapping=_ALL_DRIVES),
        dg.AssetDep("synced_shards", partition_mapping=_ALL_DRIVES),
        dg.AssetDep("drive_catalog", partition_mapping=_ALL_DRIVES),
        dg.AssetDep("enriched_clips", partition_mapping=_ALL_DRIVES),
        dg.AssetDep("scenes", partition_mapping=_ALL_DRIVES),
    ],
    automation_condition=every_monday,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="4",
    kinds={"parquet"},
)
def golden_slices(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 11 of 36: takes all verified drives up to the week's end, gives one frozen, split, sliced dataset.

    It is frozen by reference and recorded as a version of the dataset `golden`; a split that leaks is refused.
    """
    started, week = time.time_ns(), context.partition_key
    policy = GoldenPolicy.load()
    inputs = inputs_of(lake, verified_drives(lake, week))
    made_from = lineage(list(inputs.values()), code_version(context), [policy])
    made = produce(
        lake,
        "golden_slices",
        week,
        made_from,
        inputs,
        lambda work: freeze(work, policy),
        run_id=context.run.run_id,
    )
    record(lake, GOLDEN, made.manifest)
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=golden_slices, blocking=True)
def golden_slices_leak_nothing(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """No drive, no file and no frame is frozen in two splits, and every leak of a kind that is not only told is out."""
    golden = lake.require("golden_slices", context.partition_key)
    leaks = json.loads(lake.read_bytes(golden, LEAKS_FILE))
    index = read(lake, golden, INDEX_FILE)
    frozen = {row["clip_id"] for row in index.select(["clip_id"]).to_pylist()} if index is not None else set()
    twice = in_two_splits(index)
    left = [
        leak
        for found in leaks["kinds"].values()
        for leak in found["first"]
        if found["action"] != "warn" and leak["a"] in frozen
    ]
    return dg.AssetCheckResult(
        passed=not twice and not left,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "in_two_splits": dg.MetadataValue.json(twice),
            "left": dg.MetadataValue.json(left),
            "dropped": len(leaks["dropped"]),
            "found": table(
                {"kind": kind, "action": f["action"], "pairs": f["pairs"], "items": f["items"]}
                for kind, f in leaks["kinds"].items()
            ),
        },
    )


def in_two_splits(index: Any) -> dict[str, list[str]]:
    """Drives, files and moments that the index names in more than one split; counted anew, whatever the plan says."""
    import pyarrow.compute as pc

    found = {}
    for name in ("drive", "shard_sha256", "clip_id"):
        rows = index.group_by([name]).aggregate([("split", "count_distinct")])
        several = rows.filter(pc.greater(rows["split_count_distinct"], 1))
        if several.num_rows:
            found[name] = sorted(several[name].to_pylist())[:50]
    return found


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    from av_assets.domain.datasets.pictures import slice_counts_png, splits_png

    dataset = json.loads(lake.read_bytes(manifest, "dataset.json"))
    rows = [
        {"drive": m["drive"], "split": m["split"], "frames": m["frames"], **_NO_TAGS}
        | {k: str(v) for k, v in m["tags"].items()}
        for m in dataset["members"]
    ]
    counts, thin = dataset["slice_counts"], dataset["thin_slices"]
    shown = {name: {**c["test"], "thin": thin.get(name, "")} for name, c in counts.items()}
    classes: Counter[str] = Counter()
    for split in dataset["counts"].values():
        classes.update(split["objects"])
    return {
        "version": manifest.content,
        "digest of spec and members": dataset["version"],
        "drives": len(rows),
        "frames": sum(c["frames"] for c in dataset["counts"].values()),
        "members": table(rows),
        "left out": table({"drive": drive, "why": why} for drive, why in dataset["left_out"].items()),
        "slices of the test split": table(
            {
                "slice": name,
                "drives": c["drives"],
                "frames": c["frames"],
                "objects": c["objects"],
                "too small": c["thin"],
            }
            for name, c in shown.items()
        ),
        "objects by class": table(
            {
                "class": cls,
                "boxes": count,
                **{s: dataset["counts"][s]["objects"].get(cls, 0) for s in _SPLITS if s in dataset["counts"]},
            }
            for cls, count in sorted(classes.items())
        ),
        "slice_counts": picture(slice_counts_png(shown, "slices of the test split")),
        "splits": picture(splits_png(dataset["counts"])),
    }
