"""The topic contract: which stream has which role, as declared in drive.yaml or inferred from message types.

Belongs here: roles and kinds. Does not belong here: whether the log keeps the contract (`integrity`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from av_assets.domain.logs.aliases import apply_aliases
from av_assets.domain.logs.drive_spec import StreamKind, StreamSpec
from av_assets.domain.logs.messages.payloads import IMAGE_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS: dict[str, StreamKind] = {
    **dict.fromkeys(IMAGE_TYPES, "camera"),
    "sensor_msgs/msg/PointCloud2": "lidar",
    "sensor_msgs/msg/Imu": "imu",
    "sensor_msgs/msg/NavSatFix": "gnss",
    "geometry_msgs/msg/PoseStamped": "pose",
    "geometry_msgs/msg/PoseWithCovarianceStamped": "pose",
    "nav_msgs/msg/Odometry": "pose",
    "can_msgs/msg/Frame": "can",
    "ros2_socketcan_msgs/msg/FdFrame": "can",
    "canfd_msgs/msg/Frame": "can",
}
_FOXGLOVE_KINDS: dict[str, StreamKind] = {
    "PointCloud": "lidar",
    "LocationFix": "gnss",
    "PoseInFrame": "pose",
    "Odometry": "pose",
}
_FOXGLOVE = re.compile(r"^foxglove(?:\.|_msgs/msg/)(\w+)$")
_RADAR = re.compile(r"[/.]Radar(Scan|(Track|Detection|Object|Target)(s|Array|List))$")
# Infrastructure and things that are no stream of numbers; calibration is found by its type, not by a role.
_NO_ROLE = re.compile(
    r"^(tf|tf2_msgs|rosgraph_msgs|rcl_interfaces|diagnostic_msgs|visualization_msgs|bond|dynamic_reconfigure|"
    r"rosbag2_interfaces|lifecycle_msgs|theora_image_transport|stereo_msgs|shape_msgs|actionlib_msgs)/|"
    r"/(CameraInfo|String|LaserScan|MultiEchoLaserScan|OccupancyGrid|Path|GridCells|PointCloud|MarkerArray|Log|"
    r"ParameterEvent|PacketMsg|Clock|Empty|DisparityImage|PoseArray)$"
)
_FILLERS = frozenset(
    [
        "image",
        "images",
        "raw",
        "compressed",
        "video",
        "h264",
        "h265",
        "jpeg",
        "color",
        "data",
        "points",
        "pointcloud",
        "cloud",
        "tracks",
        "frames",
        "frame",
        "fix",
        "msg",
        "sensor",
        "sensors",
    ]
)
_ANSWERED = {"imu": {"imu"}, "gnss": {"gnss", "gps", "navsat"}, "can": {"can"}, "pose": {"pose"}}


def infer_streams(topics: Mapping[str, str], declared: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
    """Roles of all topics (topic -> message type): declared ones (by their aliases where the topic was renamed),
    the others by type and name.

    Roles are unique and match `[a-z][a-z0-9_]*`. Inferred streams are not required and carry no rate.
    """
    streams = apply_aliases(declared, topics.keys())
    claimed = {stream.topic for stream in streams.values()}
    free = {topic: kind for topic, msgtype in sorted(topics.items()) if topic not in claimed
            if (kind := stream_kind(msgtype)) is not None}  # fmt: skip
    for topic, kind in free.items():
        role = _unique(_role(topic, kind), streams)
        streams[role] = StreamSpec(topic=topic, kind=kind, required=False)
    return streams


def stream_kind(msgtype: str) -> StreamKind | None:
    """What a message type is to the platform; None for infrastructure such as logs and transforms."""
    if msgtype in _KINDS:
        return _KINDS[msgtype]
    if found := _FOXGLOVE.match(msgtype):  # its other schemas are drawings, logs and calibration
        return _FOXGLOVE_KINDS.get(found[1])
    if _RADAR.search(msgtype):
        return "radar"
    return None if not msgtype or _NO_ROLE.search(msgtype) else "signal"


def _role(topic: str, kind: StreamKind) -> str:
    """`/camera/front/video` -> camera_front, `/imu/data` -> imu, `/vehicle/speed` -> vehicle_speed."""
    words = re.findall(r"[a-z0-9]+", topic.lower())
    if kind != "signal":
        words = [word for word in words if word not in _FILLERS | _ANSWERED.get(kind, {kind})]
        if not words or not re.match(rf"{kind}\d*$", words[0]):  # `/can0/received` is can0_received
            words.insert(0, kind)
    role = "_".join(words) or "signal"
    return role if role[0].isalpha() else f"{kind}_{role}"


def _unique(role: str, taken: Mapping[str, StreamSpec]) -> str:
    number, name = 2, role
    while name in taken:
        name, number = f"{role}_{number}", number + 1
    return name
