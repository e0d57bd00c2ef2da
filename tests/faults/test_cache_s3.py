"""Lakes and caches on an S3 that fails: timeouts, 500, SlowDown, resets, slow, torn and changed bodies."""

from __future__ import annotations

import hashlib
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.policies.cache import CachePolicy
from resources.lake import Lake, object_key
from resources.object_patience import Patience
from resources.objects import BucketStore
from resources.shard_cache.cache import ShardCache
from tests.faults.flaky_s3 import FAULTS, FlakyS3, always, flaky_s3, now_and_then
from tests.resources.conftest import BUCKET

SHORT = Patience(
    retries=6, first_pause_s=0.01, longest_pause_s=0.1, keep_trying_s=4.0, connect_s=1.0, silence_s=0.4
)
BOUND_S = SHORT.keep_trying_s + SHORT.silence_s + 1.0
SIZE = 300_000
POLICY = CachePolicy.load().model_copy(update={"keep_free_gb": 0.0})


@pytest.fixture
def flaky(s3_endpoint: str) -> Iterator[FlakyS3]:
    with flaky_s3(s3_endpoint, silence_s=20.0) as server:
        yield server


@pytest.fixture
def store(flaky: FlakyS3) -> BucketStore:
    return BucketStore(BUCKET, uuid.uuid4().hex, flaky.endpoint, SHORT)


@pytest.fixture
def cache(store: BucketStore, tmp_path: Path) -> Iterator[ShardCache]:
    with closing(ShardCache(tmp_path / "cache", 100 * SIZE, store, POLICY)) as made:
        yield made


def put(store: BucketStore, number: int) -> str:
    data = random.Random(number).randbytes(SIZE)
    sha256 = hashlib.sha256(data).hexdigest()
    store.put(object_key(sha256), data)
    return sha256


def assert_whole(cache: ShardCache, sha256: str) -> None:
    with cache.local(sha256, SIZE) as path:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def left_over(cache: ShardCache) -> list[Path]:
    return [p for part in ("incoming", "flights") for p in (cache.folder / part).iterdir()]


@pytest.mark.parametrize("fault", [*FAULTS, "flipped"])
def test_fault_is_survived(flaky: FlakyS3, store: BucketStore, cache: ShardCache, fault: str) -> None:
    sha256, hit = put(store, 1), threading.Event()

    def first_only(method: str, path: str, number: int) -> str | None:
        if method != "GET" or hit.is_set():
            return None
        hit.set()
        return fault

    flaky.plan = first_only
    assert_whole(cache, sha256)
    assert flaky.done[fault] == 1
    assert left_over(cache) == []


@pytest.mark.parametrize("fault", ["500", "503", "timeout", "reset", "truncated", "stalled"])
def test_store_that_stays_down_ends_in_a_typed_error_in_bounded_time(
    flaky: FlakyS3, store: BucketStore, cache: ShardCache, fault: str
) -> None:
    sha256 = put(store, 2)
    # A body that is torn at its half again and again comes nearer to its end: torn at once, it never does.
    flaky.plan = always(fault)
    flaky.torn_at = 0.0
    began = time.monotonic()
    with pytest.raises(TransientError) as caught:
        assert_whole(cache, sha256)
    assert caught.value.code == "store_failed"
    assert time.monotonic() - began < BOUND_S
    assert 1 < flaky.requests["GET"] <= 2 * (SHORT.retries + 1)
    assert left_over(cache) == []
    flaky.plan = lambda *_: None
    assert_whole(cache, sha256)


def test_many_readers_of_a_dead_store_are_told_together(
    flaky: FlakyS3, store: BucketStore, cache: ShardCache
) -> None:
    sha256, codes = put(store, 3), list[str]()
    flaky.plan = always("timeout")

    def read() -> None:
        try:
            assert_whole(cache, sha256)
        except TransientError as error:
            codes.append(error.code)

    threads = [threading.Thread(target=read) for _ in range(12)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == ["store_failed"] * 12
    assert time.monotonic() - began < 2 * BOUND_S


def test_body_that_is_always_changed_is_evidence(
    flaky: FlakyS3, store: BucketStore, cache: ShardCache
) -> None:
    sha256 = put(store, 4)
    flaky.plan = always("flipped")
    with pytest.raises(EvidenceError) as caught:
        assert_whole(cache, sha256)
    assert caught.value.code == "damaged_object"
    assert flaky.requests["GET"] == 2
    assert cache.digests() == []


def test_object_of_another_size_is_refused_before_it_arrives(store: BucketStore, cache: ShardCache) -> None:
    sha256 = put(store, 5)
    store.put(object_key(sha256), b"x" * 2 * SIZE)
    with pytest.raises(EvidenceError) as caught:
        assert_whole(cache, sha256)
    assert caught.value.code == "damaged_object"
    assert "bytes" in caught.value.reason


def test_third_of_all_requests_fails_and_every_file_arrives(
    flaky: FlakyS3, store: BucketStore, cache: ShardCache
) -> None:
    names = [put(store, 10 + number) for number in range(30)]
    flaky.plan = now_and_then(0.33, seed=5)
    for sha256 in names:
        assert_whole(cache, sha256)
    assert sum(count for fault, count in flaky.done.items() if fault) >= 10
    assert cache.stats().counts["misses"] == 30
    assert cache.verify().bad == ()


def test_lake_publishes_and_checks_out_over_a_failing_network(
    flaky: FlakyS3, store: BucketStore, tmp_path: Path
) -> None:
    lake = Lake(
        uri=f"s3://{BUCKET}/{uuid.uuid4().hex}", scratch=str(tmp_path / "scratch"), endpoint=flaky.endpoint
    )
    lake.__dict__["store"] = BucketStore(BUCKET, uuid.uuid4().hex, flaky.endpoint, SHORT)
    flaky.plan = now_and_then(0.25, seed=3, faults=("500", "503", "reset"), methods="GET HEAD PUT")
    for number in range(6):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "shard").write_bytes(random.Random(number).randbytes(SIZE))
        made = lake.publish("shards", f"veh{number}", tmp_path / "in")
        out = lake.checkout(lake.require("shards", f"veh{number}"), tmp_path / f"out{number}")
        assert (out / "shard").stat().st_size == made.files[0].bytes
        (tmp_path / "in").rmdir()
    assert sum(count for fault, count in flaky.done.items() if fault) >= 5
