"""Protobuf and JSON channels: objects by the schema in the log, stamps, and schemas or messages that are broken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from foxglove_logs import CUSTOM, as_json, as_protobuf, descriptor_set, proto_file, write_log
from google.protobuf import descriptor_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import Channel, RawMessage
from av_assets.domain.logs.messages import json_messages, protobuf_messages, protobuf_wire
from av_assets.domain.logs.messages.definitions import Decoder, schema_bytes, schema_text, stamp_offset
from av_assets.domain.logs.messages.payloads import header_stamp_ns
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.sync.signals import numbers_of

if TYPE_CHECKING:
    from pathlib import Path

SPEED = {
    "header": {"stamp": {"sec": 7, "nsec": 9}, "frame_id": "axle"}, "mps": 12.5, "is_valid": True,
    "front": {"rpm": 300.0}, "all": [1.0, 2.0], "sent": {"sec": 1, "nsec": 2},
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize("with_imports", [True, False])
def test_custom_messages_have_the_attributes_of_their_schema(
    tmp_path: Path, encoding: str, with_imports: bool
) -> None:
    sent = [("/speed", "car.Speed", SPEED, 5)]
    log = write_log(tmp_path / "a.mcap", sent, encoding, descriptor_set(with_imports))
    with LogReader(log) as reader:
        (raw,) = reader.messages()
        message = reader.deserialize(raw)
        assert (raw.msgtype, raw.serialization, header_stamp_ns(raw)) == (
            "car.Speed",
            encoding,
            7_000_000_009,
        )
    assert (message.mps, message.is_valid, message.front.rpm, list(message.all)) == (
        12.5,
        True,
        300.0,
        [1.0, 2.0],
    )
    assert message.header.frame_id == "axle"
    assert dict(numbers_of(message, 9)) == {"mps": 12.5, "is_valid": 1.0, "front_rpm": 300.0}


def test_messages_that_hold_themselves_end() -> None:
    deep = {"rpm": 1.0, "next": {"rpm": 2.0, "next": {"rpm": 3.0}}}
    message = protobuf_messages.ProtobufTypes(descriptor_set()).decode(
        as_protobuf("car.Wheel", deep), "car.Wheel"
    )
    assert dict(numbers_of(message, 9)) == {"rpm": 1.0, "next_rpm": 2.0, "next_next_rpm": 3.0}


@given(st.binary(max_size=300))
def test_binary_schemas_come_through_the_channel_unchanged(data: bytes) -> None:
    assert schema_bytes("protobuf", schema_text("protobuf", data)) == data


@given(seconds=st.integers(-(2**33), 2**33), nanoseconds=st.integers(0, 999_999_999), deep=st.booleans())
def test_stamps_are_those_of_the_reference(seconds: int, nanoseconds: int, deep: bool) -> None:
    time = {"sec": seconds, "nsec": nanoseconds}
    msgtype, content = (
        ("car.Speed", {"header": {"stamp": time}}) if deep else ("foxglove.LocationFix", {"timestamp": time})
    )
    full = {"mps": 3.0, **content} if deep else {"latitude": 1.5, "frame_id": "x" * 200, **content}
    path = stamp_offset(msgtype, schema_text("protobuf", descriptor_set()), "protobuf", "protobuf")
    raw = RawMessage("/t", msgtype, 0, as_protobuf(msgtype, full), "protobuf", path)
    assert header_stamp_ns(raw) == seconds * 10**9 + nanoseconds
    for order in (full, dict(reversed(full.items()))):
        raw = RawMessage("/t", msgtype, 0, as_json(order), "json", 0)
        assert header_stamp_ns(raw) == seconds * 10**9 + nanoseconds


@given(st.binary(max_size=80), st.integers(1, 2**29 - 1))
def test_any_bytes_are_a_message_or_a_typed_error(data: bytes, number: int) -> None:
    stamp = protobuf_wire.header_stamp_ns(data, number)
    assert stamp is None or isinstance(stamp, int)
    json_messages.header_stamp_ns(data)
    for read in (lambda: list(protobuf_wire.scan(data)), lambda: json_messages.decode(data)):
        try:
            read()
        except LogError as error:
            assert error.code == "bad_message"  # noqa: PT017
    assert protobuf_messages.stamp_path(data, "a.B") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"timestamp":{"sec":1,"nsec":2}}', 1_000_000_002),
        (
            '{ "a" : {"timestamp":{"sec":9,"nsec":9}}, "timestamp" : { "sec" : 1 , "nsec" : 2 } }',
            1_000_000_002,
        ),
        ('{"header":{"frame_id":"x","stamp":{"secs":1,"nsecs":2}}}', 1_000_000_002),
        ('{"header":{"stamp":{"sec":1,"nanosec":2},"frame_id":"x"},"v":1}', 1_000_000_002),
        ('{"timestamp":{"seconds":-1,"nanos":2}}', -999_999_998),
        ('{"poses":[{"timestamp":{"sec":9,"nsec":9}}]}', None),
        ('{"other":{"stamp":{"sec":9,"nsec":9}}}', None),
        ('{"timestamp":1234.5}', None),
        ("", None),
    ],
)
def test_json_stamps_are_those_of_the_root(text: str, expected: int | None) -> None:
    assert json_messages.header_stamp_ns(text.encode()) == expected


def _decoder(descriptors: bytes) -> Decoder:
    text = schema_text("protobuf", descriptors)
    return Decoder([Channel("/t", "car.Speed", "protobuf", text, "protobuf", None)])


def _code(decoder: Decoder, data: bytes, serialization: str = "protobuf") -> str:
    with pytest.raises(LogError) as caught:
        decoder.decode(RawMessage("/t", "car.Speed", 0, data, serialization, None))
    assert caught.value.reason.startswith("/t: ")
    return caught.value.code


def test_broken_schemas_leave_a_type_unknown() -> None:
    circle = [proto_file("car", CUSTOM), proto_file("foxglove", {})]
    circle[0].dependency.append("foxglove.proto")
    circle[1].dependency.append("car.proto")
    foreign = proto_file("car", CUSTOM)
    foreign.dependency.append("/etc/passwd")
    broken: list[Any] = [
        b"",
        b"\xff" * 40,
        descriptor_set()[:-20],
        descriptor_pb2.FileDescriptorSet(file=circle).SerializeToString(),
        descriptor_pb2.FileDescriptorSet(file=[foreign]).SerializeToString(),
        descriptor_pb2.FileDescriptorSet(
            file=[proto_file("car", {"Speed": ".car.Nothing a 1"})]
        ).SerializeToString(),
    ]
    for descriptors in broken:
        assert _code(_decoder(descriptors), b"") == "unknown_type"
    assert _code(_decoder(b"\0" * (protobuf_messages.MAX_DESCRIPTOR_BYTES + 1)), b"") == "unknown_type"


def test_broken_messages_are_bad_messages() -> None:
    decoder = _decoder(descriptor_set())
    assert _code(decoder, b"\xff\xff") == "bad_message"
    nested = b""
    for _ in range(300):
        length = len(nested)
        nested = b"\x12" + bytes([length & 0x7F | 0x80, length >> 7]) + nested
    assert (
        _code(decoder, b"\x22" + bytes([len(nested) & 0x7F | 0x80, len(nested) >> 7]) + nested)
        == "bad_message"
    )
    for text in (b"{", b"[" * 200_000, b"\xff", b"1" * 10_000, b" " * (json_messages.MAX_JSON_BYTES + 1)):
        assert _code(decoder, text, "json") == "bad_message"


def test_one_bad_schema_does_not_fail_the_others(tmp_path: Path) -> None:
    good = write_log(tmp_path / "good.mcap", [("/a", "car.Speed", SPEED, 1)], "protobuf")
    write_log(tmp_path / "bad.mcap", [("/b", "car.Wheel", {"rpm": 1.0}, 2)], "protobuf", b"\xff")
    with LogReader([good, tmp_path / "bad.mcap"]) as reader:
        first, second = reader.messages()
        assert reader.deserialize(first).mps == 12.5
        with pytest.raises(LogError):
            reader.deserialize(second)
        assert second.data == as_protobuf("car.Wheel", {"rpm": 1.0})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.dictionaries(st.text(max_size=6), json_values, max_size=4))
def test_json_objects_hold_what_was_written(content: dict[str, Any]) -> None:
    message = json_messages.decode(json.dumps(content).encode())
    assert _plain(message) == content
    assert all(isinstance(value, float) for _, value in numbers_of(message, 100))


def _plain(value: Any) -> Any:
    if isinstance(value, json_messages.JsonObject):
        return {name: _plain(item) for name, item in vars(value).items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
