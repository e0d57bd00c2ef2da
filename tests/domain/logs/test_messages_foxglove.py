"""Protobuf, JSON and ROS 2 channels with Foxglove schemas give the same pictures, clouds, fixes and poses."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from foxglove_logs import as_json, as_protobuf, write_log
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from av_assets.domain.errors import LogError, SyncError
from av_assets.domain.geometry.calibration import Mount, calibration_from_log
from av_assets.domain.logs.contract import infer_streams, stream_kind
from av_assets.domain.logs.files.blocks import RawMessage
from av_assets.domain.logs.messages.definitions import stamp_offset
from av_assets.domain.logs.messages.foxglove import ros_equivalent
from av_assets.domain.logs.messages.payloads import IMAGE_TYPES, header_stamp_ns, image_payload
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.sync import wire
from av_assets.domain.sync.pointclouds import CloudReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STAMP = {"sec": 1_700_000_000, "nsec": 123_456_789}
STAMP_NS = 1_700_000_000_123_456_789
TURN = {"x": 0.0, "y": 0.0, "z": np.sqrt(0.5), "w": np.sqrt(0.5)}  # a quarter to the left
POSE = {"position": {"x": 1.0, "y": 2.0, "z": 3.0}, "orientation": TURN}
CLOUD_FIELDS = [{"name": n, "offset": 4 * i, "type": 7} for i, n in enumerate(("x", "y", "z", "intensity"))]
CONTENT: dict[str, dict[str, Any]] = {
    "CompressedImage": {"frame_id": "cam", "data": b"\xff\xd8\xff", "format": "jpg"},
    "CompressedVideo": {"frame_id": "cam", "data": b"\0\0\0\1\x65x", "format": "h265"},
    "RawImage": {
        "frame_id": "cam", "width": 2, "height": 3, "encoding": "rgb8", "step": 8, "data": bytes(24),
    },
    "PointCloud": {
        "frame_id": "lidar", "pose": POSE, "point_stride": 16, "fields": CLOUD_FIELDS,
        "data": struct.pack("<8f", 1, 0, 0, 0.5, 0, 1, 0, 1.0),
    },
    "LocationFix": {"frame_id": "gnss", "latitude": 48.5, "longitude": 11.5, "altitude": 500.0},
    "PoseInFrame": {"frame_id": "map", "pose": POSE},
    "Odometry": {
        "frame_id": "odom", "body_frame_id": "base_link", "pose": POSE,
        "linear_velocity": {"x": 7.0, "y": 0.0, "z": 0.0}, "angular_velocity": {"x": 0.0, "y": 0.0, "z": 0.25},
    },
}  # fmt: skip
ROS2 = {
    "CompressedImage": "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format",
    "CompressedVideo": "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format",
    "RawImage": "builtin_interfaces/Time timestamp\nstring frame_id\nuint32 width\nuint32 height\nstring encoding\n"
    "uint32 step\nuint8[] data",
    "PackedElementField": "string name\nuint32 offset\nuint8 type",
    "PointCloud": "builtin_interfaces/Time timestamp\nstring frame_id\ngeometry_msgs/Pose pose\nuint32 point_stride\n"
    "foxglove_msgs/PackedElementField[] fields\nuint8[] data",
    "LocationFix": "builtin_interfaces/Time timestamp\nstring frame_id\nfloat64 latitude\nfloat64 longitude\n"
    "float64 altitude\nfloat64[9] position_covariance\nuint8 position_covariance_type",
    "PoseInFrame": "builtin_interfaces/Time timestamp\nstring frame_id\ngeometry_msgs/Pose pose",
    "Odometry": "builtin_interfaces/Time timestamp\nstring frame_id\nstring body_frame_id\ngeometry_msgs/Pose pose\n"
    "geometry_msgs/Vector3 linear_velocity\ngeometry_msgs/Vector3 angular_velocity",
}
ENCODINGS = ("protobuf", "json", "cdr", "ros1")


def _ros_store(ros1: bool) -> Any:
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)
    for name, text in ROS2.items():
        store.register(get_types_from_msg(text, f"foxglove_msgs/msg/{name}"))
    return store


STORES = {"cdr": _ros_store(False), "ros1": _ros_store(True)}


def _as_ros(name: str, content: dict[str, Any], encoding: str) -> bytes:
    store = STORES[encoding]
    t = store.types
    made: dict[str, Any] = {
        "timestamp": t["builtin_interfaces/msg/Time"](
            content["timestamp"]["sec"], content["timestamp"]["nsec"]
        )
    }
    for key, value in content.items():
        if key == "pose":
            point = t["geometry_msgs/msg/Point"](**value["position"])
            made[key] = t["geometry_msgs/msg/Pose"](
                point, t["geometry_msgs/msg/Quaternion"](**value["orientation"])
            )
        elif key.endswith("velocity"):
            made[key] = t["geometry_msgs/msg/Vector3"](**value)
        elif key == "fields":
            made[key] = [t["foxglove_msgs/msg/PackedElementField"](**field) for field in value]
        elif key != "timestamp":
            made[key] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
    if name == "LocationFix":
        made |= {"position_covariance": np.zeros(9), "position_covariance_type": 0}
    msgtype = f"foxglove_msgs/msg/{name}"
    message = t[msgtype](**made)
    return bytes(
        store.serialize_cdr(message, msgtype) if encoding == "cdr" else store.serialize_ros1(message, msgtype)
    )


def _raw(name: str, encoding: str, **change: Any) -> RawMessage:
    content = {"timestamp": STAMP, **CONTENT[name], **change}
    if encoding == "json":
        return RawMessage("/t", f"foxglove.{name}", 1, as_json(content), "json", 0)
    if encoding == "protobuf":
        path = 6 if name == "LocationFix" else 1
        return RawMessage(
            "/t", f"foxglove.{name}", 1, as_protobuf(f"foxglove.{name}", content), "protobuf", path
        )
    msgtype = f"foxglove_msgs/msg/{name}"
    at = stamp_offset(msgtype, ROS2[name], "ros2msg", encoding)
    assert at == stamp_offset(msgtype, "", "", encoding)  # as in databases without definitions
    return RawMessage("/t", msgtype, 1, _as_ros(name, content, encoding), encoding, at)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", CONTENT)
def test_every_schema_has_its_stamp(name: str, encoding: str) -> None:
    assert header_stamp_ns(_raw(name, encoding)) == STAMP_NS


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["CompressedImage", "CompressedVideo", "RawImage"])
def test_pictures_are_what_was_written(name: str, encoding: str) -> None:
    raw, sent = _raw(name, encoding), CONTENT[name]
    assert raw.msgtype in IMAGE_TYPES
    payload = image_payload(raw)
    assert (payload.sensor_ns, payload.frame_id, bytes(payload.data)) == (STAMP_NS, "cam", sent["data"])
    assert (
        payload.encoding == {"CompressedImage": "jpeg", "CompressedVideo": "h265", "RawImage": "rgb8"}[name]
    )
    size = (sent.get("height", 0), sent.get("width", 0), sent.get("step", 0))
    assert (payload.height, payload.width, payload.step) == size


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_clouds_stand_where_their_pose_puts_them(encoding: str) -> None:
    points = CloudReader().read(_raw("PointCloud", encoding))
    np.testing.assert_allclose(points, [[1, 3, 3, 0.5], [0, 2, 3, 1.0]], atol=1e-6)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_small_messages_give_their_numbers(encoding: str) -> None:
    pose = (1.0, 2.0, 3.0, *TURN.values())
    assert wire.gnss(_raw("LocationFix", encoding)) == (0, (48.5, 11.5, 500.0))
    assert wire.pose(_raw("PoseInFrame", encoding)) == pytest.approx(pose)
    assert wire.odometry(_raw("Odometry", encoding)) == pytest.approx((*pose, 7.0, 0.25))
    assert wire.Cursor(_raw("PoseInFrame", encoding)).header() == "map"
    status, _ = wire.gnss(_raw("LocationFix", encoding, latitude=float("nan")))
    assert status < 0


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_calibration_and_mounts_come_out_of_a_log(tmp_path: Path, encoding: str) -> None:
    mount = {
        "timestamp": STAMP, "parent_frame_id": "base_link", "child_frame_id": "cam",
        "translation": {"x": 1.0, "y": 0.0, "z": 1.5}, "rotation": TURN,
    }  # fmt: skip
    lens = {
        "timestamp": STAMP, "frame_id": "cam", "width": 640, "height": 480, "distortion_model": "plumb_bob",
        "D": [0.1] * 5, "K": [500.0, 0, 320, 0, 500, 240, 0, 0, 1], "R": [1.0, 0, 0, 0, 1, 0, 0, 0, 1], "P": [0.0] * 12,
    }  # fmt: skip
    log = write_log(tmp_path / "a.mcap", [
        ("/tf_static", "foxglove.FrameTransforms", {"transforms": [mount]}, 1),
        ("/tf_one", "foxglove.FrameTransform", mount, 2),
        ("/cam/info", "foxglove.CameraCalibration", lens, 3),
    ], encoding)  # fmt: skip
    with LogReader(log) as reader:
        found = {raw.topic: ros_equivalent(raw.msgtype, reader.deserialize(raw)) for raw in reader.messages()}
        assert infer_streams({t: i.msgtype for t, i in reader.topics.items()}, {}) == {}
    for topic in ("/tf_static", "/tf_one"):
        made = calibration_from_log(
            [Mount("front", "camera", None)], [found[topic]], {"front": found["/cam/info"]}
        )
        camera = made.cameras["front"]
        assert (camera.width, camera.K[0], camera.D) == (640, (500.0, 0.0, 320.0), (0.1,) * 5)
        np.testing.assert_allclose(np.asarray(camera.ego_SE3_camera)[:3, 3], [1.0, 0.0, 1.5])
        np.testing.assert_allclose(np.asarray(camera.ego_SE3_camera)[:3, 0], [0.0, 1.0, 0.0], atol=1e-9)


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_broken_payloads_are_typed_errors_wherever_they_are_cut(encoding: str) -> None:
    for name, read in (("RawImage", image_payload), ("PointCloud", CloudReader().read)):
        raw = _raw(name, encoding)
        codes = {_code(read, raw._replace(data=raw.data[:length])) for length in range(len(raw.data))}
        assert {"bad_message"} <= codes <= {"bad_message", "bad_point_cloud", None}
        assert None not in codes or encoding == "protobuf"  # cut between two fields it is a shorter message


def _code(read: Callable[[RawMessage], Any], raw: RawMessage) -> str | None:
    header_stamp_ns(raw)  # never raises
    try:
        read(raw)
    except (LogError, SyncError) as error:
        return error.code
    return None


def test_a_json_picture_that_is_no_base64_is_refused() -> None:
    raw = RawMessage("/t", "foxglove.RawImage", 1, b'{"data": "%%%", "width": 1}', "json", 0)
    with pytest.raises(LogError, match="base64"):
        image_payload(raw)


@pytest.mark.parametrize(
    ("msgtype", "kind"),
    [("foxglove.PointCloud", "lidar"), ("foxglove_msgs/msg/RawImage", "camera"), ("foxglove.LocationFix", "gnss"),
     ("foxglove.SceneUpdate", None), ("foxglove.CameraCalibration", None), ("foxglove_msgs/msg/Log", None),
     ("car.Speed", "signal"), ("car.RadarTracks", "radar"), ("radar_msgs/msg/RadarScan", "radar")],
)  # fmt: skip
def test_kinds_of_schemas(msgtype: str, kind: str | None) -> None:
    assert stream_kind(msgtype) == kind
