"""The cache of shards on a node: files by their sha256, within a byte budget, shared by all threads and processes.

    with cache.local(sha256, size) as path: ...     the file is there, whole, and stays while the block runs

A miss is fetched once, by whoever comes first, into a file of its own; it appears under its digest when its bytes are
those of the digest, in one rename. What happens between processes is said in `files`.
Belongs here: handing out, verifying, forgetting. Does not belong here: who makes room (`room`), who waits
for whom (`flight`), where a lake's cache is (`sources`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import threading
import time
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.policies.cache import CachePolicy
from resources.shard_cache.fetch import Fetch, fetching, fill, verified
from resources.shard_cache.files import DamagedFile, Layout, Lease, leased, publish, stamp_ns
from resources.shard_cache.flight import flight
from resources.shard_cache.metrics import Meter, gather, merged
from resources.shard_cache.room import Room, Took
from resources.shard_cache.spans import prepare, span
from resources.shard_cache.upkeep import Stats, Verified, forget, verify

if TYPE_CHECKING:
    from resources.objects import BucketStore, FolderStore
    from resources.shard_cache.preload import Preloading, Wanted

_GB = 1_000_000_000


class ShardCache:
    """One folder of cached files. Many of these, in many processes, may use one folder.

    It may be pickled (where `fetch` may); each process opens it at its first use.

    Args:
        folder: on a local disk; made where it is missing.
        budget_bytes: what all files together never exceed, those being fetched included.
        fetch: where files come from; a store is asked for the lake's key of the digest.
    """

    def __init__(
        self,
        folder: Path,
        budget_bytes: int,
        fetch: Fetch | BucketStore | FolderStore,
        policy: CachePolicy | None = None,
    ) -> None:
        self.folder, self.budget_bytes, self.policy = folder, budget_bytes, policy or CachePolicy.load()
        self._from = fetch
        self._fetch = fetching(fetch)
        self._layout = Layout(folder)
        self._opening = threading.Lock()
        self._meter: tuple[int, Meter] | None = None
        self._room = Room(
            self._layout,
            budget_bytes,
            int(budget_bytes * self.policy.evict_ahead_share),
            int(self.policy.keep_free_gb * _GB),
            self._count_evicted,
        )

    def __reduce__(self) -> tuple[object, ...]:
        return ShardCache, (self.folder, self.budget_bytes, self._from, self.policy)

    @contextmanager
    def local(self, sha256: str, size: int) -> Iterator[Path]:
        """The file, read-only; it is not evicted while the block runs.

        Raises:
            EvidenceError: missing_object; damaged_object, what was fetched is not what the digest says, twice.
            TransientError: what the store raises; cache_busy, cache_full, disk_full, cache_failed.
            AvError: larger_than_cache, cache_pinned, bad_digest.
        """
        with self._worded():
            meter, began = self._open(), time.perf_counter()
            held, how = self._hold(sha256, size, meter)
        meter.took(how, size, time.perf_counter() - began)
        try:
            yield held.path
        finally:
            held.close()

    def holds(self, sha256: str, size: int) -> bool:
        """Whether the file is here and passes the cheap check; it does not count as used."""
        with contextlib.suppress(FileNotFoundError):
            status = self._layout.object(sha256).stat()
            return status.st_size == size and status.st_mtime_ns == stamp_ns(sha256)
        return False

    def preload(
        self, wanted: Iterable[Wanted], *, pin: bool = False, threads: int | None = None
    ) -> Iterator[Preloading]:
        """Fetch what is not here, saying again and again how far it is and when it will be done.

        Raises:
            AvError: larger_than_cache, it does not fit at once. What `local` raises.
        """
        from resources.shard_cache.preload import preload

        return preload(self, list(wanted), pin=pin, threads=threads or self.policy.preload_threads)

    def coming_bytes(self, digests: AbstractSet[str]) -> int:
        """Bytes that have arrived of files that are being fetched."""
        return sum(written for sha256, _, written in self._layout.reserved() if sha256 in digests)

    def pin(self, digests: Iterable[str]) -> None:
        """Never evict these, whether they are here already or come later."""
        self._open()
        self._room.pin(digests)

    def unpin(self, digests: Iterable[str]) -> None:
        self._open()
        self._room.unpin(digests)

    def evict(self, digests: Iterable[str], *, pinned_too: bool = False) -> Took:
        """Remove these files, but none that is in use."""
        self._open()
        return self._room.evict(digests, pinned_too=pinned_too)

    def forget(self, digests: Iterable[str]) -> tuple[str, ...]:
        """Remove these files and their pins even while somebody uses them, as erasure asks; those that were here.

        Whoever has such a file open reads it to its end; its name is gone at once.
        """
        self._open()
        return forget(self._layout, digests, self.policy.wait_for_fetch_s)

    def verify(self, share: float = 1.0, chance: random.Random | None = None) -> Verified:
        """Read all bytes of the files, or of a share of them by chance; files that are bad are removed."""
        meter = self._open()
        found = verify(self._layout, share, chance or random.Random(), self.policy.wait_for_fetch_s)
        meter.add(verified=found.files, damaged=len(found.bad))
        return found

    def stats(self) -> Stats:
        self._open()
        return Stats.of(self._room.usage(), self.budget_bytes, merged(self.folder / "metrics"))

    def digests(self) -> list[str]:
        """What is here, least recently used first."""
        return list(self._room.usage().whole)

    def close(self) -> None:
        """Let this process's counters go; the next use opens them again."""
        with self._opening:
            if self._meter is not None and self._meter[0] == os.getpid():
                self._meter[1].close()
            self._meter = None

    # -- one file ------------------------------------------------------------------------------------------------

    def _hold(self, sha256: str, size: int, meter: Meter) -> tuple[Lease, str]:
        """The file, held, and what it counts as: hits, joined or misses."""
        path, suspect = self._layout.object(sha256), random.random() < self.policy.verify_share
        with span("lookup", sha256, size), contextlib.suppress(DamagedFile):
            held = leased(path, sha256, size, hashed=suspect)
            meter.add(verified=int(suspect and held is not None))
            if held is not None:
                return held, "hits"
        with contextlib.ExitStack() as stack:
            with span("wait", sha256, size):
                stack.enter_context(flight(self._layout.flight(sha256), self.policy.wait_for_fetch_s))
            held = self._look_again(path, sha256, size, meter, suspect)
            return (held, "joined") if held is not None else (self._fetched(sha256, size, meter), "misses")

    def _look_again(self, path: Path, sha256: str, size: int, meter: Meter, suspect: bool) -> Lease | None:
        """The file after all, where somebody else fetched it; a damaged one is removed: only one is here at a time."""
        try:
            return leased(path, sha256, size, hashed=suspect)
        except DamagedFile:
            path.unlink(missing_ok=True)
            meter.add(damaged=1, refetches=1)
            return None

    def _fetched(self, sha256: str, size: int, meter: Meter) -> Lease:
        """Fetch, verify, publish; what arrived damaged is fetched once more."""
        try:
            for again in (False, True):
                meter.add(refetches=int(again))
                with span("room", sha256, size):
                    incoming = self._room.reserve(sha256, size, self.policy.wait_for_room_s)
                try:
                    held = self._arrived(sha256, size, incoming)
                finally:
                    if incoming.exists():
                        self._room.release(incoming, size)
                if held is not None:
                    meter.add(fetched_bytes=size)
                    return held
            raise EvidenceError(
                "what the store gives is not what the digest says", code="damaged_object", file=sha256
            )
        except BaseException:
            meter.add(failures=1)
            raise

    def _arrived(self, sha256: str, size: int, incoming: Path) -> Lease | None:
        with span("fetch", sha256, size):
            fill(partial(self._fetch, sha256, size), incoming, lambda: self._room.shrink(size))
        with span("verify", sha256, size):
            good = verified(incoming, sha256, size)
        with span("publish", sha256, size):
            return publish(incoming, self._layout.object(sha256), sha256) if good else None

    # -- this process --------------------------------------------------------------------------------------------

    def _open(self) -> Meter:
        """The counters of this process; a process that was forked from another has its own."""
        with self._opening:
            if self._meter is None or self._meter[0] != os.getpid():
                prepare()
                self._room.sweep(partial(gather, self.folder / "metrics"))
                self._meter = os.getpid(), Meter(self.folder / "metrics")
            return self._meter[1]

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """What the disk says of the cache's own files, in our words."""
        try:
            yield
        except OSError as error:
            full = error.errno == errno.ENOSPC
            raise TransientError(
                f"cannot use the cache: {error.strerror or error}",
                code="disk_full" if full else "cache_failed",
                file=self.folder,
                remedy="free space and rerun" if full else "give it a folder of this user on a local disk",
            ) from error

    def _count_evicted(self, size: int) -> None:
        if self._meter is not None:
            self._meter[1].add(evictions=1, evicted_bytes=size)
