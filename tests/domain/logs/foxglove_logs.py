"""Foxglove messages as protobuf and JSON, with descriptors written out from the published .proto files."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, timestamp_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from pathlib import Path

F = descriptor_pb2.FieldDescriptorProto
SCALARS = {"string": F.TYPE_STRING, "bytes": F.TYPE_BYTES, "double": F.TYPE_DOUBLE, "fixed32": F.TYPE_FIXED32,
           "int32": F.TYPE_INT32, "uint64": F.TYPE_UINT64, "bool": F.TYPE_BOOL}  # fmt: skip
TIME = ".google.protobuf.Timestamp"
PROTOS = {
    "Vector3": "double x 1, double y 2, double z 3",
    "Quaternion": "double x 1, double y 2, double z 3, double w 4",
    "Pose": ".foxglove.Vector3 position 1, .foxglove.Quaternion orientation 2",
    "PackedElementField": "string name 1, fixed32 offset 2, int32 type 3",
    "CompressedImage": f"{TIME} timestamp 1, string frame_id 4, bytes data 2, string format 3",
    "CompressedVideo": f"{TIME} timestamp 1, string frame_id 2, bytes data 3, string format 4",
    "RawImage": f"{TIME} timestamp 1, string frame_id 7, fixed32 width 2, fixed32 height 3, string encoding 4, "
    "fixed32 step 5, bytes data 6",
    "PointCloud": f"{TIME} timestamp 1, string frame_id 2, .foxglove.Pose pose 3, fixed32 point_stride 4, "
    "repeated .foxglove.PackedElementField fields 5, bytes data 6",
    "LocationFix": f"{TIME} timestamp 6, string frame_id 7, double latitude 1, double longitude 2, double altitude 3",
    "PoseInFrame": f"{TIME} timestamp 1, string frame_id 2, .foxglove.Pose pose 3",
    "Odometry": f"{TIME} timestamp 1, string frame_id 2, string body_frame_id 3, .foxglove.Pose pose 4, "
    ".foxglove.Vector3 linear_velocity 5, .foxglove.Vector3 angular_velocity 6",
    "FrameTransform": f"{TIME} timestamp 1, string parent_frame_id 2, string child_frame_id 3, "
    ".foxglove.Vector3 translation 4, .foxglove.Quaternion rotation 5",
    "FrameTransforms": "repeated .foxglove.FrameTransform transforms 1",
    "CameraCalibration": f"{TIME} timestamp 1, string frame_id 9, fixed32 width 2, fixed32 height 3, "
    "string distortion_model 4, repeated double D 5, repeated double K 6, repeated double R 7, repeated double P 8",
}
CUSTOM = {
    "Header": f"{TIME} stamp 2, string frame_id 3",
    "Speed": ".car.Header header 1, double mps 2, bool is_valid 3, .car.Wheel front 4, repeated double all 5, "
    f"{TIME} sent 6",
    "Wheel": "double rpm 1, .car.Wheel next 2",
}


def proto_file(package: str, messages: dict[str, str]) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    for name, members in messages.items():
        message = file.message_type.add(name=name)
        for member in members.split(", "):
            *repeated, kind, label, number = member.split()
            field = message.field.add(name=label, number=int(number))
            field.label = F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL
            field.type = SCALARS.get(kind, F.TYPE_MESSAGE)
            if kind not in SCALARS:
                field.type_name = kind
    return file


def descriptor_set(with_imports: bool = True) -> bytes:
    """The user's files first and their import last: the order is not promised."""
    files = [proto_file("foxglove", PROTOS), proto_file("car", CUSTOM)]
    time = descriptor_pb2.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb)
    return descriptor_pb2.FileDescriptorSet(
        file=[*files, *([time] if with_imports else [])]
    ).SerializeToString()


def message_class(msgtype: str) -> Any:
    pool = DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    for file in (proto_file("foxglove", PROTOS), proto_file("car", CUSTOM)):
        pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(msgtype))


def as_protobuf(msgtype: str, content: dict[str, Any]) -> bytes:
    """`content` as JSON has it, times as {sec, nsec}."""
    return _filled(message_class(msgtype)(), content).SerializeToString()


def _filled(message: Any, content: dict[str, Any]) -> Any:
    for name, value in content.items():
        if isinstance(value, dict) and "sec" in value:
            part = getattr(message, name)
            part.seconds, part.nanos = value["sec"], value["nsec"]
            part.SetInParent()
        elif isinstance(value, dict):
            _filled(getattr(message, name), value).SetInParent()
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                _filled(getattr(message, name).add(), item)
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return message


def as_json(content: dict[str, Any]) -> bytes:
    return json.dumps(_text(content)).encode()


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_text(item) for item in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def write_log(
    path: Path,
    messages: list[tuple[str, str, dict[str, Any], int]],
    encoding: str,
    descriptors: bytes | None = None,
) -> Path:
    """An MCAP of (topic, msgtype, content, log time) by the reference writer."""
    from mcap.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        data = b"{}" if encoding == "json" else descriptor_set() if descriptors is None else descriptors
        kind = "jsonschema" if encoding == "json" else "protobuf"
        channels: dict[str, int] = {}
        for topic, msgtype, content, log_ns in messages:
            if topic not in channels:
                schema = writer.register_schema(msgtype, kind, data)
                channels[topic] = writer.register_channel(topic, encoding, schema)
            payload = as_json(content) if encoding == "json" else as_protobuf(msgtype, content)
            writer.add_message(channels[topic], log_ns, payload, log_ns)
        writer.finish()
    return path
