"""Shards of lakes as local files, and `av cache`, on a folder and on a bucket."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from av_assets.cli.cache import cache as command
from av_assets.domain.errors import AvError, DatasetError, EvidenceError
from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.loading.sources import ShardRef
from av_assets.policies.cache import CachePolicy
from resources.lake import Lake, object_key
from resources.shard_cache.cache import ShardCache
from resources.shard_cache.sources import CachedShards, LakeFolder, shard_refs, shard_source
from tests.resources.conftest import BUCKET

POLICY = CachePolicy.load().model_copy(update={"keep_free_gb": 0.0})
CONTENT = {f"clips/{number}.parquet": random.Random(number).randbytes(5000 + number) for number in range(4)}


def publish(lake: Lake, folder: Path) -> Manifest:
    for path, data in CONTENT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return lake.publish("synced_shards", "veh001", folder)


@pytest.fixture
def manifest(lake: Lake, tmp_path: Path) -> Manifest:
    return publish(lake, tmp_path / "made")


@pytest.fixture
def cache(lake: Lake, tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache", 1_000_000, lake.store, POLICY)


def test_every_shard_of_a_bundle(lake: Lake, manifest: Manifest, cache: ShardCache) -> None:
    source = shard_source(lake, manifest, cache)
    for ref in shard_refs(manifest, "clips/*"):
        with source.local(ref) as path:
            assert path.read_bytes() == CONTENT[ref.path]
        with source.local(ShardRef("", 0, ref.path)) as path:  # an index without digests
            assert path.read_bytes() == CONTENT[ref.path]
    in_bucket = lake.uri.startswith("s3")
    assert cache.stats().counts["misses"] == (4 if in_bucket else 0), "a folder's objects are not copied"


def test_what_is_not_of_the_bundle_is_refused(lake: Lake, manifest: Manifest, cache: ShardCache) -> None:
    source = shard_source(lake, manifest, cache)
    for ref, code in (
        (ShardRef("", 0, "../secret"), "foreign_shard"),
        (ShardRef("0" * 64, 1, "clips/0.parquet"), "shard_changed"),
    ):
        with pytest.raises(DatasetError) as caught, source.local(ref):
            pass
        assert caught.value.code == code


def test_missing_object_is_evidence(lake: Lake, manifest: Manifest, cache: ShardCache) -> None:
    ref = shard_refs(manifest)[0]
    lake.store.delete(object_key(ref.sha256))
    with pytest.raises(EvidenceError) as caught, shard_source(lake, manifest, cache).local(ref):
        pass
    assert caught.value.code == "missing_object"


def test_object_of_a_folder_that_was_cut_is_evidence(folder_lake: Lake, tmp_path: Path) -> None:
    ref = shard_refs(publish(folder_lake, tmp_path / "made"))[0]
    source = LakeFolder(tmp_path / "lake")
    path = tmp_path / "lake" / object_key(ref.sha256)
    path.chmod(0o600)
    path.write_bytes(b"cut")
    with pytest.raises(EvidenceError) as caught, source.local(ref):
        pass
    assert caught.value.code == "damaged_object"


_WORKER = """
import pickle, sys
source, refs = pickle.load(sys.stdin.buffer)
total = 0
for ref in refs:
    with source.local(ref) as path:
        total += len(path.read_bytes())
print(total, "dagster" in sys.modules, "torch" in sys.modules)
"""


def test_worker_process_opens_the_same_cache(lake: Lake, manifest: Manifest, cache: ShardCache) -> None:
    """And needs neither Dagster nor torch for it."""
    source = shard_source(lake, manifest, cache)
    refs = shard_refs(manifest)
    for ref in refs:
        with source.local(ref):
            pass
    told = pickle.dumps((source, refs))
    done = subprocess.run([sys.executable, "-c", _WORKER], input=told, capture_output=True, check=True)
    assert done.stdout.split() == [str(sum(map(len, CONTENT.values()))).encode(), b"False", b"False"]
    if isinstance(source.source, CachedShards):  # type: ignore[attr-defined]
        assert cache.stats().counts["hits"] == 4, "the other process found all of them"


class TestCommands:
    @pytest.fixture
    def lake(self, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
        uri = f"s3://{BUCKET}/{uuid.uuid4().hex}"
        monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
        monkeypatch.setenv("AV_LAKE", uri)
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
        return Lake(uri=uri, scratch=str(tmp_path / "scratch"), endpoint=s3_endpoint)

    def av(self, *arguments: str, code: int = 0, text: str | None = None) -> Any:
        done = CliRunner().invoke(command, [*arguments, "--json"], input=text, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    def test_fill_look_pin_and_evict(self, lake: Lake, manifest: Manifest) -> None:
        filled = self.av("preload", "synced_shards/veh001", "--match", "clips/[0-2].parquet", "--pin")
        assert (filled["files"], filled["bytes"], filled["pinned"]) == (3, 15_003, True)
        assert self.av("status")["pinned_files"] == 3
        first, *others = [ref.sha256 for ref in shard_refs(manifest, "clips/[0-2].parquet")]
        assert len(self.av("evict", "synced_shards/veh001")["pinned"]) == 3
        self.av("unpin", first)
        took = self.av("evict", "--list", "-", text=f"{first}  clips/0.parquet\n{others[0]}\n\n")
        assert (took["evicted"], took["pinned"]) == ([first], [others[0]])
        assert len(self.av("evict", "--all", "--pinned-too")["evicted"]) == 2
        assert self.av("status")["files"] == 0

    def test_verify_removes_what_is_bad_and_what_the_lake_lost(
        self, lake: Lake, manifest: Manifest, tmp_path: Path
    ) -> None:
        self.av("preload", "synced_shards/veh001")
        bad, lost, *_ = [ref.sha256 for ref in shard_refs(manifest)]
        cached = tmp_path / "home" / "cache" / "shards" / object_key(bad)
        cached.chmod(0o600)
        cached.write_bytes(b"bad")
        lake.store.delete(object_key(lost))
        found = self.av("verify", "--lake", code=1)
        assert (found["files"], found["bad"], found["not_in_lake"]) == (4, [bad], [lost])
        assert self.av("verify")["files"] == 2

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("preload", "synced_shards/veh999"), "missing_bundle"),
            (("preload", "synced_shards/veh001", "--match", "*.png"), "nothing_matches"),
            (("preload", "no such dataset"), "bad_dataset_name"),
        ],
    )
    def test_mistakes_are_named(
        self, lake: Lake, manifest: Manifest, arguments: tuple[str, ...], code: str
    ) -> None:
        with pytest.raises(AvError) as caught:
            CliRunner().invoke(command, list(arguments), catch_exceptions=False)
        assert caught.value.code == code

    def test_list_of_something_else_is_refused(self, lake: Lake, tmp_path: Path) -> None:
        (tmp_path / "list").write_text("0" * 64 + "\nnot a digest\n")
        with pytest.raises(AvError) as caught:
            CliRunner().invoke(command, ["evict", "--list", str(tmp_path / "list")], catch_exceptions=False)
        assert (caught.value.code, caught.value.file) == ("bad_digest", str(tmp_path / "list"))

    def test_people_and_prometheus_can_read_it(self, lake: Lake, manifest: Manifest) -> None:
        done = CliRunner().invoke(command, ["preload", "synced_shards/veh001"], catch_exceptions=False)
        assert "4 files, 0.0 MB here" in done.output
        assert "4 fetched" in CliRunner().invoke(command, ["status"]).output
        assert "av_cache_misses_total 4.0" in CliRunner().invoke(command, ["status", "--prometheus"]).output
