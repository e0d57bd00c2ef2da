"""A worker that is killed in any stage leaves nothing half-written, and the rerun gives the same digests."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from av_assets.drives import STAGES
from tests.faults.conftest import install

DRIVE = "veh001-20250601t080000z"
MOMENTS = ("compute", "store", "manifest")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_stages_end_in_the_digests_of_an_undisturbed_run(
    tmp_path: Path, pretrained: Path, short_drive_folder: Path, short_truth: Path
) -> None:
    calm, disturbed = (install(tmp_path / name, pretrained) for name in ("calm", "disturbed"))
    for place in (calm, disturbed):
        (place.home / "truth").symlink_to(short_truth)
    calm.av("land", str(short_drive_folder), "--here")
    disturbed.av("land", str(short_drive_folder))
    disturbed.run(
        "-c", f"from av_assets.cli import _instance; _instance().add_dynamic_partitions('drive', ['{DRIVE}'])"
    )
    for number, stage in enumerate(STAGES):
        done = disturbed.run("-m", "tests.faults.killed", DRIVE, stage, MOMENTS[number % 3], check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
        assert disturbed.lake.manifest(stage, DRIVE) is None
        disturbed.av("backfill", DRIVE, "--assets", stage, "--here")
        assert disturbed.lake.require(stage, DRIVE).digest == calm.lake.require(stage, DRIVE).digest, stage
        assert disturbed.lake.verify(disturbed.lake.require(stage, DRIVE)) == []
