"""The loader over shards of a bucket: the same batches as from a folder, whatever the network and the cache do."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from toy_shards import COLUMNS, seen, write_shards

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.loading.loader import Loader
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.sources import FolderSource, ShardSource
from av_assets.policies.cache import CachePolicy
from resources.lake import Lake, object_key
from resources.object_patience import Patience
from resources.objects import BucketStore
from resources.shard_cache.cache import ShardCache
from resources.shard_cache.sources import shard_refs, shard_source
from tests.faults.flaky_s3 import FlakyS3, always, flaky_s3, now_and_then
from tests.resources.conftest import BUCKET

SIZES = [5, 1, 9, 4, 4, 6, 2]
SHORT = Patience(
    retries=6, first_pause_s=0.01, longest_pause_s=0.1, keep_trying_s=4.0, connect_s=1.0, silence_s=0.4
)
POLICY = CachePolicy.load().model_copy(update={"keep_free_gb": 0.0, "evict_ahead_share": 0.0})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "shards"
    root.mkdir()
    write_shards(root, SIZES)
    return root


@pytest.fixture
def flaky(s3_endpoint: str) -> Iterator[FlakyS3]:
    with flaky_s3(s3_endpoint, silence_s=20.0) as server:
        yield server


@pytest.fixture
def lake(flaky: FlakyS3, tmp_path: Path) -> Lake:
    prefix = uuid.uuid4().hex
    lake = Lake(uri=f"s3://{BUCKET}/{prefix}", scratch=str(tmp_path / "scratch"), endpoint=flaky.endpoint)
    lake.__dict__["store"] = BucketStore(BUCKET, prefix, flaky.endpoint, SHORT)
    return lake


@pytest.fixture
def manifest(lake: Lake, folder: Path, tmp_path: Path) -> Manifest:
    entries = []
    for path in sorted(p for p in folder.rglob("*.parquet")):
        copy = tmp_path / "copy"
        copy.write_bytes(path.read_bytes())
        entries.append(lake.adopt(copy, path.relative_to(folder).as_posix()))
    return lake.publish("synced_shards", "veh001", links=entries)


@pytest.fixture
def cache(lake: Lake, manifest: Manifest, tmp_path: Path) -> Iterator[ShardCache]:
    """Room for four of the seven shards."""
    budget = 4 * max(entry.bytes for entry in manifest.files)
    with closing(ShardCache(tmp_path / "cache", budget, lake.store, POLICY)) as made:
        yield made


def epochs(source: ShardSource, index: SampleIndex, number: int = 2, **how: Any) -> list[Any]:
    """All values of all batches of some epochs."""
    told = {"columns": COLUMNS, "batch_size": 4, "seed": 3, "transform": seen, "open_shards": 2} | how
    found = []
    with Loader(index, source, last_batch="keep", **told) as loader:
        for _ in range(number):
            found += [{name: tensor.tolist() for name, tensor in batch.items()} for batch in loader]
    return found


def indexed(manifest: Manifest, source: ShardSource) -> SampleIndex:
    return SampleIndex.of_shards(shard_refs(manifest, "*.parquet"), source)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_a_folder(
    lake: Lake, manifest: Manifest, folder: Path, cache: ShardCache, workers: int
) -> None:
    """With less room than the dataset takes, so that shards come and go."""
    local = FolderSource(folder)
    index = indexed(manifest, local)
    source = shard_source(lake, manifest, cache)
    assert index.digest == indexed(manifest, source).digest
    assert epochs(source, index, workers=workers, open_shards=1 + (workers == 0)) == epochs(local, index)
    stats = cache.stats()
    assert stats.counts["evictions"] > 0
    assert stats.bytes <= stats.budget_bytes


def test_failing_network_changes_nothing(
    flaky: FlakyS3, lake: Lake, manifest: Manifest, folder: Path, cache: ShardCache
) -> None:
    local = FolderSource(folder)
    index = indexed(manifest, local)
    flaky.plan = now_and_then(0.3, seed=11, faults=("500", "503", "timeout", "reset", "truncated", "stalled"))
    assert epochs(shard_source(lake, manifest, cache), index) == epochs(local, index)
    assert sum(count for fault, count in flaky.done.items() if fault) >= 3


def test_dead_store_ends_the_epoch_and_it_goes_on_when_the_store_is_back(
    flaky: FlakyS3, lake: Lake, manifest: Manifest, folder: Path, cache: ShardCache
) -> None:
    local = FolderSource(folder)
    index = indexed(manifest, local)
    source = shard_source(lake, manifest, cache)
    expected = epochs(local, index, number=1, mixed_shards=1)
    told: dict[str, Any] = {
        "columns": COLUMNS,
        "batch_size": 4,
        "seed": 3,
        "transform": seen,
        "open_shards": 2,
    }
    found: list[Any] = []
    with Loader(index, source, last_batch="keep", mixed_shards=1, **told) as loader:

        def until_it_breaks() -> None:
            for batch in loader:
                found.append({name: tensor.tolist() for name, tensor in batch.items()})
                flaky.plan = always("503")

        with pytest.raises(TransientError) as caught:
            until_it_breaks()
        assert caught.value.code == "store_failed"
        assert 0 < len(found) < len(expected)
        flaky.plan = lambda *_: None
        found += [{name: tensor.tolist() for name, tensor in batch.items()} for batch in loader]
    assert found == expected


def test_shard_that_the_lake_lost_names_itself_and_is_skipped_by_policy_only(
    lake: Lake, manifest: Manifest, folder: Path, cache: ShardCache
) -> None:
    index = indexed(manifest, FolderSource(folder))
    lost = shard_refs(manifest, "*.parquet")[2]
    lake.store.delete(object_key(lost.sha256))
    source = shard_source(lake, manifest, cache)
    with pytest.raises(EvidenceError) as caught:
        epochs(source, index)
    assert caught.value.code == "missing_object"
    with Loader(
        index, source, seen, columns=COLUMNS, batch_size=4, seed=3, on_bad="skip", open_shards=2
    ) as loader:
        list(loader)
        assert len(loader.skipped) > 0
        assert all(lost.path in name or "missing_object" in why for name, why in loader.skipped.items())
