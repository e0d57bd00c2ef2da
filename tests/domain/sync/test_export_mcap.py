"""Shards exported to MCAP and read back by the official readers: the same pictures, points, times and signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from av_assets.domain.geometry.transforms import quaternions_to_matrices, se3
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.messages.payloads import image_payload
from av_assets.domain.logs.reader import LogReader, header_stamp_ns
from av_assets.domain.sync.exporters.mcap_export import export_mcap

if TYPE_CHECKING:
    from pathlib import Path


from tests.domain.sync.exported_shards import (
    CALIBRATION,
    DRIVE,
    FRAMES,
    ROTATED,
    START_NS,
    SWEEPS,
    access_unit,
    cloud,
    jpeg,
    signal,
    tracks,
    valid_rows,
    write_shards,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def mcap(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mcap") / "drive.mcap"
    counts = export_mcap(shards, out)
    assert counts == {
        "/camera_front/camera_info": FRAMES,
        "/camera_front/image/compressed": FRAMES,
        "/camera_rear/image/compressed": FRAMES // 2,
        "/camera_side/video": FRAMES,
        "/lidar_top/points": len(SWEEPS),
        "/radar_front/tracks": FRAMES * 2 // 3,
        "/signals": FRAMES,
        "/tf_static": 1,
    }
    return out


def decoded(path: Path) -> dict[str, list[tuple[int, Any]]]:
    found: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([path], default_typestore=get_typestore(Stores.EMPTY)) as reader:
        for connection, log_ns, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((log_ns, message))
    return found


def stamp_of(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def test_an_exported_mcap_is_whole_for_every_reader(mcap: Path) -> None:
    verdict = inspect_log(mcap)
    assert (verdict.state, verdict.messages) == ("ok", sum(t.count for t in verdict.topics.values()))
    with mcap.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert sum(1 for _ in reader.iter_messages()) == verdict.messages
        assert reader.get_header().profile == "ros2"
        (record,) = reader.iter_metadata()
    assert record.metadata["drive"] == DRIVE
    assert record.metadata["policy"] == "p" * 64
    assert {v for k, v in record.metadata.items() if k.startswith("signal.")} == {
        "Steering.Angle [deg]", "header", "2nd",
    }  # fmt: skip


def test_pictures_in_mcap_are_the_bytes_of_the_shards(mcap: Path) -> None:
    with LogReader(mcap) as reader:
        for role, delay_ns, encode in (("camera_front", 50, jpeg), ("camera_rear", 60, jpeg)):
            found = [image_payload(raw) for raw in reader.messages([f"/{role}/image/compressed"])]
            assert [bytes(one.data) for one in found] == [encode(row) for row in valid_rows(role)]
            assert [one.sensor_ns for one in found] == [
                START_NS + row * 100_000_000 + delay_ns for row in valid_rows(role)
            ]
        raws = list(reader.messages(["/camera_side/video"]))
        assert [bytes(image_payload(raw).data) for raw in raws] == [access_unit(row) for row in range(FRAMES)]
        assert {image_payload(raw).encoding for raw in raws} == {"h264"}
        assert [raw.log_ns - (header_stamp_ns(raw) or 0) for raw in raws] == [5_000_000] * FRAMES


def test_points_tracks_and_signals_in_mcap_are_those_of_the_shards(mcap: Path) -> None:
    found = decoded(mcap)
    for row, (_, message) in zip(SWEEPS, found["/lidar_top/points"], strict=True):
        points = np.frombuffer(message.data.tobytes(), "<f4").reshape(-1, 4)
        assert points.tobytes() == cloud(row).tobytes()
        assert (message.width, message.header.frame_id) == (len(points), "lidar_top")
        assert [field.name for field in message.fields] == ["x", "y", "z", "intensity"]
        assert stamp_of(message) == START_NS + row * 100_000_000
    for row, (_, message) in zip(valid_rows("radar_front"), found["/radar_front/tracks"], strict=True):
        assert [(t.track_id, t.x_m, t.y_m, t.vx_mps, t.vy_mps) for t in message.tracks] == tracks(row)
        assert message.header.frame_id == "base_link"
    names = {"speed_mps": "speed_mps", "Steering.Angle [deg]": "steering_angle_deg", "header": "s_header",
             "2nd": "s_2nd"}  # fmt: skip
    for name, field in names.items():
        values = [getattr(message, field) for _, message in found["/signals"]]
        np.testing.assert_array_equal(values, signal(name, np.arange(FRAMES)))
    assert [message.frame_index for _, message in found["/signals"]] == list(range(FRAMES))
    assert [message.keyframe for _, message in found["/signals"]] == [row % 5 == 0 for row in range(FRAMES)]


def test_calibration_in_mcap_is_that_of_the_shards(mcap: Path) -> None:
    found = decoded(mcap)
    _, info = found["/camera_front/camera_info"][0]
    camera = CALIBRATION.cameras["camera_front"]
    np.testing.assert_array_equal(info.k.reshape(3, 3), np.array(camera.K))
    assert (info.d.tolist(), info.width, info.height) == ([0.1, 0.01, 0, 0, 0], 32, 24)
    ((_, message),) = found["/tf_static"]
    poses = {one.child_frame_id: one.transform for one in message.transforms}
    assert set(poses) == {"camera_front", "lidar_top"}
    q, t = poses["camera_front"].rotation, poses["camera_front"].translation
    pose = se3(quaternions_to_matrices([q.x, q.y, q.z, q.w]), [t.x, t.y, t.z])
    np.testing.assert_allclose(pose, ROTATED, atol=1e-12)
