"""The cache of shards under many processes, and under processes that are killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from av_assets.policies.cache import CachePolicy
from resources.shard_cache.cache import ShardCache

POLICY = CachePolicy.load().model_copy(update={"keep_free_gb": 0.0, "wait_for_fetch_s": 20.0})
SIZE = 200_000


@dataclass
class Place:
    """A source, a cache and what its workers noted."""

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def fetched(self) -> list[str]:
        log = self.folder / "log"
        return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []

    def fill(self, files: int) -> list[str]:
        self.source.mkdir()
        for number in range(files):
            data = random.Random(number).randbytes(SIZE - number * 1000)
            (self.source / hashlib.sha256(data).hexdigest()).write_bytes(data)
        return sorted(path.name for path in self.source.iterdir())

    def open(self, budget: int) -> ShardCache:
        def fetch(sha256: str, target: Path) -> None:
            target.write_bytes((self.source / sha256).read_bytes())

        return ShardCache(self.cache, budget, fetch, POLICY)

    @contextmanager
    def workers(self, number: int, budget: int, **told: Any) -> Iterator[list[subprocess.Popen[str]]]:
        """Processes that are ready and begin when the block does; those that still run at its end are killed."""
        go = self.folder / f"go-{time.monotonic_ns()}"
        about = {"folder": str(self.cache), "budget": budget, "source": str(self.source), "go": str(go),
                 "log": str(self.folder / "log"), "piece_s": 0.002} | told  # fmt: skip
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.faults.cache_worker", json.dumps(about | {"seed": f"{seed}"})],
                stdout=subprocess.PIPE,
                text=True,
            )
            for seed in range(number)
        ]
        try:
            for one in started:
                assert one.stdout is not None
                assert one.stdout.readline() == "ready\n"
            go.touch()
            yield started
        finally:
            for one in started:
                one.kill()
                one.wait()
                assert one.stdout is not None
                one.stdout.close()


def result(worker: subprocess.Popen[str]) -> dict[str, Any]:
    assert worker.stdout is not None
    found = json.loads(worker.stdout.read())
    assert worker.wait() == 0
    return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_one_cold_file_is_fetched_once_and_read_whole_by_all(place: Place) -> None:
    """4 processes x 8 threads at the same moment, six times."""
    place.fill(1)
    for turn in range(1, 7):
        with place.workers(4, 10 * SIZE, threads=8, rounds=1) as workers:
            found = [result(one) for one in workers]
        assert [f["wrong"] for f in found] == [[]] * 4
        assert sum(f["read"] for f in found) == 32
        assert len(place.fetched) == turn
        counts = place.open(10 * SIZE).stats().counts
        assert counts["misses"] == turn
        assert counts.asked == 32 * turn, "what ended processes counted is not lost"
        place.open(10 * SIZE).evict(place.open(10 * SIZE).digests())


def test_budget_holds_at_every_moment(place: Place) -> None:
    """30 files, room for 8 of them, 4 processes x 3 threads that hold one each while they read it."""
    place.fill(30)
    budget, samples = 8 * SIZE + 100, list[int]()
    with place.workers(4, budget, threads=3, rounds=40) as workers, place_watch(place, budget) as watched:
        while any(one.poll() is None for one in workers):
            samples.append(watched())
            time.sleep(0.005)  # whoever looks stands in the way
        found = [result(one) for one in workers]
    assert [f["wrong"] for f in found] == [[]] * 4
    assert sum(f["read"] for f in found) == 4 * 3 * 40
    assert len(samples) > 50
    assert max(samples) <= budget
    assert max(samples) > budget * 0.8, "else the budget was never at stake"
    assert place.open(budget).stats().counts["evictions"] > 30


@contextmanager
def place_watch(place: Place, budget: int) -> Iterator[Any]:
    """A function that gives the bytes that files have or will have; nobody makes room meanwhile."""
    cache = place.open(budget)
    cache.stats()  # makes the folder

    def bytes_now() -> int:
        with cache._room._locked():
            promised = cache._room.usage().bytes
            parts = [*(place.cache / "incoming").iterdir(), *(place.cache / "objects").glob("*/*")]
            written = {p.name[:64]: size_of(p) for p in parts}
        assert sum(written.values()) <= promised
        return promised

    def size_of(path: Path) -> int:
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0

    yield bytes_now
    cache.close()


def test_killed_processes_leave_nothing_that_is_in_the_way(place: Place) -> None:
    """Twenty times: kill all workers within a few milliseconds of chance; then everything can be had at once."""
    names = place.fill(6)
    budget, chance, torn = 4 * SIZE, random.Random(7), 0
    for _ in range(20):
        with place.workers(2, budget, threads=2, rounds=1000) as workers:
            time.sleep(0.02 + chance.random() * 0.1)
            for one in workers:
                one.send_signal(signal.SIGKILL)
                one.wait()
        torn += len(list(place.cache.glob("incoming/*")))  # which is not there if they died before they began
        cache = place.open(budget)
        began = time.monotonic()
        for sha256 in names:
            size = (place.source / sha256).stat().st_size
            with cache.local(sha256, size) as path:
                assert path.read_bytes() == (place.source / sha256).read_bytes()
        assert time.monotonic() - began < POLICY.wait_for_fetch_s, "nobody was waited for"
        assert cache.verify().bad == ()
        stats = cache.stats()
        assert stats.bytes <= budget
        assert stats.coming_bytes == 0
        for part in ("incoming", "flights"):
            assert list((place.cache / part).iterdir()) == []
        cache.evict(cache.digests())
        cache.close()
    assert torn > 0, "no process died within a fetch: the test shows nothing"


def test_file_that_a_killed_process_used_can_go(place: Place) -> None:
    (name,) = place.fill(1)
    cache = place.open(10 * SIZE)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        with cache.local(name, SIZE):
            os.write(writing, b"1")
            time.sleep(60)
        os._exit(1)
    assert os.read(reading, 1) == b"1"
    assert cache.evict([name]).in_use == (name,)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert cache.evict([name]).evicted == (name,)
    cache.close()
    os.close(reading)
    os.close(writing)
