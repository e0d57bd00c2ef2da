"""Every fault does what it says, and the platform's own checks answer with what the fault expects."""

from __future__ import annotations

from pathlib import Path

import pytest

from av_assets.domain.errors import AvError, PoisonError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.logs.drive_spec import read_drive_spec
from av_assets.domain.logs.ingest import copy_hashed
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.integrity import check_log
from av_assets.domain.logs.landing import landed_drive
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.simulation.faults import FAULTS, inject
from av_assets.policies.integrity import IntegrityPolicy
from av_assets.policies.landing import LandingPolicy


def _answers(folder: Path, scratch: Path) -> set[str]:
    """The reason code of the refusal, or the rules that fail."""
    try:
        landed = landed_drive(folder, LandingPolicy.load())
        for i, file in enumerate(landed.files):
            copy_hashed(folder / file.path, scratch / str(i), file.sha256)
    except AvError as error:
        return {error.code}
    inspection = inspect_log(folder / "recording")
    if inspection.state == "quarantined":
        return {inspection.code}
    with LogReader(folder / "recording") as reader:
        report = check_log(reader, read_drive_spec(folder / "drive.yaml"), IntegrityPolicy.load())
    return {finding.rule for finding in report.findings if finding.status == "failed"}


@pytest.fixture(scope="module")
def healthy(short_drive_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return _answers(short_drive_folder, tmp_path_factory.mktemp("healthy"))


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_fault_is_found_by_the_check_it_names(
    name: str, healthy: set[str], short_drive_folder: Path, tmp_path: Path
) -> None:
    folder = inject(name, short_drive_folder, tmp_path / "bad", seed=1)
    (tmp_path / "copy").mkdir()
    assert FAULTS[name].expects not in healthy
    assert FAULTS[name].expects in _answers(folder, tmp_path / "copy")


def test_same_seed_gives_same_bytes_and_the_original_stays(short_drive_folder: Path, tmp_path: Path) -> None:
    before = sha256_file(short_drive_folder / "recording" / "recording.mcap")
    one = inject("frozen_camera", short_drive_folder, tmp_path / "a", seed=2)
    two = inject("frozen_camera", short_drive_folder, tmp_path / "b", seed=2)
    log = Path("recording/recording.mcap")
    assert sha256_file(one / log) == sha256_file(two / log) != before
    assert sha256_file(short_drive_folder / log) == before
    assert (one / "COMPLETE").exists()


def test_unknown_fault_names_the_known_ones(short_drive_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PoisonError, match="truncate"):
        inject("gremlins", short_drive_folder, tmp_path, seed=0)


def test_fault_that_needs_a_stream_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "drive-1"
    folder.mkdir()
    (folder / "drive.yaml").write_text("schema: 1\ndrive: drive-1\n")
    with pytest.raises(PoisonError, match="fault_needs_stream"):
        inject("frozen_camera", folder, tmp_path / "out", seed=0)
    with pytest.raises(PoisonError, match="fault_needs_log"):
        inject("truncate", folder, tmp_path / "out2", seed=0)
