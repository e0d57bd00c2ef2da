"""ROS 2 messages made of what shards hold.

Belongs here: message layouts. Does not belong here: topics and times (`mcap_export`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.geometry.calibration import EGO_FRAME
from av_assets.domain.geometry.transforms import matrices_to_quaternions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from av_assets.domain.geometry.calibration import Calibration, CameraCalibration
    from av_assets.domain.privacy.frames import RedactedFrame

_FLOAT32 = 7
_POINT_FIELDS = ("x", "y", "z", "intensity")
_TRACK = "int32 track_id\nfloat32 x_m\nfloat32 y_m\nfloat32 vx_mps\nfloat32 vy_mps\n"
_TRACKS = "std_msgs/Header header\nav_msgs/RadarTrack[] tracks\n"
_VIDEO = "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
_SIGNALS = "av_msgs/msg/Signals"


def field_names(signals: Iterable[str]) -> dict[str, str]:
    """Signal name -> a field name that ROS 2 accepts; different signals have different fields."""
    fields: dict[str, str] = {}
    for name in sorted(signals):
        plain = re.sub(r"_+", "_", re.sub(r"[^a-z0-9]", "_", name.lower())).strip("_")
        plain = plain if plain[:1].isalpha() and plain not in _RESERVED else f"s_{plain}".rstrip("_")
        taken, number = set(fields.values()), 2
        field = plain
        while field in taken:
            field, number = f"{plain}_{number}", number + 1
        fields[name] = field
    return fields


_RESERVED = frozenset({"header", "frame_index", "keyframe"})


class Ros2Messages:
    """Builds and serialises messages. `signal_fields` are the float64 fields of a Signals message."""

    def __init__(self, signal_fields: Sequence[str]) -> None:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        self._store: Any = get_typestore(Stores.ROS2_JAZZY)
        signals = "std_msgs/Header header\nint32 frame_index\nbool keyframe\n"
        signals += "".join(f"float64 {name}\n" for name in signal_fields)
        definitions = {
            "av_msgs/msg/RadarTrack": _TRACK,
            "av_msgs/msg/RadarTracks": _TRACKS,
            "foxglove_msgs/msg/CompressedVideo": _VIDEO,
            _SIGNALS: signals,
        }
        types: dict[str, Any] = {}
        for name, text in definitions.items():
            types.update(get_types_from_msg(text, name))
        self._store.register({name: types[name] for name in definitions})

    def definition(self, msgtype: str) -> str:
        return str(self._store.generate_msgdef(msgtype, ros_version=2)[0])

    def serialized(self, message: Any, msgtype: str) -> bytes:
        return bytes(self._store.serialize_cdr(message, msgtype))

    def _make(self, kind: str, /, **fields: Any) -> Any:
        return self._store.types[kind](**fields)

    def _stamp(self, ns: int) -> Any:
        sec, nanosec = divmod(ns, 1_000_000_000)
        return self._make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)

    def _header(self, ns: int, frame: str) -> Any:
        return self._make("std_msgs/msg/Header", stamp=self._stamp(ns), frame_id=frame)

    def picture(self, frame: RedactedFrame) -> Any:
        """A CompressedImage, or a CompressedVideo for an access unit."""
        data = np.frombuffer(frame.data, np.uint8)
        if frame.encoding in ("h264", "h265"):
            return self._make(
                "foxglove_msgs/msg/CompressedVideo", timestamp=self._stamp(frame.sensor_ns),
                frame_id=frame.role, data=data, format=frame.encoding,
            )  # fmt: skip
        header = self._header(frame.sensor_ns, frame.role)
        return self._make("sensor_msgs/msg/CompressedImage", header=header, format=frame.encoding, data=data)

    def camera_info(self, sensor_ns: int, role: str, camera: CameraCalibration) -> Any:
        k = np.array(camera.K, np.float64)
        region = self._make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        return self._make(
            "sensor_msgs/msg/CameraInfo", header=self._header(sensor_ns, role), height=camera.height,
            width=camera.width, distortion_model="plumb_bob", d=_five(camera.D), k=k.ravel(),
            r=np.eye(3).ravel(), p=np.hstack([k, np.zeros((3, 1))]).ravel(), binning_x=0, binning_y=0,
            roi=region,
        )  # fmt: skip

    def cloud(self, sensor_ns: int, role: str, points: NDArray[np.float32]) -> Any:
        """A PointCloud2 of (N, 4) x, y, z, intensity; shards hold points in the frame of their sensor."""
        fields = [
            self._make("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=_FLOAT32, count=1)
            for i, name in enumerate(_POINT_FIELDS)
        ]
        return self._make(
            "sensor_msgs/msg/PointCloud2", header=self._header(sensor_ns, role), height=1,
            width=len(points), fields=fields, is_bigendian=False, point_step=16, row_step=16 * len(points),
            data=np.frombuffer(points.tobytes(), np.uint8), is_dense=bool(np.isfinite(points).all()),
        )  # fmt: skip

    def tracks(self, sensor_ns: int, tracks: Sequence[Mapping[str, Any]]) -> Any:
        """A RadarTracks; shards hold tracks in the ego frame."""
        names = ("track_id", "x_m", "y_m", "vx_mps", "vy_mps")
        rows = [self._make("av_msgs/msg/RadarTrack", **{n: track[n] for n in names}) for track in tracks]
        return self._make("av_msgs/msg/RadarTracks", header=self._header(sensor_ns, EGO_FRAME), tracks=rows)

    def signals(self, ref_ns: int, frame_index: int, keyframe: bool, values: Mapping[str, float]) -> Any:
        header = self._header(ref_ns, EGO_FRAME)
        return self._make(_SIGNALS, header=header, frame_index=frame_index, keyframe=keyframe, **values)

    def transforms(self, ref_ns: int, calibration: Calibration) -> Any:
        """A TFMessage with every mounting, ego to sensor."""
        poses = {role: camera.ego_SE3_camera for role, camera in calibration.cameras.items()}
        poses |= {role: lidar.ego_SE3_lidar for role, lidar in calibration.lidars.items()}
        transforms = [self._transform(ref_ns, role, np.array(pose)) for role, pose in sorted(poses.items())]
        return self._make("tf2_msgs/msg/TFMessage", transforms=transforms)

    def _transform(self, ref_ns: int, role: str, pose: NDArray[np.float64]) -> Any:
        x, y, z, w = matrices_to_quaternions(pose[:3, :3]).tolist()
        tx, ty, tz = pose[:3, 3].tolist()
        return self._make(
            "geometry_msgs/msg/TransformStamped", header=self._header(ref_ns, EGO_FRAME), child_frame_id=role,
            transform=self._make(
                "geometry_msgs/msg/Transform",
                translation=self._make("geometry_msgs/msg/Vector3", x=tx, y=ty, z=tz),
                rotation=self._make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
            ),
        )  # fmt: skip


def _five(distortion: Sequence[float]) -> NDArray[np.float64]:
    """plumb_bob has five coefficients; those that are not given are zero."""
    return np.array([*distortion, *[0.0] * (5 - len(distortion))], np.float64)
