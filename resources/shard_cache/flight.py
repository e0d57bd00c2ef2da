"""One fetch for each digest among all threads and processes of a machine.

The lock is a file that exists while somebody fetches. Whoever fails writes why into it before it goes: those who were
waiting fail with the same words at once, instead of asking a dead store one after the other.
Belongs here: waiting for a lock, and what is handed on to those who waited. Does not belong here: fetching.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from av_assets.domain.errors import AvError, EvidenceError, TransientError
from resources.shard_cache.files import Layout, scan

_KINDS: dict[str, type[AvError]] = {kind.__name__: kind for kind in (AvError, EvidenceError, TransientError)}
_LONGEST_NOTE = 1 << 16


def lock(descriptor: int, wait_s: float, path: Path, longest_pause_s: float = 0.05) -> None:
    """Take the exclusive lock.

    Args:
        longest_pause_s: between two looks; of the order of how long the lock is usually held.

    Raises:
        TransientError: cache_busy, it was not free within `wait_s`.
    """
    give_up, tries = time.monotonic() + wait_s, 0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise TransientError(
                    f"somebody has held this lock of the cache for {wait_s:g} s",
                    code="cache_busy",
                    file=path,
                    remedy="look for a stopped process that uses this cache",
                ) from None
            time.sleep(min(longest_pause_s, 0.0005 * 2**tries))
            tries = min(tries + 1, 10)
        else:
            return


@contextmanager
def flight(path: Path, wait_s: float, *, heed: bool = True) -> Iterator[None]:
    """Be the only one who fetches what this lock is for.

    Args:
        heed: fail as the one failed who was waited for; else go on.

    Raises:
        TransientError: cache_busy.
        AvError: of the one who fetched while this one waited, and failed.
    """
    descriptor = _own(path, wait_s, heed)
    try:
        yield
    except AvError as error:
        with suppress(OSError):  # on a full disk the others find out for themselves
            os.pwrite(descriptor, _note(error), 0)
        raise
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def abandoned(path: Path) -> bool:
    """Whether nobody holds the lock any more; its file, if a killed process left it, is removed."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def sweep_rests(layout: Layout) -> None:
    """Remove half files and locks of killed processes; nobody else makes room meanwhile."""
    for sha256, size, _ in list(layout.reserved()):
        if abandoned(layout.flight(sha256)):
            layout.incoming(sha256, size).unlink(missing_ok=True)
    for file in list(scan(layout.folder / "flights")):
        abandoned(Path(file.path))


def _own(path: Path, wait_s: float, heed: bool) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            lock(descriptor, wait_s, path)
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)  # the note of one who was killed before he could take it away
                return descriptor
            failure = _read_note(os.pread(descriptor, _LONGEST_NOTE, 0))
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if failure is not None and heed:
            raise failure


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the path still names the file that is locked, and not a successor."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _note(error: AvError) -> bytes:
    kind = next(name for name, kind in reversed(_KINDS.items()) if isinstance(error, kind))
    said = {"kind": kind, "reason": error.reason[:1000], "code": error.code, "file": error.file,
            "drive": error.drive, "remedy": error.remedy}  # fmt: skip
    return json.dumps(said).encode()


def _read_note(data: bytes) -> AvError | None:
    if not data:
        return None
    try:
        said = json.loads(data)
        kind = _KINDS[said.pop("kind")]
        return kind(said.pop("reason"), **said)
    except (ValueError, KeyError, TypeError):  # cut off by a full disk
        return None
