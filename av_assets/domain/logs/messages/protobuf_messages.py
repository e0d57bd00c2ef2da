"""Protobuf messages of MCAP channels: classes out of the descriptors that the log embeds.

Descriptors come with the log and are not trusted: they live in a private pool, and size and number are bounded.
Belongs here: descriptors. Does not belong here: the wire format (`protobuf_wire`), what fields mean (`foxglove`).
Descriptors: google/protobuf/descriptor.proto
"""

from __future__ import annotations

from typing import Any

from av_assets.domain.errors import LogError
from av_assets.domain.logs.messages.protobuf_wire import (
    HEADER_SHIFT,
    blob,
    fields,
    first_blob,
    scan,
    text,
    whole,
)

MAX_DESCRIPTOR_BYTES = 8 << 20
MAX_DESCRIPTOR_FILES = 2000
MAX_NESTING = 32
_FILE, _PACKAGE, _MESSAGE, _NAME, _FIELD, _NESTED = 1, 2, 4, 1, 2, 3
_FIELD_NUMBER, _FIELD_TYPE_NAME = 3, 6
_STAMP_NAMES, _TIME_TYPES = ("timestamp", "stamp"), ("Timestamp", "Time")


def stamp_path(descriptors: bytes, msgtype: str) -> int | None:
    """Field number of the root's `timestamp`, or of its `header` << 32 | the `stamp` in it; None without one."""
    if len(descriptors) > MAX_DESCRIPTOR_BYTES:
        return None
    try:
        members = _members(descriptors, msgtype)
        direct = _time_field(members)
        if direct is not None or "header" not in members:
            return direct
        header, kind = members["header"]
        inner = _time_field(_members(descriptors, kind.lstrip(".")))
        return None if inner is None else header << HEADER_SHIFT | inner
    except LogError:
        return None


def _time_field(members: dict[str, tuple[int, str]]) -> int | None:
    for name in _STAMP_NAMES:
        at, kind = members.get(name, (0, ""))
        if kind.rsplit(".", 1)[-1] in _TIME_TYPES:
            return at
    return None


def _members(descriptors: bytes, msgtype: str) -> dict[str, tuple[int, str]]:
    """Field name -> (number, type name, empty for scalars) of one message of a FileDescriptorSet."""
    for what, file in scan(descriptors):
        if what != _FILE:
            continue
        package = next((text(v) for n, v in scan(blob(file)) if n == _PACKAGE), "")
        if not package or msgtype.startswith(package + "."):
            names = msgtype[len(package) + 1 if package else 0 :].split(".", MAX_NESTING)
            found = _descend(blob(file), names, _MESSAGE)
            if found is not None:
                parts = [fields(blob(v)) for n, v in scan(found) if n == _FIELD]
                return {
                    text(p.get(_NAME)): (whole(p.get(_FIELD_NUMBER)), text(p.get(_FIELD_TYPE_NAME)))
                    for p in parts
                }
    return {}


def _descend(within: memoryview, names: list[str], what: int) -> memoryview | None:
    for found, value in scan(within):
        if found == what and text(first_blob(blob(value), _NAME)) == names[0]:
            return blob(value) if len(names) == 1 else _descend(blob(value), names[1:], _NESTED)
    return None


class ProtobufTypes:
    """Message classes of one FileDescriptorSet, in a pool of their own."""

    def __init__(self, descriptors: bytes) -> None:
        """Load all files of the set.

        Raises:
            LogError: unknown_type, when it is no such set, too large, or contradicts itself.
        """
        from google.protobuf.descriptor_pb2 import FileDescriptorSet  # type: ignore[import-untyped]
        from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]

        if len(descriptors) > MAX_DESCRIPTOR_BYTES:
            raise LogError("the protobuf descriptors are larger than 8 MiB", code="unknown_type")
        self._classes: dict[str, Any] = {}
        self._pool = DescriptorPool()
        try:
            files = {file.name: file for file in FileDescriptorSet.FromString(descriptors).file}
            if len(files) > MAX_DESCRIPTOR_FILES:
                raise LogError(f"{len(files)} protobuf files in one schema", code="unknown_type")
            for name in _dependenciesfirst_blob(files):
                self._pool.AddSerializedFile(files[name].SerializeToString())
        except LogError:
            raise
        except Exception as error:  # the pool raises TypeError, DecodeError, RuntimeError, ...
            reason = f"protobuf descriptors: {type(error).__name__}"
            raise LogError(reason, code="unknown_type") from error

    def decode(self, data: bytes, msgtype: str) -> Any:
        """The message, with attributes as in the schema.

        Raises:
            LogError: unknown_type or bad_message.
        """
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        try:
            return self._class(msgtype).FromString(data)
        except (DecodeError, RecursionError) as error:
            raise LogError(f"not a {msgtype}: {type(error).__name__}", code="bad_message") from error

    def _class(self, msgtype: str) -> Any:
        from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]

        if msgtype not in self._classes:
            try:
                self._classes[msgtype] = GetMessageClass(self._pool.FindMessageTypeByName(msgtype))
            except Exception as error:
                raise LogError(f"{msgtype} is not in its schema", code="unknown_type") from error
        return self._classes[msgtype]


def _dependenciesfirst_blob(files: dict[str, Any]) -> list[str]:
    """Names of all files, imports before importers; well-known imports that were left out are added."""
    ordered: list[str] = []
    state: dict[str, bool] = {}  # name -> whether it is placed already
    todo = [(name, False) for name in reversed(list(files))]
    while todo:
        name, is_ready = todo.pop()
        if is_ready and not state[name]:
            ordered.append(name)
            state[name] = True
        if is_ready or name in state:
            continue
        state[name] = False
        if name not in files:
            files[name] = _well_known(name)
        todo.append((name, True))
        todo += [(imported, False) for imported in files[name].dependency]
    return ordered


def _well_known(name: str) -> Any:
    from google.protobuf import descriptor_pb2, duration_pb2, timestamp_pb2, wrappers_pb2  # type: ignore[import-untyped]

    for module in (timestamp_pb2, duration_pb2, wrappers_pb2, descriptor_pb2):
        if module.DESCRIPTOR.name == name:
            return descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    raise LogError(f"the protobuf schema imports {name[:80]!r} and does not hold it", code="unknown_type")
