"""The loader gives the same from a folder, from a folder lake, and from a bucket through a cache too small for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_shards import COLUMNS, seen, write_shards

from av_assets.domain.errors import EvidenceError
from av_assets.domain.loading.loader import Loader
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.sources import FolderSource, ShardSource
from av_assets.policies.cache import CachePolicy
from resources.lake import Lake, object_key
from resources.shard_cache.cache import ShardCache
from resources.shard_cache.sources import shard_refs, shard_source

POLICY = CachePolicy.load().model_copy(update={"keep_free_gb": 0.0})
SIZES = [4, 3, 5, 4, 4, 4]


def rows(index: SampleIndex, source: ShardSource, **how: Any) -> list[list[Any]]:
    chosen = {"columns": COLUMNS, "batch_size": 5, "seed": 2, "last_batch": "keep", "open_shards": 2} | how
    with Loader(index, source, seen, **chosen) as loader:
        return [[batch[name].tolist() for name in sorted(batch)] for _ in range(2) for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_lakes_give_what_folders_give(lake: Lake, tmp_path: Path, workers: int) -> None:
    write_shards(tmp_path / "made", SIZES)
    manifest = lake.publish("synced_shards", "veh001", tmp_path / "made")
    refs = shard_refs(manifest)
    index = write_shards(tmp_path / "folder", SIZES)  # publishing takes the files away
    # Two shards open in each of two processes, and one that is fetched: less than all of them.
    budget = max(ref.bytes for ref in refs) * 5
    assert budget < sum(ref.bytes for ref in refs)
    cache = ShardCache(tmp_path / "cache", budget, lake.store, POLICY)
    found = rows(index, shard_source(lake, manifest, cache), workers=workers)
    assert found == rows(index, FolderSource(tmp_path / "folder"))
    if lake.uri.startswith("s3"):
        assert cache.stats().counts["misses"] > len(refs), "shards were given up and fetched again"


def test_an_object_that_is_gone_names_shard_and_row(lake: Lake, tmp_path: Path) -> None:
    write_shards(tmp_path / "made", SIZES)
    manifest = lake.publish("synced_shards", "veh001", tmp_path / "made")
    refs = shard_refs(manifest)
    index = write_shards(tmp_path / "folder", SIZES)
    lake.store.delete(object_key(refs[1].sha256))
    source = shard_source(lake, manifest, ShardCache(tmp_path / "cache", 1_000_000, lake.store, POLICY))
    with pytest.raises(EvidenceError) as caught:
        rows(index, source, shuffle=False)
    assert (caught.value.code, caught.value.file) == ("missing_object", "00001.parquet")
    assert caught.value.reason.startswith("row 0: ")
