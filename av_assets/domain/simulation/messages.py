"""The ROS 2 messages of the rig: own types, and one function per message that is recorded.

Belongs here: message layout. Does not belong here: what is in them (camera, lidar, signals, canbus).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.domain.simulation.camera import Camera
    from av_assets.domain.simulation.road import Array

RADAR_TRACK = """\
# One tracked object, in axes and origin of the frame in the header of the list (x forward, y left).
# The velocity is relative: over ground, less that of the sensor. vx plus the ego speed is over ground.
int32 track_id
float32 x_m
float32 y_m
float32 vx_mps
float32 vy_mps
"""
CUSTOM = {
    "av_msgs/msg/RadarTrack": RADAR_TRACK,
    "av_msgs/msg/RadarTracks": "std_msgs/Header header\nav_msgs/RadarTrack[] tracks\n",
    "can_msgs/msg/Frame": (
        "std_msgs/Header header\nuint32 id\nbool is_rtr\nbool is_extended\nbool is_error\n"
        "uint8 dlc\nuint8[8] data\n"
    ),
}
POINT_FIELDS = (("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 12, 7), ("t", 16, 6), ("ring", 20, 4))


@lru_cache(maxsize=1)
def typestore() -> Any:
    """The Jazzy types of rosbags with the rig's own registered."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in CUSTOM.items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


def _make(kind: str, /, **fields: Any) -> Any:
    return typestore().types[kind](**fields)


def stamp(ns: int) -> Any:
    return _make("builtin_interfaces/msg/Time", sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


def header(ns: int, frame: str) -> Any:
    return _make("std_msgs/msg/Header", stamp=stamp(ns), frame_id=frame)


def _vector(x: float, y: float, z: float) -> Any:
    return _make("geometry_msgs/msg/Vector3", x=float(x), y=float(y), z=float(z))


def jpeg_image(ns: int, frame: str, data: NDArray[np.uint8]) -> Any:
    return _make(
        "sensor_msgs/msg/CompressedImage",
        header=header(ns, frame),
        format="rgb8; jpeg compressed bgr8",
        data=data,
    )


def camera_info(ns: int, camera: Camera) -> Any:
    roi = _make(
        "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    projection = np.hstack([camera.matrix, np.zeros((3, 1))])
    return _make(
        "sensor_msgs/msg/CameraInfo", header=header(ns, camera.role),
        height=camera.height, width=camera.width,
        distortion_model="plumb_bob", d=np.zeros(5), k=camera.matrix.ravel(), r=np.eye(3).ravel(),
        p=projection.ravel(), binning_x=0, binning_y=0, roi=roi,
    )  # fmt: skip


def point_cloud(ns: int, frame: str, points: NDArray[np.void]) -> Any:
    fields = [
        _make("sensor_msgs/msg/PointField", name=name, offset=offset, datatype=kind, count=1)
        for name, offset, kind in POINT_FIELDS
    ]
    step = points.dtype.itemsize
    return _make(
        "sensor_msgs/msg/PointCloud2", header=header(ns, frame), height=1, width=len(points), fields=fields,
        is_bigendian=False, point_step=step, row_step=step * len(points),
        data=np.frombuffer(points.tobytes(), np.uint8), is_dense=True,
    )  # fmt: skip


def radar_tracks(ns: int, frame: str, tracks: list[tuple[int, float, float, float, float]]) -> Any:
    """`tracks` rows: id, x, y (m), vx, vy relative (m/s)."""
    rows = [
        _make("av_msgs/msg/RadarTrack", track_id=i, x_m=x, y_m=y, vx_mps=vx, vy_mps=vy)
        for i, x, y, vx, vy in tracks
    ]
    return _make("av_msgs/msg/RadarTracks", header=header(ns, frame), tracks=rows)


def imu(ns: int, frame: str, accel_mps2: Array, rate_radps: Array) -> Any:
    """Orientation is not measured: its covariance starts with -1, as the message asks."""
    unknown = np.zeros(9)
    unknown[0] = -1.0
    rest = _make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)
    return _make(
        "sensor_msgs/msg/Imu", header=header(ns, frame), orientation=rest, orientation_covariance=unknown,
        angular_velocity=_vector(*rate_radps), angular_velocity_covariance=np.diag([1e-6] * 3).ravel(),
        linear_acceleration=_vector(*accel_mps2),
        linear_acceleration_covariance=np.diag([2.5e-3] * 3).ravel(),
    )  # fmt: skip


def gnss_fix(ns: int, frame: str, latitude_deg: float, longitude_deg: float, altitude_m: float) -> Any:
    status = _make("sensor_msgs/msg/NavSatStatus", status=0, service=1)
    return _make(
        "sensor_msgs/msg/NavSatFix", header=header(ns, frame), status=status, latitude=latitude_deg,
        longitude=longitude_deg, altitude=altitude_m, position_covariance=np.diag([0.25, 0.25, 1.0]).ravel(),
        position_covariance_type=2,
    )  # fmt: skip


def can_frame(ns: int, ident: int, data: bytes) -> Any:
    padded = np.zeros(8, np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    return _make(
        "can_msgs/msg/Frame", header=header(ns, ""), id=ident, is_rtr=False,
        is_extended=False, is_error=False, dlc=len(data), data=padded,
    )  # fmt: skip


def quaternion(rotation: Array) -> tuple[float, float, float, float]:
    """x, y, z, w of a rotation matrix (3, 3)."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return float(x), float(y), float(z), float(w)


def static_transforms(ns: int, poses: dict[str, Array]) -> Any:
    """`poses`: frame -> 4x4 that maps its points to base_link."""
    rows = []
    for frame, pose in poses.items():
        x, y, z, w = quaternion(pose[:3, :3])
        turn = _make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
        transform = _make("geometry_msgs/msg/Transform", translation=_vector(*pose[:3, 3]), rotation=turn)
        kind = "geometry_msgs/msg/TransformStamped"
        rows.append(_make(kind, header=header(ns, "base_link"), child_frame_id=frame, transform=transform))
    return _make("tf2_msgs/msg/TFMessage", transforms=rows)
