"""Foxglove schemas, as protobuf and as JSON: pictures and small messages by field, without message classes.

Belongs here: field numbers and names of the foxglove.* schemas, and their ROS equivalents. Does not belong here:
the wire formats (`protobuf_wire`, `json_messages`); foxglove_msgs in ROS encodings read like other ROS types.
Schemas: https://docs.foxglove.dev/docs/sdk/schemas
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import LogError
from av_assets.domain.logs.messages import json_messages, protobuf_wire
from av_assets.domain.logs.messages.protobuf_wire import blob, number, text, whole

if TYPE_CHECKING:
    from av_assets.domain.logs.files.blocks import RawMessage

_CALIBRATION_TYPES = frozenset({"foxglove.CameraCalibration", "foxglove_msgs/msg/CameraCalibration"})
_TRANSFORM_TYPES = frozenset(
    f"{package}{name}"
    for package in ("foxglove.", "foxglove_msgs/msg/")
    for name in ("FrameTransform", "FrameTransforms")
)
GNSS_TYPES = ("sensor_msgs/msg/NavSatFix", "foxglove_msgs/msg/LocationFix", "foxglove.LocationFix")
# Types that `ros_equivalent` brings into the shape of the first.
CAMERA_INFO_TYPES = frozenset({"sensor_msgs/msg/CameraInfo"}) | _CALIBRATION_TYPES
TRANSFORM_TYPES = frozenset({"tf2_msgs/msg/TFMessage"}) | _TRANSFORM_TYPES
_VECTOR = {"x": (1, "number"), "y": (2, "number"), "z": (3, "number")}
_QUATERNION = {**_VECTOR, "w": (4, "number")}
_POSE = {"position": (1, _VECTOR), "orientation": (2, _QUATERNION)}
_ELEMENT = {"name": (1, "text"), "offset": (2, "whole"), "type": (3, "whole")}
# name -> (protobuf field number, kind); a mapping is a nested message, a list of one a repeated message.
SCHEMAS: dict[str, dict[str, Any]] = {
    "foxglove.CompressedImage": {
        "timestamp": (1, "time"), "frame_id": (4, "text"), "data": (2, "blob"), "format": (3, "text"),
    },
    "foxglove.CompressedVideo": {
        "timestamp": (1, "time"), "frame_id": (2, "text"), "data": (3, "blob"), "format": (4, "text"),
    },
    "foxglove.RawImage": {
        "timestamp": (1, "time"), "frame_id": (7, "text"), "width": (2, "whole"), "height": (3, "whole"),
        "encoding": (4, "text"), "step": (5, "whole"), "data": (6, "blob"),
    },
    "foxglove.PointCloud": {
        "timestamp": (1, "time"), "frame_id": (2, "text"), "pose": (3, _POSE), "point_stride": (4, "whole"),
        "fields": (5, [_ELEMENT]), "data": (6, "blob"),
    },
    "foxglove.LocationFix": {
        "timestamp": (6, "time"), "frame_id": (7, "text"), "latitude": (1, "number"), "longitude": (2, "number"),
        "altitude": (3, "number"),
    },
    "foxglove.PoseInFrame": {"timestamp": (1, "time"), "frame_id": (2, "text"), "pose": (3, _POSE)},
    "foxglove.Odometry": {
        "timestamp": (1, "time"), "frame_id": (2, "text"), "pose": (4, _POSE), "linear_velocity": (5, _VECTOR),
        "angular_velocity": (6, _VECTOR),
    },
}  # fmt: skip
# Names of numeric types in JSON; protobuf has their positions.
NUMERIC_TYPES = ("UNKNOWN", "UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "FLOAT32", "FLOAT64")
_EMPTY: dict[str, Any] = {"time": 0, "text": "", "whole": 0, "number": 0.0}


def is_encoded(raw: RawMessage) -> bool:
    """Whether `members` reads this message."""
    return raw.serialization in ("protobuf", "json") and raw.msgtype in SCHEMAS


def members(raw: RawMessage) -> dict[str, Any]:
    """The fields of one message by name; absent ones are zero, as in protobuf.

    time is int ns, blob a memoryview (not copied out of protobuf), nested messages are dicts.

    Raises:
        LogError: bad_message, or unknown_type for other schemas and encodings.
    """
    if not is_encoded(raw):
        raise LogError(f"{raw.topic}: {raw.msgtype} is not read by field", code="unknown_type")
    schema = SCHEMAS[raw.msgtype]
    try:
        if raw.serialization == "protobuf":
            return _from_protobuf(raw.data, schema)
        return _from_json(json_messages.members(raw.data), schema)
    except LogError as error:
        raise LogError(f"{raw.topic}: {raw.msgtype}: {error.reason}", code=error.code) from error


def _from_protobuf(data: bytes | memoryview, schema: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[int, list[Any]] = {}
    for at, value in protobuf_wire.scan(data):
        found.setdefault(at, []).append(value)
    read: dict[str, Any] = {}
    for name, (at, kind) in schema.items():
        values = found.get(at)
        if isinstance(kind, list):
            read[name] = [_from_protobuf(blob(value), kind[0]) for value in values or ()]
        elif isinstance(kind, Mapping):
            read[name] = _from_protobuf(blob(values[-1]), kind) if values else None
        else:
            read[name] = _PROTOBUF[kind](values[-1] if values else None)
    return read


_PROTOBUF: dict[str, Any] = {
    "time": lambda value: protobuf_wire.stamp_ns(blob(value)),
    "text": text,
    "whole": whole,
    "number": number,
    "blob": blob,
}


def _from_json(root: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(root, Mapping):
        raise LogError("a JSON member is no object", code="bad_message")
    read: dict[str, Any] = {}
    for name, (_, kind) in schema.items():
        value = root.get(name)
        if isinstance(kind, list):
            read[name] = [_from_json(item, kind[0]) for item in value or ()]
        elif isinstance(kind, Mapping):
            read[name] = None if value is None else _from_json(value, kind)
        else:
            read[name] = _json_value(value, kind)
    return read


def _json_value(value: Any, kind: str) -> Any:
    if kind == "blob":
        return _base64(value)
    if value is None:
        return _EMPTY[kind]
    if kind == "time":
        return json_messages.time_ns(value) or 0
    if kind == "text":
        return str(value)
    if kind == "whole" and value in NUMERIC_TYPES:
        return NUMERIC_TYPES.index(value)
    try:
        return int(value) if kind == "whole" else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise LogError(f"{str(value)[:40]!r} is no number", code="bad_message") from error


def _base64(value: Any) -> memoryview:
    try:
        return memoryview(binascii.a2b_base64(value or "", strict_mode=bool(value)))
    except (TypeError, ValueError) as error:
        raise LogError("the payload is not base64", code="bad_message") from error


def ros_equivalent(msgtype: str, message: Any) -> Any:
    """A decoded calibration or transform in the shape of sensor_msgs/CameraInfo or tf2_msgs/TFMessage.

    Other messages stay as they are. Works on protobuf, JSON and foxglove_msgs objects alike.
    """
    if msgtype in _CALIBRATION_TYPES:
        header = SimpleNamespace(frame_id=message.frame_id)
        d, k, r, p = ([float(v) for v in _either(message, name)] for name in "DKRP")
        return SimpleNamespace(
            header=header, width=int(message.width), height=int(message.height), d=d, k=k, r=r, p=p,
            distortion_model=message.distortion_model,
        )  # fmt: skip
    if msgtype in _TRANSFORM_TYPES:
        items = message.transforms if msgtype.endswith("s") else [message]
        return SimpleNamespace(transforms=[_stamped(item) for item in items])
    return message


def _either(message: Any, name: str) -> Any:
    """Capital letters in protobuf and JSON, either in ROS definitions."""
    return getattr(message, name) if hasattr(message, name) else getattr(message, name.lower(), ())


def _stamped(item: Any) -> SimpleNamespace:
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=item.parent_frame_id),
        child_frame_id=item.child_frame_id,
        transform=SimpleNamespace(translation=item.translation, rotation=item.rotation),
    )
