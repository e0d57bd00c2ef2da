"""The byte budget of the cache: room is taken before a fetch begins, and what was used longest ago makes place.

What counts is what the files say: the whole ones with their size, those being fetched with the size that they will
have. The bytes in use are kept as a hint beside the lock, so that not every fetch has to list the folder; the hint
never is below the truth (it is raised before a file appears, lowered after files went), and whenever it says that there
is no room, or is damaged, the files are listed again.
Belongs here: reserving, evicting, pins. Does not belong here: fetching, and what a file is checked for.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from av_assets.domain.errors import AvError, TransientError
from resources.shard_cache.files import Layout, unlink_unless_held
from resources.shard_cache.flight import lock, sweep_rests

_HINT = struct.Struct("<QQ")
_COMPLEMENT = (1 << 64) - 1
_LOCK_WAIT_S = 60.0
_PAUSE_S = 0.05

Evicted = Callable[[int], None]
"""Told the bytes of each file that was evicted."""


@dataclass(frozen=True)
class Usage:
    """What lies in the cache: sha256 -> bytes, least recently used first."""

    whole: dict[str, int]
    coming: dict[str, int]
    unwritten: int
    pinned: frozenset[str]

    @property
    def bytes(self) -> int:
        """Of whole files and of those that are on their way; one that just arrived is not counted twice."""
        return sum((self.coming | self.whole).values())

    @property
    def pinned_bytes(self) -> int:
        return sum(size for sha256, size in self.whole.items() if sha256 in self.pinned)


@dataclass(frozen=True)
class Took:
    """What became of each digest that was to go."""

    evicted: tuple[str, ...] = ()
    in_use: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Room:
    """All changes of how much the cache holds.

    Attributes:
        budget: bytes that whole files and those being fetched never exceed together.
        ahead: bytes that are freed beyond what a fetch needs.
        keep_free: bytes of the disk that are left to others.
    """

    layout: Layout
    budget: int
    ahead: int = 0
    keep_free: int = 0
    evicted: Evicted = field(default=lambda size: None)

    def reserve(self, sha256: str, size: int, wait_s: float) -> Path:
        """The empty file that so many bytes may be written to.

        Raises:
            AvError: larger_than_cache, cache_pinned.
            TransientError: cache_full, everything was in use for `wait_s`; disk_full; cache_busy.
        """
        if size > self.budget:
            raise AvError(
                f"{size} bytes do not fit into a cache of {self.budget}",
                code="larger_than_cache",
                file=sha256,
                remedy="give the cache more room (AV_CACHE_GB)",
            )
        give_up = time.monotonic() + wait_s
        while True:
            with self._locked() as room:
                full = self._make(room, size)
                if full is None:
                    incoming = self.layout.incoming(sha256, size)
                    _write_hint(room, (_read_hint(room) or 0) + size)
                    incoming.touch(mode=0o600)
                    return incoming
            if time.monotonic() >= give_up or not isinstance(full, TransientError):
                raise full
            time.sleep(_PAUSE_S)

    def release(self, incoming: Path, size: int) -> None:
        """Give back what was reserved for a fetch that failed."""
        with self._locked() as room:
            hint = _read_hint(room)
            if incoming.exists():
                incoming.unlink()
                if hint is not None:
                    _write_hint(room, max(0, hint - size))

    def shrink(self, size: int) -> int:
        """Evict at least so many bytes where that can be done; bytes that went."""
        with self._locked() as room:
            usage = self._counted()
            gone = self._evict_oldest(usage, size)
            _write_hint(room, usage.bytes - gone)
            return gone

    def evict(self, digests: Iterable[str], *, pinned_too: bool = False) -> Took:
        """Remove these files where nobody uses them."""
        lists: dict[str, list[str]] = {"evicted": [], "in_use": [], "pinned": [], "absent": []}
        with self._locked() as room:
            usage = self._counted()
            left = usage.bytes
            for sha256 in dict.fromkeys(digests):
                if sha256 not in usage.whole:
                    lists["absent"].append(sha256)
                elif sha256 in usage.pinned and not pinned_too:
                    lists["pinned"].append(sha256)
                elif unlink_unless_held(self.layout.object(sha256)):
                    self.layout.pin(sha256).unlink(missing_ok=True)
                    lists["evicted"].append(sha256)
                    left -= usage.whole[sha256]
                    self.evicted(usage.whole[sha256])
                else:
                    lists["in_use"].append(sha256)
            _write_hint(room, left)
        return Took(**{name: tuple(names) for name, names in lists.items()})

    def pin(self, digests: Iterable[str]) -> None:
        with self._locked():
            for sha256 in digests:
                self.layout.pin(sha256).touch(mode=0o600)

    def unpin(self, digests: Iterable[str]) -> None:
        with self._locked():
            for sha256 in digests:
                self.layout.pin(sha256).unlink(missing_ok=True)

    def usage(self) -> Usage:
        """What lies in the cache now. Files on their way are listed first: one that arrives meanwhile is seen."""
        waiting = list(self.layout.reserved())
        found = sorted(self.layout.objects(), key=lambda item: (item[1].st_atime_ns, item[0]))
        return Usage(
            {sha256: status.st_size for sha256, status in found},
            {sha256: size for sha256, size, _ in waiting},
            sum(max(0, size - written) for _, size, written in waiting),
            frozenset(self.layout.pinned()),
        )

    def sweep(self, also: Callable[[], None] = lambda: None) -> None:
        """Remove what killed processes left; `also` is called while nobody else does."""
        with self._locked():
            sweep_rests(self.layout)
            also()

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.layout.make()  # erasure takes empty folders away
        descriptor = os.open(self.layout.room, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            lock(descriptor, _LOCK_WAIT_S, self.layout.room, longest_pause_s=0.002)
            yield descriptor
        finally:
            os.close(descriptor)

    def _make(self, room: int, size: int) -> AvError | None:
        """Evict until so many bytes more are allowed; what stands against it where they are not."""
        hint = _read_hint(room)
        if hint is not None and hint + size <= self.budget and self._disk() >= size:
            return None
        usage = self._counted()
        used = usage.bytes
        spare = min(self.budget - used, self._disk() - usage.unwritten)
        if spare < size:
            gone = self._evict_oldest(usage, size - spare, self.ahead)
            used, spare = used - gone, spare + gone
        _write_hint(room, used)
        return None if spare >= size else self._full(usage, size)

    def _counted(self) -> Usage:
        sweep_rests(self.layout)
        return self.usage()

    def _evict_oldest(self, usage: Usage, needed: int, ahead: int = 0) -> int:
        """Bytes that went: at least `needed` where that can be done, and `ahead` more where it is as easy."""
        gone = 0
        for sha256, size in usage.whole.items():
            if gone >= needed + ahead:
                break
            if sha256 not in usage.pinned and unlink_unless_held(self.layout.object(sha256)):
                gone += size
                self.evicted(size)
        return gone

    def _disk(self) -> int:
        """Bytes that may still be written to the disk."""
        status = os.statvfs(self.layout.folder)
        return status.f_bavail * status.f_frsize - self.keep_free

    def _full(self, usage: Usage, size: int) -> AvError:
        if usage.pinned_bytes + size > self.budget:
            return AvError(
                f"pinned files take {usage.pinned_bytes} of {self.budget} bytes; {size} more do not fit",
                code="cache_pinned",
                file=self.layout.folder,
                remedy="av cache unpin, or a larger AV_CACHE_GB",
            )
        if self._disk() - usage.unwritten < size:
            return TransientError(
                f"the disk has no room for {size} bytes more, and nothing that is not in use can be evicted",
                code="disk_full",
                file=self.layout.folder,
                remedy="free space and rerun",
            )
        return TransientError(
            f"all {usage.bytes} bytes are in use; {size} more do not fit into {self.budget}",
            code="cache_full",
            file=self.layout.folder,
            remedy="fewer workers on this machine, or a larger AV_CACHE_GB",
        )


def _read_hint(room: int) -> int | None:
    """Bytes in use; None where the hint was lost or damaged."""
    data = os.pread(room, _HINT.size, 0)
    if len(data) != _HINT.size:
        return None
    used, complement = _HINT.unpack(data)
    return int(used) if used ^ complement == _COMPLEMENT else None


def _write_hint(room: int, used: int) -> None:
    os.pwrite(room, _HINT.pack(used, used ^ _COMPLEMENT), 0)
