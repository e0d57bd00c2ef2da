"""What a landed folder must be before anything of it is read: marker, drive.yaml, files inside, checksums.

Belongs here: judging the folder and listing its files. Does not belong here: copying (`ingest`), the content
of logs (`inspect`).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from av_assets.domain.errors import LandingError, LogError
from av_assets.domain.evidence.manifest import safe_relative_path
from av_assets.domain.logs.drive_spec import MARKER_FILE, SPEC_FILE, DriveSpec, read_drive_spec, slug
from av_assets.domain.logs.formats import LOG_ENDINGS, find_logs

if TYPE_CHECKING:
    from av_assets.policies.landing import LandingPolicy

SUMS_FILE = "SHA256SUMS"
BAGIT_FILE = "manifest-sha256.txt"
MAX_SUMS_BYTES = 64 << 20
_SUM_LINE = re.compile(r"^([0-9a-fA-F]{64})[ \t]+\*?(.+)$")


@dataclass(frozen=True)
class LandedFile:
    """One file to ingest: path inside the folder, size in bytes, and its sha256 where declared."""

    path: str
    bytes: int
    sha256: str | None = None


@dataclass(frozen=True)
class LandedDrive:
    """A folder that may be ingested: files in path order, without the marker."""

    folder: Path
    spec: DriveSpec
    files: tuple[LandedFile, ...]
    logs: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def landed_drive(folder: Path, policy: LandingPolicy) -> LandedDrive:
    """Check a landing folder and list what to ingest. Nothing large is read.

    Raises:
        LandingError: missing_folder, missing_marker, missing_drive_yaml, bad_drive_yaml, id_mismatch,
            unsafe_name, symlink_escape, not_a_file, too_many_files, file_too_large, missing_log, no_logs,
            bad_checksums, missing_checksums, checksum_missing_file, permission_denied.
        DriveIdError: the id in drive.yaml breaks the grammar.
    """
    if not folder.is_dir():
        raise LandingError("no such folder", code="missing_folder", file=folder)
    if policy.require_marker and not (folder / MARKER_FILE).is_file():
        reason = f"the marker {MARKER_FILE} is missing: the upload is not complete"
        raise LandingError(reason, code="missing_marker", file=folder, remedy="write the marker last")
    spec = read_drive_spec(folder / SPEC_FILE)
    if spec.drive != folder.name:
        reason = f"the folder is called {folder.name!r}, drive.yaml says {spec.drive!r}"
        raise LandingError(reason, code="id_mismatch", file=folder / SPEC_FILE, drive=spec.drive)
    sizes = _sizes(folder, spec.drive, policy)
    sums = _checksums(folder, spec.drive, sizes)
    if policy.require_checksums and not sums:
        raise LandingError(f"neither {SUMS_FILE} nor {BAGIT_FILE}", code="missing_checksums", file=folder)
    files = tuple(LandedFile(path, size, sums.get(path)) for path, size in sorted(sizes.items()))
    return LandedDrive(folder, spec, files, _logs(folder, spec))


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


def _checksums(folder: Path, drive: str, sizes: dict[str, int]) -> dict[str, str]:
    """Declared sha256 by path; every file declared must be there."""
    found: dict[str, str] = {}
    for name in (SUMS_FILE, BAGIT_FILE):
        if name not in sizes:
            continue
        for path, digest in _parse_sums(folder / name, drive, escaped=name == BAGIT_FILE):
            if found.setdefault(path, digest) != digest:
                raise LandingError(
                    f"two checksums for {path}", code="bad_checksums", file=folder / name, drive=drive
                )
            if path not in sizes and path != MARKER_FILE:
                raise LandingError(
                    f"{name} names {path}, which is not there", code="checksum_missing_file",
                    file=folder / path, drive=drive, remedy="land the missing file",
                )  # fmt: skip
    return found


def _parse_sums(file: Path, drive: str, escaped: bool) -> list[tuple[str, str]]:
    """Lines of `sha256sum` or of a BagIt manifest (RFC 8493 section 2.1.3, percent encoding of line ends)."""
    try:
        if file.stat().st_size > MAX_SUMS_BYTES:
            raise LandingError("the checksum file is too large", code="bad_checksums", file=file, drive=drive)
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LandingError("cannot read checksums", code="bad_checksums", file=file, drive=drive) from error
    sums: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _SUM_LINE.match(line)
        path = match.group(2).strip() if match else ""
        path = unquote(path) if escaped else path.removeprefix("./")
        try:
            sums.append((safe_relative_path(path), match.group(1).lower() if match else ""))
        except ValueError as error:
            reason = f"line {number} is no checksum of a file in this folder"
            raise LandingError(reason, code="bad_checksums", file=file, drive=drive) from error
    return sums


def _logs(folder: Path, spec: DriveSpec) -> tuple[str, ...]:
    """Declared logs must exist; without a declaration at least one must be found. Damage is judged later."""
    for name in spec.logs:
        if not (folder / name).exists():
            raise LandingError(f"{name} is declared and missing", code="missing_log", file=folder / name,
                               drive=spec.drive)  # fmt: skip
    if spec.logs:
        return spec.logs
    try:
        found = find_logs(folder)
    except LogError as error:
        if error.code in ("no_logs", "not_found"):
            raise LandingError(
                "the folder holds no log", code="no_logs", file=folder, drive=spec.drive
            ) from error
        return ()  # it looks like a log: it is ingested, inspected and quarantined with its own reason
    return tuple(str(log.path.relative_to(folder)) for log in found.logs)


def sniff_drive_spec(path: Path) -> DriveSpec:
    """A spec for a bare log or folder of logs without drive.yaml: the id comes from the name.

    A folder that has a drive.yaml keeps it.

    Raises:
        LogError: there is no log at `path`.
        LandingError: its drive.yaml is broken.
    """
    if (path / SPEC_FILE).is_file():
        return read_drive_spec(path / SPEC_FILE)
    find_logs(path)
    name = path.absolute().name
    for ending in sorted(LOG_ENDINGS, key=len, reverse=True):
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return DriveSpec(drive=slug(name))
