"""A landing area in an S3 bucket: one prefix per drive, the marker uploaded last.

Belongs here: listing and copying out of a bucket. Does not belong here: judging a drive, folders of this machine.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from av_assets.domain.errors import EvidenceError, LandingError, TransientError
from av_assets.domain.evidence.manifest import safe_relative_path
from av_assets.domain.logs.drive_spec import MARKER_FILE, DriveSpec
from av_assets.domain.logs.files.formats import LOG_ENDINGS
from av_assets.domain.logs.ingest import CopiedFile
from resources.objects import BucketStore, Entry

if TYPE_CHECKING:
    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.policies.landing import LandingPolicy

MAX_SMALL_BYTES = 64 << 20


@dataclass(frozen=True)
class BucketDrive:
    """One drive of a bucket; see `av_assets.domain.logs.landing.Landed`.

    Attributes:
        scratch: local folder for its small files.
    """

    store: BucketStore
    name: str
    where: str
    scratch: Path

    @cached_property
    def entries(self) -> dict[str, Entry]:
        prefix = f"{self.name}/"
        listed = ((entry.key[len(prefix) :], entry) for entry in self.store.entries(prefix))
        return {path: entry for path, entry in listed if path and not path.endswith("/")}

    def local(self, path: str) -> Path:
        target = self.scratch / path
        entry = self.entries.get(path)
        if entry is not None and not target.exists():
            if entry.bytes > MAX_SMALL_BYTES:
                raise LandingError(
                    "too large to be read whole", code="file_too_large", file=f"{self.where}/{path}"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            self.store.fetch(entry.key, target)
        return target

    def has(self, path: str) -> bool:
        return path in self.entries or any(other.startswith(f"{path}/") for other in self.entries)

    def sizes(self, drive: str, policy: LandingPolicy) -> dict[str, int]:
        found = {}
        for path, entry in self.entries.items():
            try:
                safe_relative_path(path)
            except ValueError as error:
                raise self._refusal(
                    "a key that is no safe path", "unsafe_name", ascii(path), drive
                ) from error
            if entry.bytes > policy.max_file_bytes:
                raise self._refusal(f"{entry.bytes} bytes", "file_too_large", path, drive)
            if path != MARKER_FILE:
                found[path] = entry.bytes
        if len(found) > policy.max_files:
            raise self._refusal(f"more than {policy.max_files} files", "too_many_files", "", drive)
        return found

    def version(self, path: str) -> str:
        return self.entries[path].version

    def copy(self, path: str, target: Path, expected_sha256: str | None, watch: Stopwatch) -> CopiedFile:
        """Download and hash in one pass.

        Raises:
            LandingError: checksum_mismatch or missing_file.
            TransientError: changed_while_reading, or the bucket or the disk refused.
        """
        digest, total = hashlib.sha256(), 0
        with watch("copy"), _whole_or_absent(target):
            try:
                with target.open("wb") as file:
                    for chunk in self.store.chunks(self.entries[path].key):
                        digest.update(chunk)
                        total += file.write(chunk)
            except (KeyError, EvidenceError) as error:
                raise self._refusal("the object is gone", "missing_file", path, self.name) from error
            except OSError as error:
                raise TransientError(
                    f"cannot copy: {error.strerror}", code="copy_failed", file=target
                ) from error
            if total != self.entries[path].bytes:
                reason = "the object changed while it was read"
                raise TransientError(reason, code="changed_while_reading", file=f"{self.where}/{path}")
            if expected_sha256 not in (None, digest.hexdigest()):
                reason = f"sha256 is {digest.hexdigest()}, declared is {expected_sha256}"
                raise self._refusal(reason, "checksum_mismatch", path, self.name)
        return CopiedFile(total, digest.hexdigest())

    def logs(self, spec: DriveSpec) -> tuple[str, ...]:
        # By name: what a file really is shows once it is ingested, and costs no request per object here.
        found = tuple(sorted(path for path in self.entries if path.lower().endswith(LOG_ENDINGS)))
        if not found:
            raise self._refusal("the drive holds no log", "no_logs", "", spec.drive)
        return found

    def _refusal(self, reason: str, code: str, path: str, drive: str) -> LandingError:
        return LandingError(reason, code=code, file=f"{self.where}/{path}".rstrip("/"), drive=drive)


@contextmanager
def _whole_or_absent(target: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def drives_of(store: BucketStore) -> Iterator[tuple[str, list[Entry]]]:
    """Every drive of the landing area with its objects, in name order; one complete listing."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in store.entries(""):
        name, slash, _ = entry.key.partition("/")
        if slash and not name.startswith("."):
            found[name].append(entry)
    yield from sorted(found.items())
