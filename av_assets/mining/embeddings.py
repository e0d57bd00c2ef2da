"""Workflow 7: what a clip looks like, as a vector, and the index that finds clips by look, words and facts."""

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from av_assets.domain.evidence.manifest import Manifest
from av_assets.mining.indexing import READ, contents_of, maintain, rows_of, update
from av_assets.policies.embeddings import EmbeddingsPolicy
from av_assets.policies.index import IndexPolicy
from av_assets.presentation import pictures, table
from av_assets.production import ALL, Work, bundle_metadata, code_version, each_drive, lineage, produce
from partitions.drives import BATCH, drives
from resources.compute import CPU, DETECT
from resources.lake import Lake
from sensors.conditions import every_night, on_changed_content, on_changed_members

_ALL_DRIVES = dg.AllPartitionMapping()


@dg.asset(
    partitions_def=drives,
    deps=["synced_shards", "pretrained_models"],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=DETECT.tags,
    pool=DETECT.pool,
    code_version="2",
    kinds={"parquet", "onnx"},
)
def clip_embeddings(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 7 of 36: takes synced_shards, gives one unit vector per clip and camera, and hashes of the frames
    that it was made from."""
    policy = EmbeddingsPolicy.load()
    yield from each_drive(
        context,
        lake,
        ["synced_shards"],
        [policy],
        partial(_embed, policy),
        _describe,
        shared=["pretrained_models"],
        guarded=["synced_shards"],
    )


@dg.asset(
    deps=[dg.AssetDep(name, partition_mapping=_ALL_DRIVES) for name in (*READ, "synced_shards")],
    automation_condition=on_changed_members,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"lancedb"},
)
def similarity_index(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 7 of 36: takes the vectors, scenes and facts of all clips, gives one index to search them by.

    Only drives whose content changed are written again. The pictures show redacted keyframes of synced_shards.
    """
    from resources.vector_pointer import pointer
    from resources.vectors import vectors

    started, policy = time.time_ns(), IndexPolicy.load()
    wanted = {d: found for d in lake.partitions("clip_embeddings") if (found := contents_of(lake, d))}
    rows: dict[str, Any] = {"members": [[drive, *digests.values()] for drive, digests in wanted.items()]}
    points_to = pointer(lake)
    if points_to and vectors(lake).open(points_to.table, points_to.version) is None:
        rows["lost"] = [str(points_to)]  # made again, although nothing it was made from has changed
    made_from = lineage([], code_version(context), [policy], rows)
    make = partial(update, policy, wanted)
    made = produce(lake, "similarity_index", ALL, made_from, {}, make, rows=rows, run_id=context.run.run_id)
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe_index(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=similarity_index)
def similarity_index_finds_what_is_near(lake: Lake) -> dg.AssetCheckResult:
    """What readers are given finds the nearest clips that comparing with every clip finds."""
    report = _report(lake, "similarity_index")
    recall, least = report["served_recall"], IndexPolicy.load().min_recall
    return dg.AssetCheckResult(
        passed=recall is None or recall >= least,
        metadata={"recall": str(recall), "least": least, "index_recall": str(report["recall"]),
                  "search": "exact" if report["exact"] else "index", "queries": report["queries"]},
    )  # fmt: skip


@dg.asset_check(asset=similarity_index)
def similarity_index_holds_every_clip(lake: Lake) -> dg.AssetCheckResult:
    """The index holds as many rows as the bundles it was made from, counted anew, and sampled rows find themselves."""
    from resources.vector_pointer import pointer, served

    report = _report(lake, "similarity_index")
    members = json.loads(lake.read_bytes(lake.require("similarity_index", ALL), "members.json"))
    wanted = sum(member["rows"] for member in members.values())
    held = served(lake).count() if pointer(lake) else 0
    return dg.AssetCheckResult(
        passed=held == wanted
        and report["found_themselves"] == report["queries"]
        and not report["other_model"],
        metadata={
            "rows": held,
            "rows_of_bundles": wanted,
            "drives_of_another_model": len(report["other_model"]),
        },
    )


@dg.asset(
    deps=[similarity_index],
    automation_condition=every_night,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"lancedb"},
)
def index_maintenance(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 7 of 36: takes similarity_index, gives the same rows in few files, all in the indexes, counted anew."""
    started, policy = time.time_ns(), IndexPolicy.load()
    index = lake.require("similarity_index", ALL)
    made_from = lineage([index], code_version(context), [policy])
    make = partial(maintain, policy)
    made = produce(lake, "index_maintenance", ALL, made_from, {"similarity_index": index}, make)
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe_maintenance(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=index_maintenance)
def index_maintenance_loses_nothing(lake: Lake) -> dg.AssetCheckResult:
    """After maintenance every row is still there and is found by its own vector."""
    report = _report(lake, "index_maintenance")
    before, after = report["before"], report["after"]
    same = before.get("rows") == after.get("rows")
    return dg.AssetCheckResult(
        passed=same and after.get("found_themselves") == after.get("queries"),
        metadata={"before": dg.MetadataValue.json(before), "after": dg.MetadataValue.json(after)},
    )


def _embed(policy: EmbeddingsPolicy, work: Work) -> str:
    import pyarrow.parquet as pq

    from av_assets.domain.search.embedding import ClipEmbedder, write_embeddings
    from av_assets.domain.search.keyframe_hashes import HASHES_FILE, hash_rows, write_hashes

    models = work.checkout("pretrained_models", "embedding*")
    embedder = ClipEmbedder(models / "embedding.onnx", policy)
    clips = sorted((work.checkout("synced_shards", "clips/*") / "clips").glob("*.parquet"))
    rows, hashes, shards = [], [], work.inputs["synced_shards"]
    with work.watch("compute"):
        for clip in clips:
            sha256 = shards.entry(f"clips/{clip.name}").sha256
            for name in pq.read_schema(clip).names:
                row = embedder.embed_shard(clip, name) if name.startswith("camera") else None
                if row is not None:
                    rows.append(row)
                    hashes += hash_rows(row.clip_id, row.camera, sha256, policy.keyframes, row.hashes)
        write_embeddings(rows, work.out / "embeddings.parquet", embedder.dimension)
        write_hashes(hashes, work.out / HASHES_FILE)
    return "" if rows else "no camera in this drive: nothing to embed"


def _describe(lake: Lake, manifest: Any) -> dict[str, Any]:
    rows = rows_of(lake, manifest, "embeddings")
    models = sorted(set(rows["model_digest"].to_pylist()))
    return {"dagster/row_count": rows.num_rows, "model": ", ".join(m[:12] for m in models) or "none"}


def _report(lake: Lake, asset: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lake.read_bytes(lake.require(asset, ALL), "report.json"))
    return found


def _describe_index(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    report = _report(lake, "similarity_index")
    return {
        "dagster/row_count": report["rows"],
        "report": dg.MetadataValue.json({k: v for k, v in report.items() if k != "sheet"}),
        **pictures(lake, manifest, "neighbours.png", "projection.png"),
    }


def _describe_maintenance(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    report = _report(lake, "index_maintenance")
    before, after = report["before"], report["after"]
    rows = ({"figure": k, "before": str(before.get(k, "")), "after": str(after[k])} for k in after)
    return {"dagster/row_count": after.get("rows", 0), "maintained": table(rows)}
