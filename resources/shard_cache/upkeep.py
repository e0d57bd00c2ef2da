"""Looking after the files of a cache: what there is, whether it is still what it was, and what has to go for good.

Belongs here: counts for people, full verification, erasure. Does not belong here: the budget, single uses of a file.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from resources.shard_cache.files import DamagedFile, Layout, digest_of, hold, scan
from resources.shard_cache.flight import flight
from resources.shard_cache.metrics import Counts
from resources.shard_cache.room import Usage


@dataclass(frozen=True)
class Stats:
    """What lies in the cache, and what was asked of it since it was made."""

    files: int
    bytes: int
    coming_bytes: int
    pinned_files: int
    pinned_bytes: int
    budget_bytes: int
    counts: Counts

    @classmethod
    def of(cls, usage: Usage, budget_bytes: int, counts: Counts) -> Self:
        return cls(
            files=len(usage.whole),
            bytes=sum(usage.whole.values()),
            coming_bytes=sum(size for sha256, size in usage.coming.items() if sha256 not in usage.whole),
            pinned_files=len(usage.pinned & usage.whole.keys()),
            pinned_bytes=usage.pinned_bytes,
            budget_bytes=budget_bytes,
            counts=counts,
        )


@dataclass(frozen=True)
class Verified:
    """Cached files whose bytes were all read; the bad ones are gone and will be fetched again when they are used."""

    files: int
    bytes: int
    bad: tuple[str, ...]


def verify(layout: Layout, share: float, chance: random.Random, wait_s: float) -> Verified:
    """Read all bytes of the files, or of a share of them by chance; files that are bad are removed.

    Raises:
        TransientError: cache_busy.
    """
    files, read, bad = 0, 0, []
    for sha256, status in list(layout.objects()):
        if share < 1 and chance.random() >= share:
            continue
        good = _is_good(layout, sha256)
        if good is None:
            continue
        files, read = files + 1, read + status.st_size
        if not good:
            bad.append(sha256)
            _drop(layout, sha256, status.st_ino, wait_s)
    return Verified(files, read, tuple(bad))


def forget(layout: Layout, digests: Iterable[str], wait_s: float) -> tuple[str, ...]:
    """Remove these files and their pins whoever uses them; those that were here.

    Raises:
        TransientError: cache_busy.
    """
    gone = []
    for sha256 in digests:
        with flight(layout.flight(sha256), wait_s, heed=False):
            layout.pin(sha256).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                layout.object(sha256).unlink()
                gone.append(sha256)
    return tuple(gone)


def files_of(folder: Path, digests: AbstractSet[str]) -> list[Path]:
    """Every file of the cache in this folder that is about one of the digests; for erasure, which removes them.

    A fetch that loses its file finds that what arrived is not what it asked for.
    """
    found = [folder / "objects" / sha256[:2] / sha256 for sha256 in sorted(digests)]
    found += [folder / "pins" / sha256 for sha256 in sorted(digests)]
    found += [Path(file.path) for file in scan(folder / "incoming") if file.name.partition(".")[0] in digests]
    return [path for path in found if path.exists()]


def _is_good(layout: Layout, sha256: str) -> bool | None:
    """Whether the bytes are those of the digest; None where the file went meanwhile."""
    try:
        held = hold(layout.object(sha256))
    except DamagedFile:
        return False
    if held is None:
        return None
    try:
        return digest_of(held) == sha256
    finally:
        held.close()


def _drop(layout: Layout, sha256: str, inode: int, wait_s: float) -> None:
    """Remove this very file, not one that was fetched in its place meanwhile."""
    path = layout.object(sha256)
    with flight(layout.flight(sha256), wait_s, heed=False), contextlib.suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()
