"""The landing area: where vehicles' disks are copied to, one folder per drive, the marker last.

Belongs here: what lies there and putting something there. Does not belong here: ingesting it, judging it.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from av_assets.domain.errors import AvError, LandingError
from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.logs.drive_spec import MARKER_FILE, SPEC_FILE, drive_id, read_drive_spec, slug


@dataclass(frozen=True)
class LandedFolder:
    """One folder of the landing area, seen from outside: nothing in it has been read.

    Attributes:
        fingerprint: digest of names, sizes and modification times; another one means that somebody changed it.
        complete: the marker is there.
        quiet_s: seconds since the last modification.
    """

    name: str
    path: Path
    fingerprint: str
    complete: bool
    quiet_s: float


class Landing(dg.ConfigurableResource["Landing"]):
    """A folder of drive folders."""

    path: str

    @property
    def root(self) -> Path:
        return Path(self.path)

    def folder(self, drive: str) -> Path:
        return self.root / drive_id(drive)

    def folders(self, now_s: float) -> Iterator[LandedFolder]:
        """Every drive folder in name order; names that start with a dot are copies in progress."""
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if path.is_dir() and not path.name.startswith("."):
                yield _look(path, now_s)

    def land(self, source: Path, drive: str | None = None) -> str:
        """Copy a drive folder, a bare log folder or a single log into the landing area; returns the drive id.

        The copy grows under a hidden name and appears at once, the marker with it.

        Raises:
            LandingError: there is nothing at `source`, or its drive.yaml is bad.
            DriveIdError: the id breaks the grammar.
        """
        from av_assets.domain.logs.landing import sniff_drive_spec

        source = source.resolve()
        if not source.exists():
            raise LandingError(
                "there is nothing to land", code="not_found", file=source, remedy="check the path"
            )
        has_spec = source.is_dir() and (source / SPEC_FILE).is_file()
        spec = read_drive_spec(source / SPEC_FILE) if has_spec else sniff_drive_spec(source)
        if drive is not None:
            spec = spec.model_copy(update={"drive": drive_id(drive)})
        self.root.mkdir(parents=True, exist_ok=True)
        growing = self.root / f".{spec.drive}.{uuid.uuid4().hex}"
        try:
            if source.is_dir():
                shutil.copytree(source, growing, copy_function=_copy, symlinks=True)
            else:
                growing.mkdir()
                _copy(str(source), str(growing / source.name))
            _replace(growing / SPEC_FILE, spec.to_yaml())
            _replace(growing / MARKER_FILE, "")
            target = self.root / spec.drive
            if target.exists():
                shutil.rmtree(target)
            growing.rename(target)
        except OSError as error:
            raise LandingError(
                f"cannot copy: {error.strerror}",
                code="landing_failed",
                file=error.filename or source,
                drive=spec.drive,
            ) from error
        finally:
            shutil.rmtree(growing, ignore_errors=True)
        return spec.drive

    def problem(self, folder: LandedFolder) -> AvError | None:
        """Why this folder can never become a partition, if so."""
        try:
            drive_id(folder.name, folder.path)
        except AvError as error:
            return error
        return None

    @staticmethod
    def row_name(folder: LandedFolder) -> str:
        """A safe name for a folder whose own name is not an id."""
        return slug(folder.name)


def _look(path: Path, now_s: float) -> LandedFolder:
    seen, newest = [], path.stat().st_mtime
    for folder, _, names in os.walk(path):
        for name in names:
            stat = (Path(folder) / name).lstat()
            newest = max(newest, stat.st_mtime)
            seen.append([str(Path(folder, name).relative_to(path)), stat.st_size, stat.st_mtime_ns])
    return LandedFolder(
        path.name, path, sha256_json(sorted(seen))[:16], (path / MARKER_FILE).is_file(), now_s - newest
    )


def _copy(source: str, target: str) -> str:
    # No hard link: the vehicle's disk must not be able to change what was landed.
    return str(shutil.copy2(source, target, follow_symlinks=False))


def _replace(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text, "utf-8")
