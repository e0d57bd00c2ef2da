"""How the cache of shards lies on the disk, and how a file of it is held.

    <folder>/objects/ab/abcd...     a whole file under its sha256; read-only, its time of change made of its digest
    <folder>/incoming/abcd....N     N bytes that are being fetched, or will be
    <folder>/flights/abcd...        lock of whoever fetches; there while somebody does
    <folder>/pins/abcd...           empty: this one is never evicted
    <folder>/room                   lock of whoever makes room, and a hint of the bytes in use
    <folder>/metrics/               counters of each process
There is no index: the files are the index. Whoever reads a file holds a shared lock on it, whoever evicts it needs an
exclusive one; locks are the kernel's (flock), so that a process that dies leaves none.
Belongs here: names, leases and the cheap check. Does not belong here: which file goes, and where files come from.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from av_assets.domain.errors import AvError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PARTS = ("objects", "incoming", "flights", "pins", "metrics")


class DamagedFile(Exception):  # noqa: N818 - handled within the cache, never seen outside
    """A cached file that fails the cheap check or its hash."""


@dataclass(frozen=True)
class Layout:
    """Paths below the folder of one cache."""

    folder: Path

    def make(self) -> None:
        """The folders; for this user alone, since cached frames are as private as the lake's."""
        for part in _PARTS:
            (self.folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def room(self) -> Path:
        return self.folder / "room"

    def object(self, sha256: str) -> Path:
        return Path(
            f"{self.folder}/objects/{require_digest(sha256)[:2]}/{sha256}"
        )  # one parse: hits wait for it

    def incoming(self, sha256: str, size: int) -> Path:
        return self.folder / "incoming" / f"{require_digest(sha256)}.{size}"

    def flight(self, sha256: str) -> Path:
        return self.folder / "flights" / require_digest(sha256)

    def pin(self, sha256: str) -> Path:
        return self.folder / "pins" / require_digest(sha256)

    def objects(self) -> Iterator[tuple[str, os.stat_result]]:
        """(sha256, status) of every whole file."""
        for entry in scan(self.folder / "objects"):
            for file in scan(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else ():
                if _DIGEST.fullmatch(file.name):
                    with contextlib.suppress(FileNotFoundError):
                        yield file.name, file.stat(follow_symlinks=False)

    def reserved(self) -> Iterator[tuple[str, int, int]]:
        """(sha256, bytes that it will have, bytes that it has) of every file that is being fetched."""
        for file in scan(self.folder / "incoming"):
            sha256, _, size = file.name.partition(".")
            if _DIGEST.fullmatch(sha256) and size.isdigit():
                with contextlib.suppress(FileNotFoundError):
                    yield sha256, int(size), file.stat(follow_symlinks=False).st_size

    def pinned(self) -> set[str]:
        return {file.name for file in scan(self.folder / "pins")}


def scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries


def require_digest(sha256: str) -> str:
    """Raises AvError (bad_digest): names of cached files are made of digests and of nothing else."""
    if not _DIGEST.fullmatch(sha256):
        raise AvError(
            f"{sha256[:80]!r} is not a sha256", code="bad_digest", remedy="64 hexadecimal digits, lower case"
        )
    return sha256


def stamp_ns(sha256: str) -> int:
    """The time of change that the whole file of this digest has: whoever writes into it changes that.

    It lies before 1980, so that no clock of today sets it by chance, and file systems still update times of access.
    """
    return int(sha256[:7], 16) * 1_000_000_000 + int(sha256[7:14], 16)


@dataclass
class Lease:
    """A cached file that stays while this is open; other processes see the lock."""

    path: Path
    descriptor: int

    def close(self) -> None:
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            # A forked child holds the same lock through its copy of the descriptor: closing alone would not end it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def leased(path: Path, sha256: str, size: int, *, hashed: bool = False) -> Lease | None:
    """The file, held, and noted as used now; None where it is not there.

    Args:
        hashed: read all bytes, too.

    Raises:
        DamagedFile: its size, time of change or bytes are not those of the digest.
    """
    held = hold(path)
    if held is None:
        return None
    try:
        _check(held.descriptor, sha256, size, hashed)
        os.utime(held.descriptor, ns=(time.time_ns(), stamp_ns(sha256)))
    except BaseException:
        held.close()
        raise
    return held


def hold(path: Path) -> Lease | None:
    """The file with a shared lock on it, unchecked; None where it is gone.

    Raises:
        DamagedFile: it is a link, or the disk does not give it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EIO):
            raise DamagedFile(error.strerror) from error
        raise
    held = Lease(path, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # an evictor holds it for as long as an unlink takes
    if os.fstat(descriptor).st_nlink == 0:
        held.close()
        return None
    return held


def digest_of(held: Lease) -> str:
    """sha256 of the bytes that are held, wherever their name is by now; empty where the disk does not give them."""
    try:
        with os.fdopen(held.descriptor, "rb", closefd=False) as file:
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _check(descriptor: int, sha256: str, size: int, hashed: bool) -> None:
    status = os.fstat(descriptor)
    if status.st_size != size:
        raise DamagedFile("size")
    if status.st_mtime_ns != stamp_ns(sha256):
        raise DamagedFile("written to")
    if hashed and digest_of(Lease(Path(), descriptor)) != sha256:
        raise DamagedFile("bytes")


def publish(incoming: Path, target: Path, sha256: str) -> Lease:
    """Let a verified file appear under its digest; it is held before anybody can evict it."""
    incoming.chmod(0o444)
    os.utime(incoming, ns=(time.time_ns(), stamp_ns(sha256)))
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = hold(incoming)
    if held is None:
        raise FileNotFoundError(incoming)
    try:
        incoming.replace(target)
    except BaseException:
        held.close()
        raise
    held.path = target
    return held


def unlink_unless_held(path: Path) -> bool:
    """Remove the file where nobody holds it; whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    except OSError:  # a link, or a disk that does not give it: nobody can hold it
        path.unlink(missing_ok=True)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
