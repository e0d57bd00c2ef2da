"""A short synthetic drive with stand-ins for its redacted clips, recorded once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from av_assets.domain.logs.drive_spec import DriveSpec, read_drive_spec
from av_assets.domain.logs.reader import LogReader, image_payload
from av_assets.domain.privacy.frames import ClipRow, ClipWriter
from av_assets.domain.simulation.recorder import record_drive
from av_assets.domain.simulation.samples import short_drive
from tests.domain.sync.sync_runs import sync

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.sync.synchronize import SyncSummary


@dataclass(frozen=True)
class Drive:
    folder: Path
    redacted: Path
    spec: DriveSpec


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    root = tmp_path_factory.mktemp("rig")
    folder = record_drive(short_drive(), root / "landing", root / "truth")
    spec = read_drive_spec(folder / "drive.yaml")
    redacted = root / "redacted"
    redacted.mkdir()
    with LogReader(folder) as reader:
        for role, stream in spec.streams.items():
            if stream.kind == "camera":
                (redacted / role).mkdir()
                with ClipWriter(redacted / role / "00000.parquet") as writer:
                    for raw in reader.messages({stream.topic}):
                        picture = image_payload(raw)
                        data = bytes(picture.data)
                        writer.write(ClipRow(picture.sensor_ns, raw.log_ns, picture.encoding, data, 0, ""))
    return Drive(folder, redacted, spec)


@pytest.fixture(scope="session")
def synced(drive: Drive, tmp_path_factory: pytest.TempPathFactory) -> tuple[SyncSummary, Path]:
    """The drive synchronized as a whole; not to be written to."""
    out = tmp_path_factory.mktemp("synced")
    return sync(drive, out), out
