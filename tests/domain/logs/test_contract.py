"""Roles from message types and names."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.logs.contract import infer_streams
from av_assets.domain.logs.drive_spec import StreamSpec

IMAGE, VIDEO = "sensor_msgs/msg/CompressedImage", "foxglove_msgs/msg/CompressedVideo"


def roles(topics: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {stream.topic: (role, stream.kind) for role, stream in infer_streams(topics, {}).items()}


def test_roles_by_type_and_name() -> None:
    found = roles(
        {
            "/camera/front/video": VIDEO,
            "/camera_rear/image/compressed": IMAGE,
            "/image_raw": "sensor_msgs/msg/Image",
            "/lidar_top/points": "sensor_msgs/msg/PointCloud2",
            "/radar_front/tracks": "av_msgs/msg/RadarTracks",
            "/imu/data": "sensor_msgs/msg/Imu",
            "/gnss/fix": "sensor_msgs/msg/NavSatFix",
            "/can0/received": "can_msgs/msg/Frame",
            "/can/frames": "can_msgs/msg/Frame",
            "/localization/pose": "geometry_msgs/msg/PoseStamped",
            "/vehicle/speed": "acme_msgs/msg/Speed",
            "/tf_static": "tf2_msgs/msg/TFMessage",
            "/camera_rear/camera_info": "sensor_msgs/msg/CameraInfo",
        }
    )
    assert found == {
        "/camera/front/video": ("camera_front", "camera"),
        "/camera_rear/image/compressed": ("camera_rear", "camera"),
        "/image_raw": ("camera", "camera"),
        "/lidar_top/points": ("lidar_top", "lidar"),
        "/radar_front/tracks": ("radar_front", "radar"),
        "/imu/data": ("imu", "imu"),
        "/gnss/fix": ("gnss", "gnss"),
        "/can0/received": ("can0_received", "can"),
        "/can/frames": ("can", "can"),
        "/localization/pose": ("pose_localization", "pose"),
        "/vehicle/speed": ("vehicle_speed", "signal"),
    }


def test_declared_streams_win() -> None:
    declared = {"camera_front": StreamSpec(topic="/cam1", kind="camera", rate_hz=10)}
    found = infer_streams({"/cam1": IMAGE, "/camera_front/image": IMAGE}, declared)
    assert found["camera_front"] is declared["camera_front"]
    assert found["camera_front_2"].topic == "/camera_front/image"
    assert len(found) == 2


@given(
    st.dictionaries(
        st.text(max_size=30), st.sampled_from([IMAGE, VIDEO, "can_msgs/msg/Frame", "a/msg/B", ""])
    )
)
def test_roles_are_unique_identifiers(topics: dict[str, str]) -> None:
    found = infer_streams(topics, {})
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", role) for role in found)
    assert len({stream.topic for stream in found.values()}) == len(found)
    assert sum(kind != "" for kind in topics.values()) == len(found)
