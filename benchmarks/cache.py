"""The cache of shards: a second epoch over cached files against the same files on the disk, a first one against bare
downloads, and how well the end of a preload is predicted.

Shards are 20 MB of incompressible bytes, read from beginning to end. The S3 server (moto) is a process of its own on
this machine: it shares the cores, and no network lies between.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, Say, Settings, paired_ratio, take_turns

if TYPE_CHECKING:
    from av_assets.domain.loading.sources import ShardRef, ShardSource
    from resources.objects import BucketStore
    from resources.shard_cache.cache import ShardCache

SHARDS, SHARD_BYTES, BLOCK = 12, 20_000_000, 1 << 20
REPEATS, OPENED = 7, 20_000
WARM_TURNS = 9  # many short turns: those of the disk of a shared machine differ by half
BUCKET = "lake"
TARGET_WARM, TARGET_PREDICTED = 1 / 0.95, 0.25
JUDGED_AT = 0.25
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}


def run(settings: Settings, say: Say) -> list[Figure]:
    """`cache`: warm and cold epochs, the cost of a hit, and the prediction of a preload."""
    from resources.objects import BucketStore

    os.environ.update(_CREDENTIALS)
    work = settings.work / "cache"
    with s3_server() as endpoint:
        say(f"laying out {SHARDS} shards")
        _make_bucket(endpoint)
        store = BucketStore(BUCKET, "bench", endpoint)
        refs = _lay_out(work / "local", store)
        times = settings.times(REPEATS)
        return [*_warm(work, refs, store, times, say), _cold(work, refs, store, times, say),
                _predicted(work, refs, store, times, say)]  # fmt: skip


def _warm(work: Path, refs: Sequence[ShardRef], store: BucketStore, times: int, say: Say) -> list[Figure]:
    """From the disk, as when a dataset is larger than memory; and from memory, where the cache's work shows most."""
    from av_assets.domain.loading.sources import FolderSource
    from resources.shard_cache.sources import CachedShards

    cache = _cache(work / "warm", store)
    cached, local = CachedShards(cache), FolderSource(work / "linked")
    files = _linked(cached, refs, work / "linked")
    ours, peer = ("cached", partial(read_epoch, cached, refs)), ("local", partial(read_epoch, local, refs))
    for _, first_epoch in (ours, peer):
        first_epoch()
    disk = take_turns(ours, peer, WARM_TURNS * times, say, partial(_drop_pages, files))
    memory = take_turns(ours, peer, WARM_TURNS * times, say)
    hit_us = _hit_us(cache, refs[0])
    assert cache.stats().counts["misses"] == SHARDS, "the second epochs fetched"
    cache.close()
    measured = f"second epoch of {SHARDS} shards of 20 MB through the cache / from a folder"
    return [
        Figure("cache.warm", measured, paired_ratio(disk.seconds), "x", TARGET_WARM, disk.seconds, cpu=disk.cpu,
               note=f"both from the disk, {_rate(disk.seconds['local']):.1f} GB/s"),
        Figure("cache.warm.memory", measured, paired_ratio(memory.seconds), "x", None, memory.seconds, cpu=memory.cpu,
               note=f"both from the page cache, {_rate(memory.seconds['local']):.1f} GB/s"),
        Figure("cache.hit", "opening a cached file and letting it go, without reading it", hit_us, "us", None),
    ]  # fmt: skip


def _linked(cached: ShardSource, refs: Sequence[ShardRef], folder: Path) -> list[Path]:
    """The cached files under the names of a dataset: both sides read the same blocks of the disk."""
    files = []
    for ref in refs:
        with cached.local(ref) as path:
            files.append(folder / ref.path)
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            os.link(path, files[-1])
    return files


def _rate(seconds: Sequence[float]) -> float:
    return SHARDS * SHARD_BYTES / median(seconds) / 1e9


def _drop_pages(files: Sequence[Path]) -> None:
    """Let the system forget what it holds of these files in memory."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _cold(work: Path, refs: Sequence[ShardRef], store: BucketStore, times: int, say: Say) -> Figure:
    """A fresh cache and bare downloads in turn; both read every byte that came."""
    from resources.object_keys import object_key
    from resources.shard_cache.sources import CachedShards

    def through_the_cache() -> None:
        cache = _cache(work / "cold", store)
        read_epoch(CachedShards(cache), refs)
        cache.close()

    def bare() -> None:
        (work / "bare").mkdir(parents=True)
        for ref in refs:
            store.fetch(object_key(ref.sha256), work / "bare" / ref.sha256)
            read_all(work / "bare" / ref.sha256)

    def reset() -> None:
        for name in ("cold", "bare"):
            shutil.rmtree(work / name, ignore_errors=True)

    turns = take_turns(("cached", through_the_cache), ("bare S3", bare), times, say, reset)
    measured = "first epoch through an empty cache / downloads of the same objects to files, one at a time"
    hashed_s = _hash_s(work / "local", refs)
    return Figure("cache.cold", measured, paired_ratio(turns.seconds), "x", None, turns.seconds,
                  {"sha256": hashed_s}, turns.cpu, note="the cache also hashes every byte")  # fmt: skip


def _predicted(work: Path, refs: Sequence[ShardRef], store: BucketStore, times: int, say: Say) -> Figure:
    """|predicted / actual - 1| of the whole time, as predicted when a quarter of the bytes is here.

    Each download is held to a fixed rate, as a network would: without, all is over before there is anything to tell.
    """
    errors, seconds = list[float](), list[float]()
    for number in range(times):
        say(f"preload, {number + 1} of {times}")
        shutil.rmtree(work / "preload", ignore_errors=True)
        cache = _cache(work / "preload", partial(_slow_fetch, store))
        said = list(cache.preload(refs, threads=3))
        cache.close()
        first = next(s for s in said if s.left_s is not None and s.bytes >= JUDGED_AT * s.bytes_total)
        seconds.append(said[-1].elapsed_s)
        errors.append(abs((first.elapsed_s + (first.left_s or 0.0)) / seconds[-1] - 1))
    measured = "error of the predicted time of a preload, told at a quarter of it"
    return Figure("cache.predicted", measured, median(errors), "x", TARGET_PREDICTED,
                  {"error": errors, "seconds": seconds}, note="3 downloads at a time of 20 MB/s each")  # fmt: skip


def _slow_fetch(store: BucketStore, sha256: str, target: Path, bytes_per_s: float = 20e6) -> None:
    from resources.object_keys import object_key

    began, written = time.perf_counter(), 0
    with target.open("wb", buffering=0) as file:
        for chunk in store.chunks(object_key(sha256)):
            for start in range(0, len(chunk), BLOCK):
                written += file.write(chunk[start : start + BLOCK])
                time.sleep(max(0.0, began + written / bytes_per_s - time.perf_counter()))


def read_epoch(source: ShardSource, refs: Sequence[ShardRef]) -> None:
    for ref in refs:
        with source.local(ref) as path:
            assert read_all(path) == ref.bytes


def read_all(path: Path) -> int:
    """Bytes read, in blocks, without keeping them."""
    block, read = bytearray(BLOCK), 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            read += count
    return read


def _hit_us(cache: ShardCache, ref: ShardRef) -> float:
    began = time.perf_counter()
    for _ in range(OPENED):
        with cache.local(ref.sha256, ref.bytes):
            pass
    return (time.perf_counter() - began) / OPENED * 1e6


def _hash_s(folder: Path, refs: Sequence[ShardRef]) -> float:
    began = time.perf_counter()
    for ref in refs:
        with (folder / ref.path).open("rb") as file:
            hashlib.file_digest(file, "sha256")
    return time.perf_counter() - began


def _cache(folder: Path, fetch: BucketStore | Callable[[str, Path], None]) -> ShardCache:
    from resources.shard_cache.cache import ShardCache

    return ShardCache(folder, 2 * SHARDS * SHARD_BYTES, fetch)


def _lay_out(folder: Path, store: BucketStore) -> list[ShardRef]:
    from av_assets.domain.loading.sources import ShardRef
    from resources.object_keys import object_key

    folder.mkdir(parents=True)
    refs = []
    for number in range(SHARDS):
        data = random.Random(number).randbytes(SHARD_BYTES)
        sha256 = hashlib.sha256(data).hexdigest()
        (folder / f"{number:05}").write_bytes(data)
        store.put(object_key(sha256), data)
        refs.append(ShardRef(sha256, SHARD_BYTES, f"{number:05}"))
    return refs


@contextmanager
def s3_server() -> Iterator[str]:
    """moto as a process of its own on a free port of the loopback; gives its endpoint."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        found = None
        while found is None:
            line = server.stderr.readline()
            assert line, "the S3 server did not start"
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
        threading.Thread(target=_drain, args=(server.stderr,), daemon=True).start()
        yield found.group()
    finally:
        server.terminate()
        server.wait()


def _drain(lines: Iterator[str]) -> None:
    """A server whose words nobody reads stops when the pipe is full."""
    for _ in lines:
        pass


def _make_bucket(endpoint: str) -> None:
    import boto3

    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=BUCKET)
