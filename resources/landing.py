"""The landing area: where vehicles' disks are copied to, one folder per drive, the marker last.

Belongs here: what lies there and putting something there, on a folder or in a bucket. Does not belong here: ingesting
or judging it.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import dagster as dg

from av_assets.domain.errors import AvError, LandingError
from av_assets.domain.evidence.digests import sha256_bytes, sha256_file, sha256_json
from av_assets.domain.logs.drive_spec import (
    MARKER_FILE,
    SPEC_FILE,
    DriveSpec,
    drive_id,
    read_drive_spec,
    slug,
)
from av_assets.domain.logs.files.formats import companions
from av_assets.domain.logs.landed_folder import LandedFolder
from av_assets.domain.logs.landing import BAGIT_FILE, SUMS_FILE, Landed
from resources.landing_bucket import BucketDrive, drives_of
from resources.objects import BucketStore, Entry


@dataclass(frozen=True)
class Arrival:
    """One drive of the landing area, seen from outside: nothing in it has been read.

    Attributes:
        where: folder or address, for people.
        fingerprint: digest of names, sizes and versions; another one means that somebody changed it.
        complete: the marker is there.
        quiet_s: seconds since the last modification.
    """

    name: str
    where: str
    fingerprint: str
    complete: bool
    landed_ns: int
    quiet_s: float


class Landing(dg.ConfigurableResource["Landing"]):
    """A landing area.

    Attributes:
        path: a folder, or `s3://bucket/prefix`.
        endpoint: S3 endpoint, for stores that are not AWS.
    """

    path: str
    endpoint: str | None = None

    @property
    def root(self) -> Path:
        """The folder; a bucket has none."""
        return Path(unquote(urlparse(self.path).path))

    @property
    def bucket(self) -> BucketStore | None:
        parsed = urlparse(self.path)
        return (
            BucketStore(parsed.netloc, parsed.path.strip("/"), self.endpoint)
            if parsed.scheme == "s3"
            else None
        )

    def arrivals(self, now_s: float) -> Iterator[Arrival]:
        """Every drive in name order; names that start with a dot are copies in progress."""
        bucket = self.bucket
        if bucket is not None:
            for name, entries in drives_of(bucket):
                yield _seen(name, f"{self.path.rstrip('/')}/{name}", entries, now_s)
            return
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if path.is_dir() and not path.name.startswith("."):
                yield _seen(path.name, str(path), list(_files(path)), now_s)

    def arrival(self, drive: str, now_s: float) -> Arrival:
        """One drive as `arrivals` sees it.

        Raises:
            LandingError: missing_folder.
        """
        bucket = self.bucket
        where = f"{self.path.rstrip('/')}/{drive_id(drive)}"
        entries = list(bucket.entries(f"{drive}/")) if bucket is not None else list(_files(self.root / drive))
        if not entries:
            raise LandingError("nothing lies there", code="missing_folder", file=where, drive=drive)
        return _seen(drive, where, entries, now_s)

    def drive(self, drive: str, scratch: Path) -> Landed | None:
        """The landed drive, or None where nothing (any more) lies there.

        Args:
            scratch: local folder for the small files of a drive that lies elsewhere.
        """
        bucket, name = self.bucket, drive_id(drive)
        if bucket is not None:
            found = BucketDrive(bucket, name, f"{self.path.rstrip('/')}/{name}", scratch)
            return found if found.entries else None
        return LandedFolder(self.root / name) if (self.root / name).is_dir() else None

    def land(self, source: Path, drive: str | None = None) -> str:
        """Copy a drive folder, a bare log folder or a single log into the landing area; returns the drive id.

        In a folder the copy grows under a hidden name and appears at once; in a bucket the marker is uploaded last.

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
        try:
            if (bucket := self.bucket) is not None:
                _upload(bucket, source, spec)
            else:
                _copy_in(self.root, source, spec)
        except OSError as error:
            raise LandingError(
                f"cannot copy: {error.strerror}",
                code="landing_failed",
                file=error.filename or source,
                drive=spec.drive,
            ) from error
        return spec.drive

    def problem(self, arrival: Arrival) -> AvError | None:
        """Why this arrival can never become a partition, if so."""
        try:
            drive_id(arrival.name, Path(arrival.where))
        except AvError as error:
            return error
        return None

    @staticmethod
    def row_name(arrival: Arrival) -> str:
        """A safe name for an arrival whose own name is not an id."""
        return slug(arrival.name)


def _seen(name: str, where: str, entries: list[Entry], now_s: float) -> Arrival:
    newest = max((entry.modified_s for entry in entries), default=now_s)
    marker = [
        entry
        for entry in entries
        if entry.key.rsplit("/", 1)[-1] == MARKER_FILE and entry.key.count("/") <= 1
    ]
    fingerprint = sha256_json(sorted([e.key, e.bytes, e.version] for e in entries))[:16]
    return Arrival(name, where, fingerprint, bool(marker), int(newest * 1e9), now_s - newest)


def _files(folder: Path) -> Iterator[Entry]:
    """Keys as a bucket would have them, `<drive>/<path>`; the folder itself counts, since removing shows there only."""
    for parent, _, names in os.walk(folder):
        for name in names:
            status = Path(parent, name).lstat()
            key = f"{folder.name}/{Path(parent, name).relative_to(folder).as_posix()}"
            yield Entry(key, status.st_size, status.st_mtime, str(status.st_mtime_ns))


def _copy_in(root: Path, source: Path, spec: DriveSpec) -> None:
    root.mkdir(parents=True, exist_ok=True)
    growing = root / f".{spec.drive}.{uuid.uuid4().hex}"
    try:
        if source.is_dir():
            shutil.copytree(source, growing, copy_function=_copy, symlinks=True)
        else:
            growing.mkdir()
            for file in (source, *companions(source)):
                _copy(str(file), str(growing / file.name))
        for name, data in {**_rewritten(source, spec), MARKER_FILE: b""}.items():
            _replace(growing / name, data)
        target = root / spec.drive
        if target.exists():
            shutil.rmtree(target)
        growing.rename(target)
    finally:
        shutil.rmtree(growing, ignore_errors=True)


def _upload(bucket: BucketStore, source: Path, spec: DriveSpec) -> None:
    bucket.delete(f"{spec.drive}/{MARKER_FILE}")  # until the new one comes, the drive is incomplete
    rewritten = _rewritten(source, spec)
    paths = [source, *companions(source)]
    if source.is_dir():
        paths = [p for p in sorted(source.rglob("*")) if p.is_file() and not p.is_symlink()]
    for path in paths:
        name = path.relative_to(source).as_posix() if source.is_dir() else path.name
        if name != MARKER_FILE and name not in rewritten:
            bucket.put_file(f"{spec.drive}/{name}", path, consume=False)
    for name, data in rewritten.items():
        bucket.put(f"{spec.drive}/{name}", data)
    bucket.put(f"{spec.drive}/{MARKER_FILE}", b"")


def _rewritten(source: Path, spec: DriveSpec) -> dict[str, bytes]:
    """What landing does not copy: drive.yaml under another id, and the checksum that was declared of it."""
    old = source / SPEC_FILE
    if not old.is_file():
        return {SPEC_FILE: spec.to_yaml().encode()}
    if read_drive_spec(old) == spec:
        return {}
    made = {SPEC_FILE: spec.to_yaml().encode()}
    line = rf"(?im)^{sha256_file(old)}(?=[ \t]+\*?(\./)?{re.escape(SPEC_FILE)}[ \t\r]*$)".encode()
    for sums in (source / name for name in (SUMS_FILE, BAGIT_FILE)):
        if sums.is_file():
            made[sums.name] = re.sub(line, sha256_bytes(made[SPEC_FILE]).encode(), sums.read_bytes())
    return made


def _copy(source: str, target: str) -> str:
    # No hard link: the vehicle's disk must not be able to change what was landed.
    return str(shutil.copy2(source, target, follow_symlinks=False))


def _replace(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)
