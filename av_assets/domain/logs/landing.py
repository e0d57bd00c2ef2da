"""What a landed folder must be before anything of it is read: marker, drive.yaml, files inside, checksums.

Belongs here: judging the folder and listing its files. Does not belong here: copying (`ingest`), the content
of logs (`inspect`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

from av_assets.domain.errors import LandingError
from av_assets.domain.evidence.manifest import safe_relative_path
from av_assets.domain.logs.drive_spec import MARKER_FILE, SPEC_FILE, DriveSpec, read_drive_spec, slug
from av_assets.domain.logs.files.formats import LOG_ENDINGS, find_logs
from av_assets.domain.logs.landed_folder import LandedFolder

if TYPE_CHECKING:
    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.logs.ingest import CopiedFile
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
    """A drive that may be ingested: files in path order, without the marker."""

    spec: DriveSpec
    files: tuple[LandedFile, ...]
    logs: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


class Landed(Protocol):
    """A landed drive, wherever it lies: what can be asked of it before anything large is read.

    Attributes:
        name: the name of its folder, which has to be the drive id.
    """

    name: str

    def local(self, path: str) -> Path:
        """A local file with the bytes of a small one of its files; it need not exist where the file does not."""

    def has(self, path: str) -> bool:
        """Whether there is such a file or folder."""

    def sizes(self, drive: str, policy: LandingPolicy) -> dict[str, int]:
        """Relative path -> bytes of every file but the marker.

        Raises:
            LandingError: unsafe_name, symlink_escape, not_a_file, too_many_files, file_too_large, permission_denied.
        """

    def version(self, path: str) -> str:
        """Another value when the file changes."""

    def copy(self, path: str, target: Path, expected_sha256: str | None, watch: Stopwatch) -> CopiedFile:
        """Copy one file to `target` in one pass, as `ingest.copy_hashed` does and with its errors."""

    def logs(self, spec: DriveSpec) -> tuple[str, ...]:
        """Paths of the logs; empty where something looks like a log and cannot be told.

        Raises:
            LandingError: no_logs.
        """


def landed_drive(landed: Landed | Path, policy: LandingPolicy) -> LandedDrive:
    """Check a landing folder and list what to ingest. Nothing large is read.

    Raises:
        LandingError: missing_folder, missing_marker, missing_drive_yaml, bad_drive_yaml, id_mismatch,
            unsafe_name, symlink_escape, not_a_file, too_many_files, file_too_large, missing_log, no_logs,
            bad_checksums, missing_checksums, checksum_missing_file, permission_denied.
        DriveIdError: the id in drive.yaml breaks the grammar.
    """
    landed = LandedFolder(landed) if isinstance(landed, Path) else landed
    if policy.require_marker and not landed.has(MARKER_FILE):
        reason = f"the marker {MARKER_FILE} is missing: the upload is not complete"
        raise LandingError(reason, code="missing_marker", file=landed.name, remedy="write the marker last")
    spec = read_drive_spec(landed.local(SPEC_FILE))
    if spec.drive != landed.name:
        reason = f"the folder is called {landed.name!r}, drive.yaml says {spec.drive!r}"
        raise LandingError(reason, code="id_mismatch", file=landed.local(SPEC_FILE), drive=spec.drive)
    sizes = landed.sizes(spec.drive, policy)
    sums = _checksums(landed, spec.drive, sizes)
    if policy.require_checksums and not sums:
        reason = f"neither {SUMS_FILE} nor {BAGIT_FILE}"
        raise LandingError(reason, code="missing_checksums", file=landed.name, drive=spec.drive)
    files = tuple(LandedFile(path, size, sums.get(path)) for path, size in sorted(sizes.items()))
    return LandedDrive(spec, files, _logs(landed, spec))


def _checksums(landed: Landed, drive: str, sizes: dict[str, int]) -> dict[str, str]:
    """Declared sha256 by path; every file declared must be there."""
    found: dict[str, str] = {}
    for name in (SUMS_FILE, BAGIT_FILE):
        if name not in sizes:
            continue
        for path, digest in _parse_sums(landed.local(name), drive, escaped=name == BAGIT_FILE):
            if found.setdefault(path, digest) != digest:
                raise LandingError(
                    f"two checksums for {path}", code="bad_checksums", file=landed.local(name), drive=drive
                )
            if path not in sizes and path != MARKER_FILE:
                raise LandingError(
                    f"{name} names {path}, which is not there", code="checksum_missing_file",
                    file=path, drive=drive, remedy="land the missing file",
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


def _logs(landed: Landed, spec: DriveSpec) -> tuple[str, ...]:
    """Declared logs must exist; without a declaration at least one must be found. Damage is judged later."""
    for name in spec.logs:
        if not landed.has(name):
            reason = f"{name} is declared and missing"
            raise LandingError(reason, code="missing_log", file=name, drive=spec.drive)
    return spec.logs or landed.logs(spec)


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
