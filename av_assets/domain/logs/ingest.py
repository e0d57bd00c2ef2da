"""Copying landed files: hashed in the same pass, whole or not at all.

Belongs here: the copy. Does not belong here: what a landed folder must hold (`landing`), where files end up.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, NamedTuple

from av_assets.domain.errors import LandingError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from av_assets.domain.evidence.timing import Stopwatch

CHUNK_BYTES = 4 << 20
IN_FLIGHT = 4  # chunks between reading and the slower of hashing and writing
FLUSH_BYTES = 64 << 20  # start writing to disk this often, so that the sync at the end has little left


class CopiedFile(NamedTuple):
    """What was copied: size and digest of the source as it was read."""

    bytes: int
    sha256: str


def copy_hashed(
    source: Path, target: Path, expected_sha256: str | None = None, watch: Stopwatch | None = None
) -> CopiedFile:
    """Copy `source` to `target` in one pass: read, hash and write at once, sync, then rename into place.

    The bytes stand in a temporary file beside the target until they are complete and on disk, so `target` is
    either absent or whole. Several copies to one target may run at once: each has its own temporary file,
    one rename wins.

    Raises:
        LandingError: checksum_mismatch, missing_file, permission_denied, or not_a_file (pipes, folders).
        TransientError: changed_while_reading, or the target cannot be written (a full disk, a lost mount).
    """
    with watch("copy") if watch else nullcontext():
        try:
            reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            code = "permission_denied" if isinstance(error, PermissionError) else "missing_file"
            raise LandingError(f"cannot open: {error.strerror}", code=code, file=source) from error
        try:
            return _copy(reading, source, target, expected_sha256)
        finally:
            os.close(reading)


def _copy(reading: int, source: Path, target: Path, expected: str | None) -> CopiedFile:
    before = os.fstat(reading)
    if not os.path.isfile(source):  # noqa: PTH113 - one call for links and all
        raise LandingError("not a regular file", code="not_a_file", file=source)
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        copied = _write(reading, temporary)
        after = os.fstat(reading)
        if copied.bytes != before.st_size or after.st_mtime_ns != before.st_mtime_ns:
            raise TransientError(
                "the file changed while it was read", code="changed_while_reading", file=source
            )
        if expected is not None and copied.sha256 != expected.lower():
            reason = f"sha256 is {copied.sha256}, declared is {expected.lower()}"
            raise LandingError(reason, code="checksum_mismatch", file=source)
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise TransientError(f"cannot copy: {error.strerror}", code="copy_failed", file=target) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return copied


def _write(reading: int, temporary: Path) -> CopiedFile:
    """Write to a synced temporary file; gives size and digest of what was read."""
    digest = hashlib.sha256()
    writing = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        with suppress(OSError):
            os.posix_fadvise(reading, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        total = _pump(reading, writing, digest.update)
        os.fsync(writing)
    finally:
        os.close(writing)
    return CopiedFile(total, digest.hexdigest())


def _pump(reading: int, writing: int, update: Callable[[memoryview], None]) -> int:
    """Read and hash here, write there, over a ring of buffers that are used again once written."""
    full: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
    free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
    failed: list[OSError] = []
    for _ in range(IN_FLIGHT):
        free.put(memoryview(bytearray(CHUNK_BYTES)))
    writer = threading.Thread(
        target=_writer, args=(writing, full, free, failed), name="copy-writer", daemon=True
    )
    writer.start()
    total = 0
    try:
        while not failed:
            buffer = free.get()
            got = os.readv(reading, [buffer])
            if not got:
                break
            full.put(buffer[:got])
            update(buffer[:got])
            total += got
    finally:
        full.put(None)
        writer.join()
    if failed:
        raise failed[0]
    return total


def _writer(
    writing: int,
    full: queue.SimpleQueue[memoryview | None],
    free: queue.SimpleQueue[memoryview],
    failed: list[OSError],
) -> None:
    """Write what comes until None; after an error only hand the buffers back: the reader never waits."""
    done = flushed = 0
    while (part := full.get()) is not None:
        try:
            rest = part
            while rest and not failed:
                rest = rest[os.write(writing, rest) :]
            done += len(part)
            if done - flushed >= FLUSH_BYTES:
                # Linux starts to write dirty pages back here and drops only what is clean already.
                os.posix_fadvise(writing, flushed, done - flushed, os.POSIX_FADV_DONTNEED)
                flushed = done
        except OSError as error:
            failed.append(error)
        free.put(memoryview(part.obj))


def _sync_folder(folder: Path) -> None:
    """A rename is on disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
