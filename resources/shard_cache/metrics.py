"""Counters and latencies of the cache: each process writes its own file, readers add them up.

A file is an array of numbers in shared memory, so that counting costs no system call and a process that is killed
loses nothing. Files of processes that ended are added to `total.json` when somebody opens the cache.
Belongs here: counting, merging, quantiles, Prometheus' text. Does not belong here: what is counted when.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import threading
import uuid
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from av_assets.domain.errors import TransientError
from resources.objects import FolderStore
from resources.shard_cache.files import scan

COUNTERS = {
    "hits": "files that were here",
    "misses": "files that were fetched",
    "joined": "files that somebody else was fetching",
    "failures": "fetches that failed",
    "damaged": "cached files that were not what their digest says",
    "refetches": "fetches of a file that was damaged here or arrived damaged",
    "evictions": "files that were evicted",
    "evicted_bytes": "bytes that were evicted",
    "fetched_bytes": "bytes that were fetched",
    "served_bytes": "bytes of files that were handed out",
    "verified": "cached files whose bytes were all read again",
}
PER_OCTAVE = 4
FASTEST_S = 1e-6
BOUNDS_S = tuple(FASTEST_S * 2 ** (step / PER_OCTAVE) for step in range(32 * PER_OCTAVE))
"""Upper bounds of the buckets, 1 microsecond to more than an hour; one more bucket lies above."""

_HISTOGRAM = len(BOUNDS_S) + 2
_NAMES = tuple(COUNTERS)
_INDEX = {name: number for number, name in enumerate(_NAMES)}
_HITS, _MISSES = len(_NAMES), len(_NAMES) + _HISTOGRAM
_LENGTH = len(_NAMES) + 2 * _HISTOGRAM
_TOTAL = "total.json"


@dataclass(frozen=True)
class Latency:
    """How long it took until a file was handed out.

    Attributes:
        counts: files per bucket of BOUNDS_S, and above it.
        sum_s: of all of them.
    """

    counts: tuple[int, ...]
    sum_s: float

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Seconds, to within a bucket (19 %); None where nothing was measured."""
        wanted, below = share * self.count, 0
        for number, count in enumerate(self.counts):
            if count and below + count >= wanted:
                upper = BOUNDS_S[min(number, len(BOUNDS_S) - 1)]
                lower = BOUNDS_S[number - 1] if number else 0.0
                return lower + (upper - lower) * max(0.0, wanted - below) / count
            below += count
        return None


@dataclass(frozen=True)
class Counts:
    """What all processes counted together since the cache was made."""

    values: tuple[int, ...] = (0,) * _LENGTH

    def __getitem__(self, name: str) -> int:
        return self.values[_INDEX[name]]

    @property
    def asked(self) -> int:
        return self["hits"] + self["misses"] + self["joined"]

    @property
    def hit_rate(self) -> float | None:
        return self["hits"] / self.asked if self.asked else None

    def latency(self, kind: str) -> Latency:
        """Of `hit`, or of `miss`: fetched here or waited for."""
        start = _HITS if kind == "hit" else _MISSES
        return Latency(self.values[start + 1 : start + _HISTOGRAM], self.values[start] / 1e9)


class Meter:
    """This process's counters; safe under threads, of no use after a fork (the child makes its own)."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._path = folder / f"{os.getpid()}-{uuid.uuid4().hex}"
        # Not visible under its name before it is locked: whoever merges would take it for one of the dead.
        hidden = folder / f".{self._path.name}"
        self._descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(self._descriptor, 0, 8 * _LENGTH)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            hidden.rename(self._path)
            self._map = mmap.mmap(self._descriptor, 8 * _LENGTH)
        except OSError:  # the disk is full; a page that it has no block for would end the process
            hidden.unlink(missing_ok=True)
            self._map = mmap.mmap(-1, 8 * _LENGTH)
        self._values = memoryview(self._map).cast("Q")

    def add(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                self._values[_INDEX[name]] += count

    def took(self, how: str, size: int, seconds: float) -> None:
        """A file of so many bytes was handed out, and `how`: hits, misses or joined."""
        start = _HITS if how == "hits" else _MISSES
        values = self._values
        with self._lock:
            values[_INDEX[how]] += 1
            values[_INDEX["served_bytes"]] += size
            values[start] += max(0, round(seconds * 1e9))
            values[start + 1 + bisect_left(BOUNDS_S, seconds)] += 1

    def close(self) -> None:
        """The numbers stay; the next who opens the cache adds them to the total."""
        with self._lock:
            self._values.release()
            self._map.close()
            os.close(self._descriptor)


def merged(folder: Path) -> Counts:
    """The sum over all processes, living and dead."""
    before = _read_total(folder)
    while True:
        values = [before[0], *(v for name, v in _of_processes(folder) if name not in before[1])]
        after = _read_total(folder)
        if after == before:  # else somebody gathered meanwhile, and files went that were not read
            return Counts(tuple(map(sum, zip(*values, strict=True))))
        before = after


def gather(folder: Path) -> None:
    """Add the files of ended processes to the total; the caller holds a lock.

    The total names what it has taken in, and is written before those files go: nothing is counted twice or lost.
    """
    total, included = _read_total(folder)
    dead = [name for name, _ in _of_processes(folder) if _is_dead(folder / name)]
    fresh = [v for name, v in _of_processes(folder) if name in dead and name not in included]
    if not dead:
        return
    summed = list(map(sum, zip(total, *fresh, strict=True)))
    said = {"names": list(_NAMES), "buckets": _HISTOGRAM, "values": summed, "included": dead}
    with contextlib.suppress(TransientError):  # a full disk: the next one adds them
        FolderStore(folder).put(_TOTAL, json.dumps(said).encode())
        for name in dead:
            (folder / name).unlink(missing_ok=True)


def _read_total(folder: Path) -> tuple[tuple[int, ...], frozenset[str]]:
    """Numbers of another version of this module, or unreadable ones, begin anew."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        said = json.loads((folder / _TOTAL).read_bytes())
        values = tuple(int(v) for v in said["values"])
        if tuple(said["names"]) == _NAMES and said["buckets"] == _HISTOGRAM and len(values) == _LENGTH:
            return values, frozenset(said["included"])
    return (0,) * _LENGTH, frozenset()


def _of_processes(folder: Path) -> Iterator[tuple[str, Sequence[int]]]:
    for file in sorted(scan(folder), key=lambda entry: entry.name):
        if file.name != _TOTAL and not file.name.startswith("."):
            with contextlib.suppress(OSError):
                data = Path(file.path).read_bytes()
                if len(data) == 8 * _LENGTH:
                    yield file.name, tuple(memoryview(data).cast("Q"))


def _is_dead(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    return False
