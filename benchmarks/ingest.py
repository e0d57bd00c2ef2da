"""Landing a drive in the lake, against what a person would type: cp, sync, sha256sum.

Ours copies, verifies every declared SHA-256, stores under digests and writes a manifest; the peer copies the
same files, syncs them and verifies the same SHA256SUMS. Both end with the bytes on disk and read sources that
the page cache holds. Reflinks are off: a clone would move no bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from av_assets.domain.logs.drive_spec import MARKER_FILE, SPEC_FILE
from av_assets.domain.logs.landing import SUMS_FILE
from benchmarks.figures import Figure, Say, Settings, paired_ratio, take_turns
from benchmarks.report import file_system

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TARGET = 0.7
REPEATS = 5
FILES = 4
DRIVE = "veh001-20250601t080000z"
BLOCK_BYTES = 8 << 20


def run(settings: Settings, say: Say) -> list[Figure]:
    """`ingest`: seconds of the raw_logs asset's own work over seconds of the shell's."""
    landing, parts = settings.work / "landing", dict[str, float]()
    say("writing recordings")
    folder = _recordings(landing / DRIVE, settings.ingest_bytes)
    lake, copied = settings.work / "lake", settings.work / "copied"
    ours = partial(_into_lake, landing, lake, parts)
    peer = partial(_by_shell, folder, copied)
    reset = partial(_reset, lake, copied)
    turns = take_turns(("lake", ours), ("shell", peer), settings.times(REPEATS), say, reset)
    kind = file_system(settings.work)
    note = f"{settings.ingest_bytes / 1e9:.2f} GB in {FILES} incompressible files on {kind}, sources cached"
    if kind == "tmpfs":
        note += "; this is memory, not a disk: choose another folder with --work"
    measured = "lake ingest with verification / cp + sync + sha256sum -c"
    ratio = paired_ratio(turns.seconds)
    return [Figure("ingest", measured, ratio, "x", TARGET, turns.seconds, parts, turns.cpu, note)]


def _recordings(folder: Path, size: int) -> Path:
    """A complete landed drive; os.urandom, since a disk or a file system might compress anything else."""
    folder.mkdir(parents=True)
    names = [f"recording_{number}.mcap" for number in range(FILES)]
    lines = [f"{_random_file(folder / name, size // FILES)}  {name}\n" for name in names]
    (folder / SUMS_FILE).write_text("".join(lines))
    spec = f"schema: 1\ndrive: {DRIVE}\nvehicle: veh001\nlogs: [{', '.join(names)}]\n"
    (folder / SPEC_FILE).write_text(spec)
    (folder / MARKER_FILE).touch()
    return folder


def _random_file(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, BLOCK_BYTES):
            block = os.urandom(min(BLOCK_BYTES, size - start))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _reset(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    os.sync()  # nobody pays for what somebody else left to be written


def _into_lake(landing: Path, root: Path, parts: dict[str, float]) -> None:
    # The asset's own function, so that what is measured is what runs; Dagster itself is another benchmark.
    from av_assets.foundations.ingestion import _ingest
    from resources.lake import Lake
    from resources.landing import Landing

    lake = Lake(uri=root.as_uri(), scratch=str(root / "scratch"))
    made = _ingest(lake, Landing(path=str(landing)), "1", DRIVE)
    assert len(made.manifest.files) == FILES + 2  # and drive.yaml and SHA256SUMS
    parts.update(_rounded(made.seconds))


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {part: round(value, 3) for part, value in seconds.items()}


def _by_shell(folder: Path, target: Path) -> None:
    target.mkdir()
    command = f'cp --reflink=never "$1"/* "$2" && sync "$2"/* && cd "$2" && sha256sum --quiet -c {SUMS_FILE}'
    subprocess.run(["sh", "-c", command, "sh", str(folder), str(target)], check=True)
