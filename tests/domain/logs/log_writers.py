"""Small logs of every format, made by the reference writers: camera, IMU, GNSS and a custom type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

if TYPE_CHECKING:
    from pathlib import Path

START_NS = 1_750_000_000_000_000_000
DELAY_NS = 4_000_000
TRACKS = "std_msgs/Header header\nfloat64 x_m\nfloat64 v_mps\n"
CAMERA, IMU, GNSS, RADAR = "/camera_front/image/compressed", "/imu/data", "/gnss/fix", "/radar_front/tracks"
TYPES = {
    CAMERA: "sensor_msgs/msg/CompressedImage",
    IMU: "sensor_msgs/msg/Imu",
    GNSS: "sensor_msgs/msg/NavSatFix",
    RADAR: "av_msgs/msg/RadarTracks",
}
PERIOD_NS = {CAMERA: 100_000_000, IMU: 20_000_000, GNSS: 100_000_000, RADAR: 50_000_000}


class Sent(NamedTuple):
    topic: str
    log_ns: int
    message: Any


def store(ros1: bool = False) -> Any:
    types = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)
    types.register(get_types_from_msg(TRACKS, "av_msgs/msg/RadarTracks"))
    return types


def drive(
    types: Any, seconds: float = 2.0, drop: frozenset[str] = frozenset(), frozen: bool = False
) -> list[Sent]:
    """Messages in log order; the payload of an image tells its number."""
    sent: list[Sent] = []
    for topic, period in PERIOD_NS.items():
        for i in range(int(seconds * 1e9) // period if topic not in drop else 0):
            sensor_ns = START_NS + i * period
            sent.append(
                Sent(topic, sensor_ns + DELAY_NS, message(types, topic, sensor_ns, 0 if frozen else i))
            )
    return sorted(sent, key=lambda one: (one.log_ns, one.topic))


def message(types: Any, topic: str, sensor_ns: int, i: int) -> Any:
    t = types.types
    stamp = t["builtin_interfaces/msg/Time"](sec=sensor_ns // 10**9, nanosec=sensor_ns % 10**9)
    extra = {"seq": i} if "seq" in t["std_msgs/msg/Header"].__dataclass_fields__ else {}
    header = t["std_msgs/msg/Header"](stamp=stamp, frame_id=topic.split("/")[1], **extra)
    if topic == CAMERA:
        noise = np.random.default_rng(i).integers(0, 256, 600 + i, dtype=np.uint8)
        data = np.concatenate([np.frombuffer(b"\xff\xd8\xff\xe0", np.uint8), noise])
        return t[TYPES[topic]](header=header, format="jpeg", data=data)
    if topic == GNSS:
        status = t["sensor_msgs/msg/NavSatStatus"](status=0, service=1)
        covariance = np.zeros(9)
        return t[TYPES[topic]](header, status, 48.0 + i * 1e-5, 11.0, 500.0, covariance, 0)
    if topic == RADAR:
        return t[TYPES[topic]](header=header, x_m=float(i), v_mps=1.0)
    xyz = t["geometry_msgs/msg/Vector3"](0.0, 0.0, 9.81)
    turn = t["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    return t[TYPES[topic]](header, turn, np.zeros(9), xyz, np.zeros(9), xyz, np.zeros(9))


def write_ros1(path: Path, sent: list[Sent], types: Any, compression: str = "none") -> Path:
    from rosbags.rosbag1 import Writer

    writer = Writer(path)
    if compression != "none":
        writer.set_compression(Writer.CompressionFormat[compression.upper()])
    writer.chunk_threshold = 8192
    with writer:
        channels = {topic: writer.add_connection(topic, TYPES[topic], typestore=types) for topic in TYPES}
        for one in sent:
            data = types.serialize_ros1(one.message, TYPES[one.topic])
            writer.write(channels[one.topic], one.log_ns, data)
    return path


def write_rosbag2(folder: Path, sent: list[Sent], types: Any, plugin: str, compression: str = "") -> Path:
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    writer = Writer(folder, version=9, storage_plugin=StoragePlugin[plugin])
    if compression:
        writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
    with writer:
        channels = {topic: writer.add_connection(topic, TYPES[topic], typestore=types) for topic in TYPES}
        for one in sent:
            writer.write(channels[one.topic], one.log_ns, types.serialize_cdr(one.message, TYPES[one.topic]))
    return folder


def write_mcap(
    path: Path, sent: list[Sent], types: Any, compression: str = "lz4", ros1: bool = False, **options: Any
) -> Path:
    from mcap.writer import CompressionType, Writer

    encode = types.serialize_ros1 if ros1 else types.serialize_cdr
    with path.open("wb") as file:
        kind = CompressionType[compression.upper()]
        writer = Writer(file, chunk_size=options.pop("chunk_size", 8192), compression=kind, **options)
        writer.start(profile="ros1" if ros1 else "ros2", library="test")
        channels = {}
        for topic, name in TYPES.items():
            text, _ = types.generate_msgdef(name, ros_version=1 if ros1 else 2)
            schema_name = name.replace("/msg/", "/") if ros1 else name
            schema = writer.register_schema(schema_name, "ros1msg" if ros1 else "ros2msg", text.encode())
            channels[topic] = writer.register_channel(topic, "ros1" if ros1 else "cdr", schema)
        for one in sent:
            data = bytes(encode(one.message, TYPES[one.topic]))
            writer.add_message(channels[one.topic], one.log_ns, data, one.log_ns)
        writer.finish()
    return path
