"""A log becomes a valid MCAP that holds every message, and what its file says about them."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from log_writers import CAMERA, IMU, TYPES, drive, store, write_rosbag2
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from av_assets.domain.logs.reader import LogReader
from av_assets.domain.logs.recovery.salvage import salvage_log

if TYPE_CHECKING:
    from pathlib import Path


from recoveries import by_library, contents, file_of, library_contents, rich_mcap, salvaged

REAL = ("bags/fox_example.bag", "bags/fox_example_lz4.bag", "bags/fox_example_bz2.bag",
        "bags/carnd_ros1_jpeg_lz4.bag", "bags/datmo_intersection.bag", "bags/ouster_512x10_raw.bag",
        "bags/rosbag2_mcap_wbag", "drives/carnd_h264_video")  # fmt: skip


def test_whole_logs_of_all_formats_keep_everything(small_logs: dict[str, Path], tmp_path: Path) -> None:
    for name, log in small_logs.items():
        out = tmp_path / f"{name}.mcap"
        report = salvaged(log, out)
        lost = None if name == "mcap_unchunked" else 0  # without chunks there is no index to promise anything
        assert (report.messages, report.lost, report.codes) == (180, lost, ()), name
        assert contents(out) == contents(log) == library_contents(out)
        with out.open("rb") as file:
            reader = make_reader(file)
            assert reader.get_header().profile == ("ros1" if name.startswith("bag") or name == "mcap_ros1"
                                                   else "ros2")  # fmt: skip
            summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == 180
        assert {index.compression for index in summary.chunk_indexes} == {"zstd"}
        salvage_log(log, tmp_path / "again.mcap", overwrite=True)
        assert (tmp_path / "again.mcap").read_bytes() == out.read_bytes()


def test_what_an_mcap_says_about_its_messages_survives(tmp_path: Path) -> None:
    sent = rich_mcap(tmp_path / "in.mcap")
    report = salvaged(tmp_path / "in.mcap", tmp_path / "out.mcap")
    assert (report.attachments, report.metadata, report.topics["/silent"].kept) == (1, 1, 0)
    with (tmp_path / "in.mcap").open("rb") as one, (tmp_path / "out.mcap").open("rb") as two:
        before, after = make_reader(one), make_reader(two, validate_crcs=True)
        assert after.get_header().profile == "custom"
        assert list(after.iter_attachments()) == list(before.iter_attachments())
        assert list(after.iter_metadata()) == list(before.iter_metadata())
        was, now = before.get_summary(), after.get_summary()
        assert was is not None
        assert now is not None
        assert now.schemas == was.schemas
        assert now.channels == was.channels
        found = [
            (str(c.id), m.log_time, m.publish_time, m.sequence, m.data) for _, c, m in after.iter_messages()
        ]
    assert found == sent


def test_connections_of_a_bag_keep_their_headers(small_logs: dict[str, Path], tmp_path: Path) -> None:
    salvaged(small_logs["bag_lz4"], tmp_path / "out.mcap")
    with AnyReader([small_logs["bag_lz4"]]) as reference:
        expected = {c.topic: (c.digest, c.msgdef.data) for c in reference.connections}
    for schema, channel, _ in by_library(tmp_path / "out.mcap"):
        assert schema is not None
        assert (channel.message_encoding, schema.encoding) == ("ros1", "ros1msg")
        assert schema.name == TYPES[channel.topic].replace("/msg/", "/")
        assert (channel.metadata["md5sum"], schema.data.decode()) == expected[channel.topic]


def test_rosbags_opens_what_was_a_database(small_logs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("db3", "db3_per_message", "rosbag2_mcap"):
        out = tmp_path / f"{name}.mcap"
        salvaged(small_logs[name], out)
        with AnyReader([out]) as ours, AnyReader([small_logs[name]]) as theirs:
            assert [(c.topic, t, bytes(d)) for c, t, d in ours.messages()] == [
                (c.topic, t, bytes(d)) for c, t, d in theirs.messages()
            ]
            assert {c.topic: c.ext.offered_qos_profiles for c in ours.connections} == {  # type: ignore[union-attr]
                c.topic: c.ext.offered_qos_profiles
                for c in theirs.connections  # type: ignore[union-attr]
            }


def test_a_database_without_definitions_gets_the_known_ones(tmp_path: Path) -> None:
    types = store()
    write_rosbag2(tmp_path / "in", drive(types), types, "SQLITE3")
    with sqlite3.connect(file_of(tmp_path / "in")) as db:
        db.execute("DELETE FROM message_definitions")
    db.close()
    report = salvaged(tmp_path / "in", tmp_path / "out.mcap")
    assert "sensor_msgs/msg/Imu" in report.files[0].definitions_added
    schemas = {channel.topic: schema for schema, channel, _ in by_library(tmp_path / "out.mcap") if schema}
    assert b"angular_velocity" in schemas[IMU].data
    own = schemas["/radar_front/tracks"]
    assert (own.name, own.encoding, own.data) == ("av_msgs/msg/RadarTracks", "", b"")


def test_files_of_several_formats_become_one(small_logs: dict[str, Path], tmp_path: Path) -> None:
    logs = [small_logs["mcap_zstd"], small_logs["db3"], small_logs["bag_bz2"]]
    (tmp_path / "broken.mcap").write_bytes(b"\x89MCAP0\r\n")
    progress: list[tuple[int, int]] = []
    out = tmp_path / "out.mcap"
    report = salvaged([*logs, tmp_path / "broken.mcap"], out, progress=lambda a, b: progress.append((a, b)))
    assert (report.messages, len(report.files), progress[-1]) == (540, 4, (540, 540))
    assert library_contents(out) == sorted(m for log in logs for m in contents(log))
    with LogReader(out) as reader:
        times = [raw.log_ns for raw in reader.messages()]
    assert times == sorted(times)
    with out.open("rb") as file:
        assert make_reader(file).get_header().profile == ""


@pytest.mark.parametrize("name", REAL)
def test_real_logs_are_recovered_whole(real_data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.mcap"
    report = salvaged(real_data / name, out)
    with AnyReader([real_data / name]) as reference:
        theirs = sorted((c.topic, log_ns, bytes(data)) for c, log_ns, data in reference.messages())
    assert (report.codes, report.lost) == ((), 0)
    assert library_contents(out) == theirs
    if not name.endswith(".bag"):  # rosbags reads no MCAP with ROS 1 messages
        with AnyReader([out]) as ours:
            assert sorted((c.topic, log_ns, bytes(data)) for c, log_ns, data in ours.messages()) == theirs


def test_camera_pictures_survive(small_logs: dict[str, Path], tmp_path: Path) -> None:
    salvaged(small_logs["bag_lz4"], tmp_path / "out.mcap")
    with LogReader(tmp_path / "out.mcap") as reader:
        images = [reader.deserialize(raw).data for raw in reader.messages([CAMERA])]
    assert [len(image) for image in images] == [604 + i for i in range(20)]
