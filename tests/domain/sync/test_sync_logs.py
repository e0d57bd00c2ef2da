"""Logs that hold less, or whose clocks and sensors differ: what synchronization makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from av_assets.domain.errors import SyncError
from av_assets.domain.logs.drive_spec import DriveSpec
from av_assets.domain.logs.reader import LogReader, header_stamp_ns
from av_assets.domain.sync.synchronize import SyncSummary, synchronize_drive
from tests.domain.sync.sync_runs import POLICY, Changed, Only, stamped, sync, table

if TYPE_CHECKING:
    from pathlib import Path

    from tests.domain.sync.conftest import Drive


def test_all_clocks_shifted_alike_give_the_same_rows(drive: Drive, tmp_path: Path) -> None:
    """By 17 days and some nanoseconds; every time moves with them, and nothing else."""
    by = 17 * 86_400 * 10**9 + 123_456_789
    tables = []
    for name, shift in (("plain", 0), ("moved", by)):
        with LogReader(drive.folder) as reader:
            log: Any = Changed(
                reader, lambda raw, s=shift: stamped(raw, (header_stamp_ns(raw) or 0) + s, raw.log_ns + s)
            )
            synchronize_drive(log, drive.spec, None, POLICY, tmp_path / name, None, drive.folder)
        tables.append(table(tmp_path / name))
    plain, moved = tables
    np.testing.assert_array_equal(plain["ref_ns"].to_numpy() + by, moved["ref_ns"].to_numpy())
    for role in ("lidar_top", "radar_front"):
        for one, other in zip(plain[role].to_pylist(), moved[role].to_pylist(), strict=True):
            shifted = {k: v + by if k in ("sensor_ns", "log_ns") and v else v for k, v in one.items()}
            assert shifted == other
    assert plain["signals"].equals(moved["signals"])


def test_a_clock_of_another_epoch_is_repaired_and_told(drive: Drive, tmp_path: Path) -> None:
    uptime = 1_748_764_000 * 10**9

    def change(raw: Any) -> Any:
        stamp_ns = header_stamp_ns(raw) or 0
        return stamped(raw, stamp_ns - (uptime if raw.topic == "/lidar_top/points" else 0), raw.log_ns)

    with LogReader(drive.folder) as reader:
        log: Any = Changed(reader, change)
        made = synchronize_drive(log, drive.spec, None, POLICY, tmp_path, None, drive.folder)
    clock = made.report["clocks"]["/lidar_top/points"]
    assert (clock["classification"], clock["repair"]) == ("uptime", "add_offset")
    assert made.report["streams"]["radar_front"]["matched"] >= 29
    cell = table(tmp_path)["lidar_top"][0].as_py()
    assert cell["sensor_ns"] < 10**13 < cell["log_ns"]


@pytest.mark.parametrize("mode", ["rotation", "full"])
def test_points_can_be_moved_to_the_time_of_their_row(
    drive: Drive, synced: tuple[SyncSummary, Path], tmp_path: Path, mode: str
) -> None:
    summary = sync(drive, tmp_path, deskew=mode)
    told = summary.report["deskew"]["clouds"]["lidar_top"]
    assert (summary.report["deskew"]["mode"], sum(told.values())) == (mode, 30)
    assert told["deskewed"] >= 28  # at the ends of the drive the motion is not known
    moved, plain = table(tmp_path)["lidar_top"].to_pylist(), table(synced[1])["lidar_top"].to_pylist()
    assert [cell["count"] for cell in moved] == [cell["count"] for cell in plain]
    one, other = (np.frombuffer(cells[15]["points"], "<f4").reshape(-1, 4) for cells in (moved, plain))
    np.testing.assert_array_equal(one[:, 3], other[:, 3])
    apart = np.linalg.norm(one[:, :3] - other[:, :3], axis=1)
    assert 0.0 < apart.max() < 3.0
    if mode == "full":  # a tenth of a second at the speed of the drive, for the last points of the turn
        speed = table(synced[1])["signals"][15].as_py()["speed_mps"]
        assert apart.max() == pytest.approx(0.1 * speed, rel=0.2)


def test_a_log_without_sensors_gives_no_clips_and_says_so(drive: Drive, tmp_path: Path) -> None:
    with LogReader(drive.folder) as reader:
        some: Any = Only(reader, ("/tf_static",))
        made = synchronize_drive(some, DriveSpec(drive="bare"), None, POLICY, tmp_path)
    assert (made.frames, made.clips, made.report["reference"]["kind"]) == (0, 0, "none")
    assert "no stream of a sensor has a sample: there are no clips" in made.report["notes"]
    assert {p.name for p in tmp_path.iterdir()} == {
        "calibration.json", "calibration_in_log.json", "sync_report.json", "residuals.png"
    }  # fmt: skip


def test_a_log_without_messages_is_refused(drive: Drive, tmp_path: Path) -> None:
    with LogReader(drive.folder) as reader:
        none: Any = Only(reader, ("/no_such_topic",))
        none.message_count = 0
        with pytest.raises(SyncError) as caught:
            synchronize_drive(none, DriveSpec(drive="empty"), None, POLICY, tmp_path)
    assert caught.value.code == "empty_span"


def test_a_real_recording_of_talk_alone_gives_no_clips(real_data: Path, tmp_path: Path) -> None:
    with LogReader(real_data / "bags" / "rosbag2_mcap_wbag") as reader:
        made = synchronize_drive(reader, DriveSpec(drive="talk"), None, POLICY, tmp_path)
    assert (made.frames, made.clips) == (0, 0)


@pytest.mark.parametrize(
    ("keep", "kind", "columns"),
    [
        (("/camera", "/imu"), "camera", {"camera_front", "camera_rear", "signals"}),
        (("/imu",), "fixed", {"signals"}),
        (("/lidar",), "lidar", {"lidar_top"}),
        (("/radar",), "fixed", {"radar_front"}),
    ],
)
def test_what_the_log_does_not_hold_is_absent(
    drive: Drive, tmp_path: Path, keep: tuple[str, ...], kind: str, columns: set[str]
) -> None:
    with LogReader(drive.folder) as reader:
        some: Any = Only(reader, keep)
        summary = synchronize_drive(some, drive.spec, drive.redacted, POLICY, tmp_path, None, drive.folder)
    assert summary.report["reference"]["kind"] == kind
    assert set(table(tmp_path).column_names) == {"clip_id", "frame_index", "ref_ns", "keyframe"} | columns
    assert not any("image" in topic for topic in some.read)


def _late_sweep(drive: Drive, out: Path, rule: str) -> SyncSummary:
    """The eleventh sweep claims to be a second older than it is."""

    def change(raw: Any) -> Any:
        stamp_ns = header_stamp_ns(raw) or 0
        is_late = raw.topic == "/lidar_top/points" and stamp_ns == late_ns
        return stamped(raw, stamp_ns - 1_050_000_000 * is_late, raw.log_ns)

    policy = POLICY.model_copy(update={"out_of_order": rule, "watermark_s": 0.5})
    with LogReader(drive.folder) as reader:
        late_ns = header_stamp_ns(list(reader.messages({"/lidar_top/points"}))[10])
        log: Any = Changed(reader, change)
        return synchronize_drive(log, drive.spec, None, policy, out, None, drive.folder)


@pytest.mark.parametrize(("rule", "frames"), [("sort", 30), ("drop", 29)])
def test_a_sweep_behind_the_watermark_is_sorted_in_or_dropped(
    drive: Drive, tmp_path: Path, rule: str, frames: int
) -> None:
    made = _late_sweep(drive, tmp_path, rule)
    assert made.frames == frames
    assert made.report["out_of_order"] == {"policy": rule, "late": {"/lidar_top/points": 1}}
    assert made.report["streams"]["lidar_top"]["orphans"] == 30 - frames
    assert np.all(np.diff(table(tmp_path)["ref_ns"].to_numpy()) > 0)


def test_a_drive_with_a_late_sweep_can_be_refused(drive: Drive, tmp_path: Path) -> None:
    with pytest.raises(SyncError) as caught:
        _late_sweep(drive, tmp_path, "error")
    assert caught.value.code == "out_of_order"


def test_rows_without_a_signal_can_be_left_out(
    drive: Drive, synced: tuple[SyncSummary, Path], tmp_path: Path
) -> None:
    made = sync(drive, tmp_path, boundary={**POLICY.boundary, "linear": "drop"})
    signals = table(synced[1])["signals"].to_pylist()
    linear = [name for name, told in made.report["signals"].items() if told["mode"] == "linear"]
    whole = [n for n, row in enumerate(signals) if all(row[name] is not None for name in linear)]
    assert 0 < len(whole) < 30
    assert table(tmp_path)["frame_index"].to_pylist() == whole
    assert made.report["rows"] == {"written": len(whole), "dropped": 30 - len(whole)}
    assert table(tmp_path)["keyframe"][0].as_py()


def test_a_broken_cloud_leaves_its_place_empty(drive: Drive, tmp_path: Path) -> None:
    def change(raw: Any) -> Any:
        is_broken = raw.topic == "/lidar_top/points" and header_stamp_ns(raw) == broken_ns
        return raw._replace(data=raw.data[:200]) if is_broken else raw

    with LogReader(drive.folder) as reader:
        broken_ns = header_stamp_ns(list(reader.messages({"/lidar_top/points"}))[4])
        log: Any = Changed(reader, change)
        made = synchronize_drive(log, drive.spec, None, POLICY, tmp_path, None, drive.folder)
    cells = table(tmp_path)["lidar_top"].to_pylist()
    assert made.report["streams"]["lidar_top"]["unreadable"] == 1
    assert [n for n, cell in enumerate(cells) if not cell["valid"]] == [4]
    assert cells[4]["points"] is None
