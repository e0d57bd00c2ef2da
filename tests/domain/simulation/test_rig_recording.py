"""A recorded drive is deterministic, complete, and what other people's readers take for a ROS 2 log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader

from av_assets.domain.errors import PoisonError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.logs.drive_spec import read_drive_spec
from av_assets.domain.simulation.camera import FRONT
from av_assets.domain.simulation.lidar import RINGS
from av_assets.domain.simulation.messages import typestore
from av_assets.domain.simulation.recorder import frame_poses, record_drive
from av_assets.domain.simulation.samples import sample_drives, short_drive
from av_assets.domain.simulation.schedule import CLOCKS, TOPICS, schedule
from av_assets.domain.simulation.script import DriveScript, ScriptedEvent

if TYPE_CHECKING:
    from pathlib import Path


def _digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_script_gives_same_bytes_of_drive_and_truth(tmp_path: Path) -> None:
    script = short_drive(seconds=0.5, seed=4, weather="rain", light="night")
    calls: list[tuple[int, int]] = []
    one = record_drive(
        script, tmp_path / "a", tmp_path / "at", lambda done, total: calls.append((done, total))
    )
    two = record_drive(script, tmp_path / "b", tmp_path / "bt")
    assert _digests(one) == _digests(two)
    assert _digests(tmp_path / "at") == _digests(tmp_path / "bt")
    assert calls[-1] == (len(calls), len(calls))


def test_recording_again_replaces_and_another_seed_differs(tmp_path: Path) -> None:
    one = _digests(record_drive(short_drive(seconds=0.3, seed=4), tmp_path / "a", tmp_path / "t"))
    two = _digests(record_drive(short_drive(seconds=0.3, seed=5), tmp_path / "a", tmp_path / "t"))
    assert one.keys() == two.keys()
    assert one["recording/recording.mcap"] != two["recording/recording.mcap"]


def test_drive_folder_says_what_it_holds(short_drive_folder: Path) -> None:
    spec = read_drive_spec(short_drive_folder / "drive.yaml")
    assert spec.drive == short_drive_folder.name
    assert {role: stream.topic for role, stream in spec.streams.items()} == TOPICS
    assert set(spec.conditions) == {"weather", "light", "zone", "region"}
    assert (short_drive_folder / "COMPLETE").is_file()
    sums = (short_drive_folder / "SHA256SUMS").read_text().splitlines()
    named = dict(reversed(line.split("  ", 1)) for line in sums)
    digests = _digests(short_drive_folder)
    assert named == {k: v for k, v in digests.items() if k not in ("SHA256SUMS", "COMPLETE")}


def test_log_is_in_order_and_every_message_decodes(short_drive_folder: Path) -> None:
    last = 0
    counts: dict[str, int] = {}
    with AnyReader([short_drive_folder / "recording"]) as reader:
        for connection, log_ns, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            assert log_ns >= last
            last = log_ns
            counts[connection.topic] = counts.get(connection.topic, 0) + 1
            assert message is not None
    assert counts["/camera_front/image/compressed"] == 30
    assert counts["/camera_rear/image/compressed"] == 15
    assert counts["/lidar_top/points"] == 30
    assert counts["/imu/data"] == 300
    assert counts["/radar_front/tracks"] == 39
    assert counts["/tf_static"] == 1


def test_point_clouds_have_time_and_ring_and_lie_on_the_ground(short_drive_folder: Path) -> None:
    store = typestore()
    with Reader(short_drive_folder / "recording") as reader:
        connections = [c for c in reader.connections if c.topic == "/lidar_top/points"]
        _, _, raw = next(reader.messages(connections))
    cloud = store.deserialize_cdr(raw, "sensor_msgs/msg/PointCloud2")
    names = [field.name for field in cloud.fields]
    kind = np.dtype({
        "names": names, "formats": [{7: "<f4", 6: "<u4", 4: "<u2"}[f.datatype] for f in cloud.fields],
        "offsets": [f.offset for f in cloud.fields], "itemsize": cloud.point_step,
    })  # fmt: skip
    points = np.frombuffer(cloud.data.tobytes(), kind)
    assert len(points) == cloud.width > 5000
    assert set(names) == {"x", "y", "z", "intensity", "t", "ring"}
    assert (np.diff(points["t"].astype(np.int64)) >= 0).all()
    assert points["t"].max() < 100_000_000
    assert points["ring"].max() == RINGS - 1
    assert points["intensity"].min() >= 0
    assert points["intensity"].max() <= 1
    height = points["z"] + frame_poses()["lidar_top"][2, 3]
    assert (height > -0.15).all()
    assert np.mean(np.abs(height) < 0.08) > 0.3


def test_stamps_carry_offset_and_latency() -> None:
    for due in schedule(short_drive(seconds=1.0)):
        if due.role in CLOCKS:
            clock = CLOCKS[due.role]
            assert due.sensor_ns - due.true_ns == clock.offset_ns
            turn = 100_000_000 if due.role == "lidar_top" else 0
            assert abs(due.log_ns - due.true_ns - turn - clock.latency_ns) <= clock.jitter_ns


def test_front_camera_exposes_when_the_beam_looks_ahead() -> None:
    plan = schedule(short_drive(seconds=1.0))
    lidar = {d.true_ns for d in plan if d.role == "lidar_top"}
    assert all(d.true_ns - 50_000_000 in lidar for d in plan if d.role == "camera_front")


def test_extrinsics_in_the_log_are_those_of_the_camera(short_drive_folder: Path) -> None:
    from scipy.spatial.transform import Rotation

    with Reader(short_drive_folder / "recording") as reader:
        connections = [c for c in reader.connections if c.topic == "/tf_static"]
        _, _, raw = next(reader.messages(connections))
    message = typestore().deserialize_cdr(raw, "tf2_msgs/msg/TFMessage")
    front = next(t for t in message.transforms if t.child_frame_id == "camera_front")
    turn, shift = front.transform.rotation, front.transform.translation
    rotation = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
    assert np.allclose(rotation, FRONT.ego_SE3_camera[:3, :3])
    assert np.allclose([shift.x, shift.y, shift.z], FRONT.ego_SE3_camera[:3, 3])
    assert rotation[0, 2] > 0.99  # the optical axis looks ahead


def test_samples_cover_the_conditions() -> None:
    scripts = sample_drives()
    assert len(scripts) >= 8
    assert len({s.drive for s in scripts}) == len({s.seed for s in scripts}) == len(scripts)
    assert len({s.vehicle for s in scripts}) == 2
    assert {s.light for s in scripts} == {"day", "twilight", "night"}
    assert {s.weather for s in scripts} == {"clear", "rain", "fog"}
    assert {s.zone for s in scripts} == {"urban", "construction"}
    kinds = {event.kind for s in scripts for event in s.events}
    assert kinds == {"cut_in", "harsh_brake", "stationary_hazard", "disengagement"}
    assert all(s.seconds >= 20 and s.drive.startswith(s.vehicle) for s in scripts)


def test_scripts_that_contradict_themselves_are_refused() -> None:
    both = (ScriptedEvent("cut_in", 1.0), ScriptedEvent("stationary_hazard", 9.0))
    with pytest.raises(PoisonError, match="bad_script"):
        DriveScript("veh001-20250601t080000z", 20.0, 1, events=both)
    with pytest.raises(PoisonError, match="bad_script"):
        short_drive(seconds=0.0)


def test_start_comes_from_the_id() -> None:
    assert short_drive("veh001-20250601t080000z").start_ns == 1_748_764_800_000_000_000
    assert short_drive("any-name").start_ns == 1_748_764_800_000_000_000
    assert short_drive("veh001-20250601t080001z").start_ns == 1_748_764_801_000_000_000
