"""Workflow 11, afterwards: frozen datasets as a few tar files in a DVC remote, known to W&B by reference."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.archives import ArchivesPolicy
from av_assets.presentation import table
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from partitions.calendar import weeks
from resources.compute import CPU
from resources.datasets import GOLDEN, versions
from resources.dvc import POINTER, Archives
from resources.lake import Lake
from resources.tracking import Reference, Tracking
from sensors.conditions import on_changed_content

if TYPE_CHECKING:
    from av_assets.domain.datasets.archive import Shard


@dg.asset(
    partitions_def=weeks,
    deps=["golden_slices"],
    automation_condition=on_changed_content,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"dvc", "wandb"},
)
def dataset_archives(
    context: dg.AssetExecutionContext, lake: Lake, archives: Archives, tracking: Tracking
) -> dg.MaterializeResult:
    """Workflow 11 of 36: takes golden_slices, gives DVC pointers to its tar shards and a W&B artifact by reference."""
    started, week = time.time_ns(), context.partition_key
    policy, golden = ArchivesPolicy.load(), lake.require("golden_slices", week)
    tags = {"dataset_tags": [{"tag": tag} for tag in _tags(lake, golden)]}
    made_from = lineage([golden], code_version(context), [policy], tags)
    made = produce(
        lake,
        "dataset_archives",
        week,
        made_from,
        {"golden_slices": golden},
        lambda work: _archive(work, policy, archives, tracking),
        rows=tags,
        run_id=context.run.run_id,
    )
    if made.reused:
        _restore(lake, golden, made.manifest, policy, archives)
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=dataset_archives)
def archives_can_be_pulled_back(
    context: dg.AssetCheckExecutionContext, lake: Lake, archives: Archives
) -> dg.AssetCheckResult:
    """A shard that DVC pulls into an empty folder has the digest that it was written with."""
    from av_assets.domain.datasets.archive import pulled_back

    manifest = lake.require("dataset_archives", context.partition_key)
    shards = json.loads(lake.read_bytes(manifest, "archive.json"))["shards"]
    # The smallest shards: what is asked is whether the remote answers, not how fast it is.
    chosen = sorted(shards, key=lambda s: s["bytes"])[: ArchivesPolicy.load().pulled_back]
    names = [f"{shard['name']}{POINTER}" for shard in chosen]
    with lake.workdir() as folder:
        archives.pull({name: lake.read_bytes(manifest, name) for name in names}, folder)
        differing = [shard["name"] for shard in chosen if not pulled_back(shard, folder)]
    return dg.AssetCheckResult(
        passed=not differing,
        metadata={"pulled": [s["name"] for s in chosen], "differing": differing},
    )


def _tags(lake: Lake, golden: Manifest) -> list[str]:
    """Semantic versions of this very content, where it was recorded and tagged."""
    return sorted({tag for v in versions(lake, GOLDEN) if v.version == golden.content for tag in v.tags})


def _archive(work: Work, policy: ArchivesPolicy, archives: Archives, tracking: Tracking) -> str:
    from av_assets.domain.datasets.archive import archive_json

    golden = work.inputs["golden_slices"]
    with work.watch("pack"):
        shards = _pack(work.lake, golden, policy, work.folder / "shards")
    with work.watch("push"):
        pointers = _push(archives, golden, shards, work.folder / "shards")
    for name, data in pointers.items():
        (work.out / name).write_bytes(data)
    described = archive_json(GOLDEN, golden.content, work.partition, shards)
    _write_json(work.out / "archive.json", described)
    with work.watch("wandb"):
        artifact = tracking.publish_dataset(
            GOLDEN,
            [Reference(s.name, archives.uri(s.md5), s.bytes, s.md5) for s in shards],
            [work.partition, *(f"v{row['tag']}" for row in work.rows["dataset_tags"])],
            {"version": golden.content, "week": work.partition, "counts": _counts(work)}
            | {"files": described["files"], "bytes": described["bytes"]},
        )
    _write_json(work.out / "wandb.json", artifact)
    return ""


def _pack(lake: Lake, golden: Manifest, policy: ArchivesPolicy, out: Path) -> "list[Shard]":
    """The shards in `out`; of a bucket lake only one shard's files are on the disk meanwhile."""
    from av_assets.domain.datasets.archive import plan_shards, write_shard

    out.mkdir()
    shards = []
    for plan in plan_shards(f"{GOLDEN}-{golden.content[:12]}", golden.files, policy.shard_bytes):
        with lake.workdir() as laid_out:
            part = golden.model_copy(update={"files": plan.files})
            shards.append(write_shard(plan, lake.checkout(part, laid_out), out))
    return shards


def _push(archives: Archives, golden: Manifest, shards: "list[Shard]", folder: Path) -> dict[str, bytes]:
    paths = [folder / shard.name for shard in shards]
    return archives.push(GOLDEN, golden.content, paths, [shard.md5 for shard in shards])


def _restore(
    lake: Lake, golden: Manifest, made: Manifest, policy: ArchivesPolicy, archives: Archives
) -> None:
    """The bundle is still true, but the remote may have lost what it points to: the same bytes are pushed again."""
    held = json.loads(lake.read_bytes(made, "archive.json"))["shards"]
    if not archives.holds(shard["md5"] for shard in held):
        with lake.workdir() as folder:
            _push(archives, golden, _pack(lake, golden, policy, folder / "shards"), folder / "shards")


def _counts(work: Work) -> Any:
    dataset = json.loads(work.lake.read_bytes(work.inputs["golden_slices"], "dataset.json"))
    return dataset["counts"]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", "utf-8")


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    archive = json.loads(lake.read_bytes(manifest, "archive.json"))
    artifact = json.loads(lake.read_bytes(manifest, "wandb.json"))
    rows = [
        {"shard": s["name"], "files": len(s["members"]), "bytes": s["bytes"], "sha256": s["sha256"]}
        for s in archive["shards"]
    ]
    return {
        "dataset version": archive["version"],
        "archived files": archive["files"],
        "archived megabytes": round(archive["bytes"] / 1e6, 1),
        "tar shards": table(rows),
        "W&B artifact": artifact["artifact"],
        "W&B digest": artifact["digest"],
        "W&B aliases": ", ".join(artifact["aliases"]),
    }
