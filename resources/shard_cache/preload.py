"""Filling the cache before a job starts, with a prediction of when that is done.

Belongs here: fetching many files at a time, and the prediction. Does not belong here: printing it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from resources.shard_cache.cache import ShardCache

_LOOK_EVERY_S = 0.2


class Wanted(Protocol):
    """A file of a manifest, or a shard of a dataset."""

    @property
    def sha256(self) -> str: ...
    @property
    def bytes(self) -> int: ...


@dataclass(frozen=True)
class Preloading:
    """How far it is.

    Attributes:
        files, bytes: that are here now; bytes of files that are still coming count as well.
        bytes_per_s: of the last seconds; None until there is something to judge by.
        left_s: predicted seconds until all is here.
    """

    files: int
    files_total: int
    bytes: int
    bytes_total: int
    elapsed_s: float
    bytes_per_s: float | None
    left_s: float | None

    @property
    def done(self) -> bool:
        return self.files == self.files_total


class Rate:
    """Bytes per second over the last seconds.

    Args:
        over_s: how far it looks back; a shorter time until then.
    """

    def __init__(self, over_s: float, now_s: float, here: int) -> None:
        self._over_s = over_s
        self._seen = deque([(now_s, here)])

    def at(self, now_s: float, here: int) -> float | None:
        """The rate now that `here` bytes are here; None while nothing came."""
        self._seen.append((now_s, here))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= self._over_s:
            self._seen.popleft()
        began_s, before = self._seen[0]
        return (here - before) / (now_s - began_s) if here > before and now_s > began_s else None


def preload(cache: ShardCache, wanted: Sequence[Wanted], *, pin: bool, threads: int) -> Iterator[Preloading]:
    """See `ShardCache.preload`. A prediction needs the time in which a few megabytes came."""
    sizes = {one.sha256: one.bytes for one in wanted}
    if (total := sum(sizes.values())) > cache.budget_bytes:
        raise AvError(
            f"{total} bytes do not fit into a cache of {cache.budget_bytes}",
            code="larger_than_cache",
            remedy="preload a part, or give the cache more room (AV_CACHE_GB)",
        )
    if pin:
        cache.pin(sizes)
    here = {sha256 for sha256, size in sizes.items() if cache.holds(sha256, size)}
    present = sum(sizes[sha256] for sha256 in here)
    began, done = time.monotonic(), set[str]()
    rate = Rate(cache.policy.predict_from_s, began, 0)
    for _ in _touched(cache, sizes, here, threads, done):
        came = sum(sizes[sha256] for sha256 in done - here) + cache.coming_bytes(sizes.keys() - done - here)
        now = time.monotonic()
        per_s, left = rate.at(now, came), total - present - came
        left_s = 0.0 if left == 0 else left / per_s if per_s else None
        yield Preloading(len(done), len(sizes), present + came, total, now - began, per_s, left_s)


def _touched(
    cache: ShardCache, sizes: dict[str, int], here: set[str], threads: int, done: set[str]
) -> Iterator[None]:
    """Puts into `done` what is here, and yields every now and then; stops at the first file that cannot be had.

    Those that are here come first: used now, they are not what makes room for the others.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="preload")
    try:
        first = sorted(sizes, key=lambda sha256: sha256 not in here)
        coming: dict[Future[None], str] = {pool.submit(_touch, cache, s, sizes[s]): s for s in first}
        while coming:
            finished, _ = wait(coming, _LOOK_EVERY_S, FIRST_COMPLETED)
            for future in finished:
                future.result()
                done.add(coming.pop(future))
            yield
    finally:
        pool.shutdown(cancel_futures=True)


def _touch(cache: ShardCache, sha256: str, size: int) -> None:
    with cache.local(sha256, size):
        pass
