"""Ouster packets: against the formulas of the manual, and a real recording against what the vendor's SDK gives."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from av_assets.domain.errors import LogError
from av_assets.domain.logs.contract import infer_streams
from av_assets.domain.logs.files.blocks import RawMessage, TopicInfo
from av_assets.domain.logs.messages.ouster import SweepBuilder, convert_ouster, ouster_clouds, ouster_sensors
from av_assets.domain.logs.messages.ouster_packets import OusterSensor
from av_assets.domain.logs.reader import LogReader, header_stamp_ns
from av_assets.domain.sync.pointclouds import CloudReader

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS, PER_PACKET, BEAMS, ORIGIN_MM = 32, 8, 4, 27.67
ALTITUDE, AZIMUTH = [20.0, 5.5, -5.0, -21.0], [3.0, 1.0, -1.0, -3.0]
SENSOR_TIME_NS, COLUMN_NS = 5_000_000_000, 3_000_000
META: dict[str, Any] = {
    "lidar_data_format": {"columns_per_frame": COLUMNS, "columns_per_packet": PER_PACKET},
    "beam_intrinsics": {
        "beam_altitude_angles": ALTITUDE, "beam_azimuth_angles": AZIMUTH, "lidar_origin_to_beam_origin_mm": ORIGIN_MM,
    },
    "lidar_intrinsics": {"lidar_to_sensor_transform": [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 36.18, 0, 0, 0, 1]},
}  # fmt: skip
SDK_SHAPE = (28751, 4)
SDK_MEAN = [0.012400410361205432, -0.3672231157766559, 0.04077187653806954]
SDK_ROWS = [0, 1000, 14000, 28750]
SDK_POINTS = [
    [-0.316391, 0.045729, 0.176676],
    [-1.344686, 0.267704, -0.31401],
    [0.213407, -0.193612, 0.185618],
    [-0.898663, 0.04145, -0.794502],
]
SDK_OFFSETS_NS = [0, 2344330, 62450060, 99704180]
UNIT_M = {
    "LEGACY": 1e-3,
    "RNG19_RFL8_SIG16_NIR16": 1e-3,
    "RNG19_RFL8_SIG16_NIR16_DUAL": 1e-3,
    "RNG15_RFL8_NIR8": 8e-3,
}


def _metadata(profile: str) -> str:
    return json.dumps(
        {**META, "lidar_data_format": {**META["lidar_data_format"], "udp_profile_lidar": profile}}
    )


def _pixel(profile: str, distance: int, reflectivity: int) -> bytes:
    """Bits beside range and reflectivity are set, and must not matter."""
    if profile == "LEGACY":
        return struct.pack("<IHHHH", distance | 0xFFF << 20, reflectivity, 7, 7, 7)
    if profile == "RNG15_RFL8_NIR8":
        return struct.pack("<HBB", distance | 0x8000, reflectivity, 7)
    if profile.endswith("DUAL"):
        return struct.pack("<IIHHI", distance | reflectivity << 24, 0xFFFFFFFF, 7, 7, 7)
    return struct.pack("<IBBHHH", distance | 0x1FFF << 19, reflectivity, 7, 7, 7, 7)


def _packet(
    profile: str, frame: int, first: int, pixels: dict[tuple[int, int], tuple[int, int]], valid: int
) -> bytes:
    out = b"" if profile == "LEGACY" else struct.pack("<HH", 1, frame).ljust(32, b"\0")
    for column in range(first, first + PER_PACKET):
        time_ns = SENSOR_TIME_NS + (frame * COLUMNS + column) * COLUMN_NS
        body = b"".join(_pixel(profile, *pixels.get((column, beam), (0, 99))) for beam in range(BEAMS))
        if profile == "LEGACY":
            out += (
                struct.pack("<QHHI", time_ns, column, frame, 0) + body + struct.pack("<I", 0xFFFFFFFF * valid)
            )
        else:
            out += struct.pack("<QHH", time_ns, column, valid) + body
    return out if profile == "LEGACY" else out + bytes(32)


def _raw(packet: bytes, log_ns: int) -> RawMessage:
    data = struct.pack("<4sI", b"\0\1\0\0", len(packet)) + packet
    return RawMessage("/os/lidar_packets", "ouster_ros/msg/PacketMsg", log_ns, data, "cdr", None)


def _expected(column: int, beam: int, range_m: float) -> tuple[float, float, float]:
    encoder = 2 * math.pi * (1 - column / COLUMNS)
    angle, rise, n = encoder - math.radians(AZIMUTH[beam]), math.radians(ALTITUDE[beam]), ORIGIN_MM / 1000
    x = (range_m - n) * math.cos(angle) * math.cos(rise) + n * math.cos(encoder)
    y = (range_m - n) * math.sin(angle) * math.cos(rise) + n * math.sin(encoder)
    return -x, -y, (range_m - n) * math.sin(rise) + 0.03618


@pytest.mark.parametrize("profile", UNIT_M)
def test_packets_become_one_timed_cloud_a_turn(profile: str) -> None:
    pixels = {(3, 0): (1500, 255), (3, 3): (2000, 51), (17, 2): (30_000, 0), (31, 1): (900, 102)}
    builder = SweepBuilder(OusterSensor.from_json(_metadata(profile)), "/os/points", "os_sensor")
    assert builder.sensor.packet_bytes == len(_packet(profile, 0, 0, {}, 1))
    clouds = []
    for frame in (0xFFFF, 0, 1):
        for first in range(0, COLUMNS, PER_PACKET):
            log_ns = 10**18 + frame * 100 + first
            clouds += builder.push(_raw(_packet(profile, frame, first, pixels, int(frame != 1)), log_ns))
    clouds += builder.flush()
    assert [cloud.log_ns - 10**18 for cloud in clouds] == [
        0xFFFF * 100 + 24,
        24,
    ]  # the third turn was not valid
    assert header_stamp_ns(clouds[1]) == SENSOR_TIME_NS
    found = CloudReader().read_timed(clouds[1])
    expected = [_expected(*at, value * UNIT_M[profile]) for at, (value, _) in pixels.items()]
    np.testing.assert_allclose(found.points[:, :3], expected, atol=1e-5)
    np.testing.assert_allclose(found.points[:, 3], [1.0, 0.2, 0.0, 0.4])
    assert found.offset_ns is not None
    assert found.ring is not None
    assert found.offset_ns.tolist() == [column * COLUMN_NS for column, _ in pixels]
    assert found.ring.tolist() == [beam for _, beam in pixels]


def test_the_reference_reader_reads_the_cloud() -> None:
    builder = SweepBuilder(OusterSensor.from_json(_metadata("LEGACY")), "/os/points", "os_sensor")
    list(builder.push(_raw(_packet("LEGACY", 0, 0, {(1, 1): (5000, 9)}, 1), 7)))
    (cloud,) = builder.flush()
    message = get_typestore(Stores.ROS2_JAZZY).deserialize_cdr(cloud.data, cloud.msgtype)
    assert (message.header.frame_id, message.width, message.height) == ("os_sensor", 1, 1)
    assert [field.name for field in message.fields] == ["x", "y", "z", "intensity", "ring", "t"]
    assert len(message.data) == message.row_step == message.point_step
    np.testing.assert_allclose(message.data[:12].view("<f4"), _expected(1, 1, 5.0), atol=1e-5)


def test_packets_that_are_none_are_counted() -> None:
    builder = SweepBuilder(OusterSensor.from_json(_metadata("LEGACY")), "/os/points", "os_sensor")
    good = _raw(_packet("LEGACY", 0, 0, {}, 1), 1)
    for length in range(len(good.data)):
        assert list(builder.push(good._replace(data=good.data[:length]))) == []
    assert builder.broken == len(good.data)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", _metadata("FUSA_RNG15"), _metadata("LEGACY").replace("32,", "99999999,"),
     _metadata("LEGACY").replace("20.0, ", ""), _metadata("LEGACY").replace("5.5", "NaN"), "[" * 100_000],
)  # fmt: skip
def test_metadata_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(LogError) as caught:
        OusterSensor.from_json(text)
    assert caught.value.code == "bad_sensor_metadata"


class _Log:
    """A log that holds packets and no metadata."""

    topics = {"/os/lidar_packets": TopicInfo("/os/lidar_packets", "ouster_ros/msg/PacketMsg", 1, "cdr")}  # noqa: RUF012


def test_without_metadata_it_is_said_what_is_needed() -> None:
    with pytest.raises(LogError, match="metadata") as caught:
        ouster_sensors(_Log())  # type: ignore[arg-type]
    assert (caught.value.code, "JSON" in caught.value.remedy) == ("no_sensor_metadata", True)
    assert ouster_sensors(_Log(), {"/os/lidar_packets": _metadata("LEGACY")}).keys() == _Log.topics.keys()  # type: ignore[arg-type]


def test_clouds_land_beside_the_recording_as_a_lidar_stream(real_data: Path, tmp_path: Path) -> None:
    bag = real_data / "bags/ouster_512x10_raw.bag"
    assert convert_ouster(bag, tmp_path / "points.mcap") == {"/os_node0/points": 1}
    with LogReader([bag, tmp_path / "points.mcap"]) as reader:
        streams = infer_streams({topic: info.msgtype for topic, info in reader.topics.items()}, {})
        assert {stream.topic: stream.kind for stream in streams.values()} == {"/os_node0/points": "lidar"}
        (raw,) = reader.messages({"/os_node0/points"})
        assert reader.deserialize(raw).width == SDK_SHAPE[0]
    with pytest.raises(LogError) as caught:
        convert_ouster(tmp_path / "points.mcap", tmp_path / "again.mcap")
    assert (caught.value.code, (tmp_path / "again.mcap").exists()) == ("no_packets", False)


def test_a_real_recording_gives_the_points_of_the_sdk(real_data: Path) -> None:
    """Expected values: ouster-sdk 1.0.1, FrameBatcher and XYZLut over the same packets."""
    with LogReader(real_data / "bags/ouster_512x10_raw.bag") as reader:
        (raw,) = ouster_clouds(reader, ouster_sensors(reader))
    found = CloudReader(100_000_000).read_timed(raw)
    assert (raw.topic, found.points.shape) == ("/os_node0/points", SDK_SHAPE)
    np.testing.assert_allclose(found.points[:, :3].astype(np.float64).mean(axis=0), SDK_MEAN, atol=1e-6)
    np.testing.assert_allclose(found.points[SDK_ROWS, :3], SDK_POINTS, atol=1e-5)
    assert found.offset_ns is not None
    assert found.offset_ns[SDK_ROWS].tolist() == SDK_OFFSETS_NS
