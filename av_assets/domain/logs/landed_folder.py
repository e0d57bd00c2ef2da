"""A landed drive as a folder of this machine: what is in it, without following a way out of it.

Belongs here: listing a local folder safely. Does not belong here: judging what a drive must hold (`landing`).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from av_assets.domain.errors import LandingError, LogError
from av_assets.domain.evidence.manifest import safe_relative_path
from av_assets.domain.logs.drive_spec import MARKER_FILE, DriveSpec
from av_assets.domain.logs.files.formats import find_logs
from av_assets.domain.logs.ingest import CopiedFile, copy_hashed

if TYPE_CHECKING:
    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.policies.landing import LandingPolicy


class LandedFolder:
    """One drive folder on a file system; see `landing.Landed`."""

    def __init__(self, path: Path) -> None:
        """Raises: LandingError: missing_folder."""
        if not path.is_dir():
            raise LandingError("no such folder", code="missing_folder", file=path)
        self.path, self.name = path, path.name

    def local(self, path: str) -> Path:
        return self.path / path

    def has(self, path: str) -> bool:
        return (self.path / path).exists()

    def sizes(self, drive: str, policy: LandingPolicy) -> dict[str, int]:
        return _sizes(self.path, drive, policy)

    def version(self, path: str) -> str:
        """Changes when the file does: how an interrupted ingest knows a file again."""
        status = (self.path / path).stat()
        return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"

    def copy(self, path: str, target: Path, expected_sha256: str | None, watch: Stopwatch) -> CopiedFile:
        return copy_hashed(self.path / path, target, expected_sha256, watch)

    def logs(self, spec: DriveSpec) -> tuple[str, ...]:
        try:
            found = find_logs(self.path)
        except LogError as error:
            if error.code in ("no_logs", "not_found"):
                reason = "the folder holds no log"
                raise LandingError(reason, code="no_logs", file=self.path, drive=spec.drive) from error
            return ()  # it looks like a log: it is ingested, inspected and quarantined with its own reason
        return tuple(str(log.path.relative_to(self.path)) for log in found.logs)


def _sizes(folder: Path, drive: str, policy: LandingPolicy) -> dict[str, int]:
    """Relative path -> bytes of every file but the marker."""
    sizes: dict[str, int] = {}
    root = folder.resolve()

    def refuse(error: OSError) -> None:
        raise LandingError(
            f"cannot list: {error.strerror}", code="permission_denied", file=error.filename, drive=drive
        ) from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        for name in folders:
            _inside(Path(parent) / name, root, drive)
        for name in names:
            path = Path(parent) / name
            relative = str(path.relative_to(folder))
            if relative != MARKER_FILE:
                sizes[_safe(relative, path, drive)] = _size(path, root, drive, policy)
        if len(sizes) > policy.max_files:
            raise LandingError(
                f"more than {policy.max_files} files", code="too_many_files", file=folder, drive=drive
            )
    return sizes


def _safe(relative: str, path: Path, drive: str) -> str:
    try:
        relative.encode("utf-8")
        return safe_relative_path(relative)
    except ValueError as error:
        raise LandingError("a file name with control characters", code="unsafe_name", drive=drive,
                           file=ascii(str(path))) from error  # fmt: skip


def _inside(path: Path, root: Path, drive: str) -> None:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise LandingError("a link leads out of the folder", code="symlink_escape", file=path, drive=drive)


def _size(path: Path, root: Path, drive: str, policy: LandingPolicy) -> int:
    _inside(path, root, drive)
    try:
        status = path.stat()
    except OSError as error:
        raise LandingError(
            f"cannot read: {error.strerror}", code="not_a_file", file=path, drive=drive
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise LandingError("neither file nor folder", code="not_a_file", file=path, drive=drive)
    if status.st_size > policy.max_file_bytes:
        raise LandingError(f"{status.st_size} bytes", code="file_too_large", file=path, drive=drive)
    return status.st_size
