"""Every fault does what it says, and the platform's own checks answer with what the fault expects."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest
from rosbags.highlevel import AnyReader

from av_assets.domain.errors import AvError, PoisonError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.logs.drive_spec import read_drive_spec
from av_assets.domain.logs.ingest import copy_hashed
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.integrity.check import check_log
from av_assets.domain.logs.integrity.rules import RULES
from av_assets.domain.logs.landing import landed_drive
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.simulation.faults import FAULTS, inject
from av_assets.domain.simulation.raw_messages import Message
from av_assets.domain.simulation.recorder import write_sums
from av_assets.domain.simulation.rewrite import rewrite
from av_assets.policies.integrity import IntegrityPolicy
from av_assets.policies.landing import LandingPolicy

LOG = Path("recording/recording.mcap")
KEPT_POINTS = 8  # every so many points


def _lighter(message: Message) -> Message:
    """The same message with coarser pictures and sparser clouds."""
    if message.msgtype.endswith("/CompressedImage"):
        return message.changed(_coarser)
    return message.changed(_sparser) if message.msgtype.endswith("/PointCloud2") else message


def _coarser(image: Any) -> None:
    picture = cv2.imdecode(image.data, cv2.IMREAD_COLOR)
    image.data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 10])[1].reshape(-1)


def _sparser(cloud: Any) -> None:
    points = cloud.data.reshape(-1, cloud.point_step)[::KEPT_POINTS]
    cloud.data, cloud.width, cloud.row_step = points.reshape(-1), len(points), points.size


@pytest.fixture(scope="module")
def drive_folder(short_drive_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short drive with less in it, because it is copied for every fault."""
    folder = tmp_path_factory.mktemp("light") / short_drive_folder.name
    shutil.copytree(short_drive_folder, folder)
    rewrite(folder, _lighter)
    write_sums(folder)
    return folder


def _refusal(folder: Path, scratch: Path) -> str:
    """The reason code with which landing, copying or inspection refuses the drive."""
    try:
        landed = landed_drive(folder, LandingPolicy.load())
        for i, file in enumerate(landed.files):
            copy_hashed(folder / file.path, scratch / str(i), file.sha256)
    except AvError as error:
        return error.code
    inspection = inspect_log(folder / "recording")
    return inspection.code if inspection.state == "quarantined" else ""


def _failures(folder: Path) -> set[tuple[str, str]]:
    landed_drive(folder, LandingPolicy.load())
    with LogReader(folder) as reader:
        report = check_log(reader, read_drive_spec(folder / "drive.yaml"), IntegrityPolicy.load())
    return {(finding.rule, finding.severity) for finding in report.findings if finding.status == "failed"}


def test_the_drive_is_healthy_before(drive_folder: Path, tmp_path: Path) -> None:
    assert _refusal(drive_folder, tmp_path) == ""
    assert _failures(drive_folder) == set()


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.severity == "refused"])
def test_a_fault_is_refused_with_the_code_it_names(name: str, drive_folder: Path, tmp_path: Path) -> None:
    folder = inject(name, drive_folder, tmp_path / "bad", seed=1)
    (tmp_path / "copy").mkdir()
    assert _refusal(folder, tmp_path / "copy") == FAULTS[name].expects


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.severity != "refused"])
def test_a_fault_fails_the_rule_it_names_and_no_other_with_an_error(
    name: str, drive_folder: Path, tmp_path: Path
) -> None:
    fault = FAULTS[name]
    found = _failures(inject(name, drive_folder, tmp_path, seed=1))
    if fault.severity == "none":
        assert found == set()
        return
    assert fault.expects in RULES
    assert (fault.expects, fault.severity) in found
    assert {rule for rule, severity in found if severity == "error"} <= {fault.expects}


@pytest.mark.parametrize("name", FAULTS)
def test_the_same_seed_gives_the_same_bytes(name: str, drive_folder: Path, tmp_path: Path) -> None:
    before = sha256_file(drive_folder / LOG)
    folders = [inject(name, drive_folder, tmp_path / run, seed=2) for run in ("a", "b")]
    one, two = (
        {path.relative_to(folder): sha256_file(path) for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert one == two
    assert sha256_file(drive_folder / LOG) == before
    assert (Path("COMPLETE") in one) == (name != "drop_marker")


def test_unknown_fault_names_the_known_ones(drive_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PoisonError, match="truncate"):
        inject("gremlins", drive_folder, tmp_path, seed=0)


def test_fault_that_needs_a_stream_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "drive-1"
    folder.mkdir()
    (folder / "drive.yaml").write_text("schema: 1\ndrive: drive-1\n")
    with pytest.raises(PoisonError, match="fault_needs_stream"):
        inject("frozen_camera", folder, tmp_path / "out", seed=0)
    with pytest.raises(PoisonError, match="fault_needs_log"):
        inject("truncate", folder, tmp_path / "out2", seed=0)


def test_counters_cannot_skip_without_a_dbc(drive_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PoisonError, match="fault_needs_dbc"):
        inject("can_counter_skip", drive_folder / LOG, tmp_path, seed=0)


def test_a_bare_log_file_can_be_damaged(drive_folder: Path, tmp_path: Path) -> None:
    shutil.copyfile(drive_folder / LOG, tmp_path / "My Log.mcap")
    folder = inject("low_rate", tmp_path / "My Log.mcap", tmp_path / "bad", seed=1)
    assert folder == tmp_path / "bad" / "my-log"
    with LogReader(folder) as reader:
        report = check_log(reader, read_drive_spec(folder / "drive.yaml"), IntegrityPolicy.load())
    assert {f.rule for f in report.failed("error")} == {"rate_matches_contract"}


def test_what_is_rewritten_is_a_rosbag2_recording(drive_folder: Path, tmp_path: Path) -> None:
    folder = inject("rename_topic", drive_folder, tmp_path, seed=1)
    with AnyReader([folder / "recording"]) as reader:
        topics = {connection.topic for connection in reader.connections}
        assert reader.message_count == sum(1 for _ in reader.messages())
    assert "/camera_front/image/compressed_v2" in topics


def test_a_ros1_bag_can_be_damaged(real_data: Path, tmp_path: Path) -> None:
    folder = inject("swapped_stamp", real_data / "bags" / "robot_localization_test1.bag", tmp_path, seed=1)
    with LogReader(folder) as reader:
        assert {info.serialization for info in reader.topics.values()} == {"ros1"}
        report = check_log(reader, read_drive_spec(folder / "drive.yaml"), IntegrityPolicy.load())
    assert ("stamp_fields_are_in_order", "warn") in {(f.rule, f.severity) for f in report.failed("warn")}
    assert not report.failed("error")
