"""A whole drive: rows against the log, and what happens when things are missing."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from av_assets.domain.errors import SyncError
from av_assets.domain.geometry.calibration import Calibration
from av_assets.domain.logs.drive_spec import DriveSpec
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.privacy.frames import frames_from_shard
from av_assets.domain.sync.streams import read_messages
from av_assets.domain.sync.synchronize import SyncSummary, synchronize_drive
from tests.domain.sync.sync_runs import POLICY, sync, table

if TYPE_CHECKING:
    from pathlib import Path

    from tests.domain.sync.conftest import Drive


def test_every_sweep_is_a_row_and_clips_are_a_second_long(synced: tuple[SyncSummary, Path]) -> None:
    summary, out = synced
    assert (summary.frames, summary.clips, summary.residual_ok) == (30, 3, True)
    rows = table(out)
    assert rows["frame_index"].to_pylist() == list(range(30))
    assert sorted(set(rows["clip_id"].to_pylist())) == [f"veh001-20250601t080000z/{n:05d}" for n in range(3)]
    assert np.all(np.diff(rows["ref_ns"].to_numpy()) == 100_000_000)


def test_the_front_camera_is_paired_half_a_turn_after_its_sweep(synced: tuple[SyncSummary, Path]) -> None:
    """Clocks are off by a millisecond; the nearest frame by stamps alone would be the one before."""
    summary, out = synced
    front = summary.report["streams"]["camera_front"]
    assert (front["matched"], front["phase_ns"]) == (30, 50_900_000)
    assert abs(front["azimuth_phase_ns"] - 50_000_000) < 500_000
    assert {cell["delta_ns"] for cell in table(out)["camera_front"].to_pylist()} == {50_900_000}


def test_a_camera_of_half_the_rate_fills_every_second_row(synced: tuple[SyncSummary, Path]) -> None:
    summary, out = synced
    rear = summary.report["streams"]["camera_rear"]
    assert (rear["matched"], rear["expected"], rear["missing"], rear["reused"]) == (15, 15, 0, 0)
    cells = table(out)["camera_rear"].to_pylist()
    assert [cell["valid"] for cell in cells] == [True, False] * 15
    assert all(cell["data"] is None and cell["sensor_ns"] is None for cell in cells if not cell["valid"])


def test_pictures_are_the_bytes_that_redaction_released(
    drive: Drive, synced: tuple[SyncSummary, Path]
) -> None:
    released = pq.read_table(drive.redacted / "camera_front" / "00000.parquet")
    by_time = dict(zip(released["sensor_ns"].to_pylist(), released["data"].to_pylist(), strict=True))
    frames = list(frames_from_shard(table(synced[1]), "camera_front"))
    assert len(frames) == 30
    assert all(frame is not None and frame.data == by_time[frame.sensor_ns] for frame in frames)


def test_points_are_those_of_the_log(drive: Drive, synced: tuple[SyncSummary, Path]) -> None:
    with LogReader(drive.folder) as reader:
        raw = next(iter(reader.messages({"/lidar_top/points"})))
        cloud = reader.deserialize(raw)
    names = ["x", "y", "z", "intensity"]
    dtype = np.dtype(
        {"names": names, "formats": ["<f4"] * 4, "offsets": [0, 4, 8, 12], "itemsize": cloud.point_step}
    )
    expected = cloud.data.view(dtype)
    cell = table(synced[1])["lidar_top"][0].as_py()
    points = np.frombuffer(cell["points"], "<f4").reshape(-1, 4)
    assert (len(points), cell["count"], cell["valid"]) == (len(expected), len(expected), True)
    for column, name in enumerate(names):
        np.testing.assert_array_equal(points[:, column], expected[name])


def test_tracks_are_in_the_ego_frame(drive: Drive, synced: tuple[SyncSummary, Path]) -> None:
    cell = next(c for c in table(synced[1])["radar_front"].to_pylist() if c["tracks"])
    with LogReader(drive.folder) as reader:
        for raw in reader.messages({"/radar_front/tracks"}):
            if raw.log_ns == cell["log_ns"]:
                first = reader.deserialize(raw).tracks[0]
    assert cell["tracks"][0]["track_id"] == first.track_id
    assert cell["tracks"][0]["x_m"] == pytest.approx(first.x_m + 3.8)


def test_signals_have_their_names_and_no_value_outside_their_samples(
    synced: tuple[SyncSummary, Path],
) -> None:
    summary, out = synced
    signals = table(out)["signals"].combine_chunks().flatten()
    names = [field.name for field in table(out).schema.field("signals").type]
    known = dict(zip(names, signals, strict=True))
    for name in (
        "speed_mps",
        "accel_mps2",
        "yaw_rate_radps",
        "steering_rad",
        "brake",
        "engaged",
        "latitude_deg",
    ):
        assert known[name].null_count <= 1
    assert set(known["engaged"].drop_null().to_pylist()) == {1.0}
    assert np.nanmean(known["imu_az_mps2"].to_numpy(zero_copy_only=False)) == pytest.approx(9.81, abs=0.05)
    assert summary.report["signals"]["engaged"]["mode"] == "hold"


def test_calibration_comes_from_the_log(synced: tuple[SyncSummary, Path]) -> None:
    found = Calibration.load(synced[1] / "calibration.json")
    assert (found.source, found.missing) == ("log", ())
    assert set(found.cameras) == {"camera_front", "camera_rear"}
    assert found.lidars["lidar_top"].ego_SE3_lidar[2][3] == pytest.approx(1.95)


def test_without_redacted_clips_there_is_no_camera_column(drive: Drive, tmp_path: Path) -> None:
    summary = sync(drive, tmp_path, redacted=False)
    assert not {"camera_front", "camera_rear"} & set(table(tmp_path).column_names)
    assert "camera_front: no redacted frames" in summary.report["notes"]


def test_raw_pictures_cannot_be_read_here(drive: Drive) -> None:
    with LogReader(drive.folder) as reader, pytest.raises(SyncError) as caught:
        read_messages(reader, {"/camera_front/image/compressed"})
    assert caught.value.code == "raw_image_topic"


def test_a_parquet_file_that_redaction_did_not_write_is_refused(drive: Drive, tmp_path: Path) -> None:
    table = pq.read_table(drive.redacted / "camera_front" / "00000.parquet").replace_schema_metadata({})
    (tmp_path / "raw" / "camera_front").mkdir(parents=True)
    pq.write_table(table, tmp_path / "raw" / "camera_front" / "00000.parquet")
    with LogReader(drive.folder) as reader, pytest.raises(SyncError) as caught:
        synchronize_drive(reader, drive.spec, tmp_path / "raw", POLICY, tmp_path / "out", None, drive.folder)
    assert caught.value.code == "bad_redacted_clip"


def test_a_missing_dbc_is_told(drive: Drive, tmp_path: Path) -> None:
    with LogReader(drive.folder) as reader, pytest.raises(SyncError) as caught:
        synchronize_drive(reader, drive.spec, None, POLICY, tmp_path, None, tmp_path)
    assert caught.value.code == "bad_dbc"


def test_the_picture_of_residuals_is_a_png(synced: tuple[SyncSummary, Path]) -> None:
    from PIL import Image

    with Image.open(io.BytesIO((synced[1] / "residuals.png").read_bytes())) as picture:
        assert picture.format == "PNG"


def test_a_real_drive_without_camera_or_lidar_goes_onto_a_fixed_grid(real_data: Path, tmp_path: Path) -> None:
    with LogReader(real_data / "drives" / "comma2k19_rav4_drive") as reader:
        summary = synchronize_drive(reader, DriveSpec(drive="rav4"), None, POLICY, tmp_path)
    assert summary.report["reference"]["kind"] == "fixed"
    assert summary.frames == 602
    signals = summary.report["signals"]
    assert (
        min(signals[n]["valid"] for n in ("speed_mps", "latitude_deg", "imu_ax_mps2", "yaw_rate_radps"))
        > 0.99
    )


def test_pairs_of_sensors_have_residuals_of_their_own(synced: tuple[SyncSummary, Path]) -> None:
    pairs = synced[0].report["pairs"]
    assert set(pairs) == {
        "camera_front-camera_rear", "camera_front-lidar_top", "camera_front-radar_front",
        "camera_rear-lidar_top", "camera_rear-radar_front", "lidar_top-radar_front",
    }  # fmt: skip
    front = pairs["camera_front-lidar_top"]
    assert (front["phase_ns"], front["within_tolerance"]) == (-50_900_000, 1.0)
    assert front["residual_ns"]["p50"] <= front["residual_ns"]["p95"] <= front["residual_ns"]["p99"]


def test_the_report_tells_every_clock_and_what_came_late(synced: tuple[SyncSummary, Path]) -> None:
    report = synced[0].report
    assert {"/lidar_top/points", "/imu/data", "/can/frames", "/camera_front/image/compressed"} <= set(
        report["clocks"]
    )
    assert {clock["repair"] for clock in report["clocks"].values()} == {"none"}
    assert report["out_of_order"] == {"policy": "sort", "late": {}}
    assert report["rows"] == {"written": 30, "dropped": 0}
