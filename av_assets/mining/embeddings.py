"""Workflow 7: what a clip looks like, as a vector."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from av_assets.policies.embeddings import EmbeddingsPolicy
from av_assets.production import Work, each_drive
from partitions.drives import BATCH, drives
from resources.compute import DETECT
from resources.lake import Lake
from sensors.conditions import on_changed_content


@dg.asset(
    partitions_def=drives,
    deps=["synced_shards", "pretrained_models"],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=DETECT.tags,
    pool=DETECT.pool,
    code_version="1",
    kinds={"parquet", "onnx"},
)
def clip_embeddings(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 7 of 36: takes synced_shards, gives one unit vector per clip and camera."""
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


def _embed(policy: EmbeddingsPolicy, work: Work) -> str:
    import pyarrow.parquet as pq

    from av_assets.domain.search.embedding import ClipEmbedder, write_embeddings

    models = work.checkout("pretrained_models", "embedding.onnx")
    embedder = ClipEmbedder(models / "embedding.onnx", policy)
    clips = sorted((work.checkout("synced_shards", "clips/*") / "clips").glob("*.parquet"))
    found = (
        embedder.embed_shard(clip, name)
        for clip in clips
        for name in pq.read_schema(clip).names
        if name.startswith("camera")
    )
    with work.watch("compute"):
        count = write_embeddings((row for row in found if row is not None), work.out / "embeddings.parquet")
    return "" if count else "no camera in this drive: nothing to embed"


def _describe(lake: Lake, manifest: Any) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.read_table(pa.BufferReader(lake.read_bytes(manifest, "embeddings.parquet")))
    models = sorted(set(rows["model_digest"].to_pylist()))
    return {"dagster/row_count": rows.num_rows, "model": ", ".join(m[:12] for m in models) or "none"}
