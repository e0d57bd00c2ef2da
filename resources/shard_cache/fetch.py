"""Bringing the bytes of one digest into a file.

Belongs here: stores as sources, a disk that is full meanwhile, the hash of what came. Does not belong here: who may
fetch, and what becomes of the file. Retries are the store's own (`object_patience`).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from av_assets.domain.errors import EvidenceError, TransientError
from resources.object_keys import object_key
from resources.objects import BucketStore, FolderStore
from resources.shard_cache.files import DamagedFile, digest_of, hold

Fetch = Callable[[str, Path], None]
"""Writes the bytes of a sha256 into the file, which is there and empty. Raises AvError where it cannot."""


def fetching(source: Fetch | BucketStore | FolderStore) -> Callable[[str, int, Path], None]:
    """(sha256, bytes, file) -> the file is written. A bucket's object of another size is refused before it arrives."""
    if isinstance(source, BucketStore):
        return lambda sha256, size, file: source.fetch(object_key(sha256), file, expect_bytes=size)
    if isinstance(source, FolderStore):
        return lambda sha256, size, file: _copied(source.root / object_key(sha256), file)
    return lambda sha256, size, file: source(sha256, file)


def fill(fetch: Callable[[Path], None], incoming: Path, shrink: Callable[[], int]) -> None:
    """Fetch; while the disk is full, evict and begin again.

    Args:
        shrink: evicts something and says how many bytes went.

    Raises:
        TransientError: disk_full, and there is nothing left to evict; fetch_failed. What `fetch` raises.
    """
    while True:
        try:
            return fetch(incoming)
        except (OSError, TransientError) as error:
            if not _is_full(error):
                if isinstance(error, TransientError):
                    raise
                reason = f"cannot fetch: {error.strerror or error}"
                raise TransientError(reason, code="fetch_failed", file=incoming) from error
            incoming.open("wb").close()  # what came so far is in the way; the reservation stays
            if not shrink():
                raise TransientError(
                    "the disk is full, and nothing that is not in use can be evicted",
                    code="disk_full",
                    file=incoming.parent.parent,
                    remedy="free space and rerun",
                ) from error


def verified(path: Path, sha256: str, size: int) -> bool:
    """Whether the file's bytes are those of the digest."""
    try:
        held = hold(path)
    except DamagedFile:
        return False
    if held is None:
        return False
    try:
        return os.fstat(held.descriptor).st_size == size and digest_of(held) == sha256
    finally:
        held.close()


def _copied(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError as error:
        raise EvidenceError("no such object", code="missing_object", file=source) from error


def _is_full(error: OSError | TransientError) -> bool:
    return getattr(error, "errno", None) == errno.ENOSPC or getattr(error, "code", "") == "disk_full"
