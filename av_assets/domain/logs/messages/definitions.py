"""Message types: their names, where their stamp stands, and decoding: ROS through rosbags, protobuf and JSON.

Embedded definitions win over the bundled ones; a type that neither knows is left as bytes.
Belongs here: type names, definitions, typestores. Does not belong here: files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import LogError
from av_assets.domain.logs.messages import json_messages
from av_assets.domain.logs.messages.protobuf_messages import ProtobufTypes, stamp_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from av_assets.domain.logs.files.blocks import Channel, RawMessage

_HEADERS = frozenset({"Header", "std_msgs/Header", "std_msgs/msg/Header"})
_TIMES = frozenset({"time", "builtin_interfaces/Time", "builtin_interfaces/msg/Time"})
_BINARY_SCHEMAS = frozenset({"protobuf", "flatbuffer"})
_IDL_RULE = "=" * 80 + "\n"
# Types of old databases, which carry no definitions, whose first field is a header.
_HEADED_BY_PACKAGE = {
    "sensor_msgs": "BatteryState CameraInfo CompressedImage FluidPressure Illuminance Image Imu JointState "
    "Joy LaserScan MagneticField MultiEchoLaserScan NavSatFix PointCloud PointCloud2 Range RelativeHumidity "
    "Temperature TimeReference",
    "geometry_msgs": "AccelStamped InertiaStamped PointStamped PolygonStamped PoseArray PoseStamped "
    "PoseWithCovarianceStamped QuaternionStamped TransformStamped TwistStamped "
    "TwistWithCovarianceStamped Vector3Stamped WrenchStamped",
    "nav_msgs": "GridCells OccupancyGrid Odometry Path",
    "can_msgs": "Frame",
    "radar_msgs": "RadarScan RadarTracks",
    "ros2_socketcan_msgs": "FdFrame",
    "ackermann_msgs": "AckermannDriveStamped",
}
# And those whose first field is a time.
_TIMED_BY_PACKAGE = {
    "foxglove_msgs": "CameraCalibration CompressedImage CompressedVideo FrameTransform LocationFix Odometry "
    "PointCloud PoseInFrame RawImage",
}
_HEADED, _TIMED = (
    frozenset(f"{package}/msg/{name}" for package, names in by_package.items() for name in names.split())
    for by_package in (_HEADED_BY_PACKAGE, _TIMED_BY_PACKAGE)
)


def ros2_name(name: str) -> str:
    """`sensor_msgs/Imu` -> `sensor_msgs/msg/Imu`; other names stay."""
    parts = name.split("/")
    return f"{parts[0]}/msg/{parts[1]}" if len(parts) == 2 else name


def schema_text(encoding: str, data: bytes) -> str:
    """Schema bytes as the text that a `Channel` carries; binary schemas go through latin-1, which loses nothing."""
    return data.decode("latin-1") if encoding in _BINARY_SCHEMAS else data.decode("utf-8", "replace")


def schema_bytes(encoding: str, definition: str) -> bytes:
    """The bytes that `schema_text` was made of, for writing them into another log."""
    return definition.encode("latin-1" if encoding in _BINARY_SCHEMAS else "utf-8")


def stamp_offset(msgtype: str, definition: str, encoding: str, serialization: str) -> int | None:
    """Where seconds and nanoseconds stand in the bytes; None unless the first field is a header or time.

    For protobuf it is the path of fields to the stamp, for JSON always 0: the stamp is found by its name.
    """
    if serialization == "protobuf" and encoding == "protobuf":
        return stamp_path(schema_bytes(encoding, definition), msgtype)
    if serialization == "json":
        return 0
    if serialization not in ("cdr", "ros1"):
        return None
    first = _first_field(msgtype, definition, encoding)
    if first in _HEADERS or (not first and msgtype in _HEADED):
        return 4  # CDR: after the encapsulation; ROS 1: after seq
    if first in _TIMES or (not first and msgtype in _TIMED):
        return 4 if serialization == "cdr" else 0
    return None


def _first_field(msgtype: str, definition: str, encoding: str) -> str:
    """Type of the first field, empty where the definition does not tell."""
    if encoding == "ros2idl":
        name = re.escape(msgtype.rsplit("/", 1)[-1])
        found = re.search(rf"struct\s+{name}\s*\{{\s*(?:@[^\n]*\n\s*)*([\w:]+)", definition)
        return found.group(1).replace("::msg::", "/").replace("::", "/") if found else ""
    for line in definition.split("\n" + _IDL_RULE.strip())[0].splitlines():
        text = line.split("#", 1)[0].strip()
        if text and "=" not in text:
            return text.split()[0]
    return ""


class Decoder:
    """Deserialises messages of one drive: typestores for ROS 1 and CDR and protobuf classes, built when needed."""

    def __init__(self, channels: Iterable[Channel]) -> None:
        self._channels = tuple(channels)
        self._stores: dict[str, Any] = {}
        self._failed: dict[tuple[str, str], str] = {}
        self._protobuf: dict[str, ProtobufTypes | LogError] = {}

    def decode(self, raw: RawMessage) -> Any:
        """The message as an object with attributes named as in its schema: of rosbags, of google.protobuf or
        a `JsonObject`.

        Raises:
            LogError: unknown_type when no definition is known or it cannot be parsed; bad_message when the
                bytes do not fit the definition.
        """
        if raw.serialization in ("protobuf", "json"):
            return self._decode_other(raw)
        if raw.serialization not in ("cdr", "ros1"):
            raise LogError(f"{raw.topic} is {raw.serialization or 'not'} encoded", code="unknown_type")
        store = self._store(raw.serialization)
        if raw.msgtype not in store.types:
            why = self._failed.get((raw.serialization, raw.msgtype), "no definition is known")
            raise LogError(f"{raw.topic}: type {raw.msgtype}: {why}", code="unknown_type")
        decode = store.deserialize_cdr if raw.serialization == "cdr" else store.deserialize_ros1
        try:
            return decode(raw.data, raw.msgtype)
        except KeyError as error:
            raise LogError(f"{raw.topic}: type {error} is not defined", code="unknown_type") from error
        except Exception as error:  # rosbags raises bare asserts and index errors on broken bytes
            reason = f"{raw.topic}: not a {raw.msgtype}: {type(error).__name__}"
            raise LogError(reason, code="bad_message") from error

    def _decode_other(self, raw: RawMessage) -> Any:
        try:
            if raw.serialization == "json":
                return json_messages.decode(raw.data)
            return self._protobuf_types(raw).decode(raw.data, raw.msgtype)
        except LogError as error:
            raise LogError(f"{raw.topic}: {error.reason}", code=error.code) from error

    def _protobuf_types(self, raw: RawMessage) -> ProtobufTypes:
        """Classes of the channel's schema; a schema that failed once is not tried again."""
        if raw.msgtype not in self._protobuf:
            texts = (
                c.definition for c in self._channels if c.encoding == "protobuf" and c.msgtype == raw.msgtype
            )
            text = next(texts, "")
            try:
                self._protobuf[raw.msgtype] = ProtobufTypes(schema_bytes("protobuf", text))
            except LogError as error:
                self._protobuf[raw.msgtype] = error
        types = self._protobuf[raw.msgtype]
        if isinstance(types, LogError):
            raise types
        return types

    def _store(self, serialization: str) -> Any:
        if serialization not in self._stores:
            self._stores[serialization] = self._build(serialization)
        return self._stores[serialization]

    def _build(self, serialization: str) -> Any:
        from rosbags.typesys import Stores, get_typestore

        base = get_typestore(Stores.ROS1_NOETIC if serialization == "ros1" else Stores.ROS2_JAZZY)
        embedded: dict[str, Any] = {}
        for channel in self._channels:
            if (
                channel.serialization != serialization
                or not channel.definition
                or channel.msgtype in embedded
            ):
                continue
            types = self._parsed(channel)
            embedded = {**types, **embedded}
        store = get_typestore(Stores.EMPTY)
        roots = {c.msgtype for c in self._channels if c.serialization == serialization}
        types = _closure({**base.fielddefs, **embedded}, roots)
        bundled = _closure(base.fielddefs, roots)
        _register(store, types, bundled, self._failed, serialization)
        return store

    def _parsed(self, channel: Channel) -> dict[str, Any]:
        from rosbags.typesys import get_types_from_idl, get_types_from_msg

        try:
            if channel.encoding != "ros2idl":
                return dict(get_types_from_msg(channel.definition, channel.msgtype))
            texts = channel.definition.split(_IDL_RULE)
            parts = [text.split("\n", 1)[1] for text in texts if text.startswith("IDL: ")] or [
                channel.definition
            ]
            return {name: fields for part in parts for name, fields in get_types_from_idl(part).items()}
        except Exception as error:  # noqa: BLE001 - one unparsable schema must not fail the recording
            self._failed[channel.serialization, channel.msgtype] = f"definition: {type(error).__name__}"
            return {}


def _register(store: Any, types: dict[str, Any], bundled: Any, failed: Any, serialization: str) -> None:
    try:
        store.register(types)
    except Exception as error:  # noqa: BLE001 - a definition that parses but makes no class
        for name in types.keys() - bundled.keys():
            failed[serialization, name] = f"definition: {type(error).__name__}"
        store.register(dict(bundled))


def _closure(types: dict[str, Any], roots: Iterable[str]) -> dict[str, Any]:
    """Those of `types` that the roots are made of: each type that is registered costs a generated class."""
    kept: dict[str, Any] = {}
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name in types and name not in kept:
            kept[name] = types[name]
            todo += [used for _, kind in types[name][1] for used in _named(kind)]
    return kept


def _named(kind: Any) -> Iterable[str]:
    """Type names inside a rosbags field description, arrays and sequences included."""
    if isinstance(kind, tuple):
        return [name for part in kind for name in _named(part)]
    return [kind] if isinstance(kind, str) else []
