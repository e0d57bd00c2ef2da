"""What an MCAP file says about itself, held against what is in it: checksums, indexes, statistics, other records."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import pytest
from log_writers import GNSS, IMU, drive, store, write_mcap

from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.reader import LogReader

if TYPE_CHECKING:
    from pathlib import Path


def write_other_profile(
    path: Path, serialization: str, kind: str, schema: bytes, messages: list[bytes]
) -> Path:
    from mcap.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file, chunk_size=512)
        writer.start(profile="", library="test")
        number = writer.register_schema("acme.Speed", kind, schema)
        channel = writer.register_channel("/speed", serialization, number)
        for i, data in enumerate(messages):
            writer.add_message(channel, 1000 + i, data, 1000 + i)
        writer.finish()
    return path


def statistics_at(data: bytes) -> int:
    """Where the statistics record of a file stands."""
    (start,) = struct.unpack_from("<Q", data, len(data) - 8 - 20)
    while data[start] != 0x0B:
        start += 9 + struct.unpack_from("<Q", data, start + 1)[0]
    return start


@pytest.mark.parametrize("options", [{}, {"use_chunking": False}])
def test_the_checksum_of_the_data_section_is_verified(tmp_path: Path, options: dict[str, Any]) -> None:
    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types), types, "none", enable_data_crcs=True, **options)
    assert inspect_log(path).state == "ok"
    data = bytearray(path.read_bytes())
    at = data.index(b"library") if b"library" in data else 20  # the header is under no other checksum
    data[at] ^= 1
    path.write_bytes(data)
    verdict = inspect_log(path)
    assert (verdict.state, verdict.messages) == ("salvaged", 180)
    assert "bad_data_crc" in verdict.files[0].damage["reasons"]  # type: ignore[operator]
    with LogReader(path, salvage=True) as reader:
        assert "bad_data_crc" in reader.sources[0].damage.reasons


def test_statistics_are_held_against_a_scan(tmp_path: Path) -> None:
    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types), types, use_chunking=False, enable_crcs=False)
    data = bytearray(path.read_bytes())
    data[statistics_at(data) + 9] += 5
    path.write_bytes(data)
    verdict = inspect_log(path)
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "count_mismatch", 180)


def test_messages_behind_the_chunks_that_the_index_names_are_found(tmp_path: Path) -> None:
    """A file may mix chunks and bare messages: an index of its chunks does not show those."""
    from mcap.data_stream import RecordBuilder
    from mcap.records import Message

    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types), types, enable_crcs=False)
    data = path.read_bytes()
    with LogReader(path) as reader:
        number = next(n for n, c in reader.sources[0].channels.items() if c.topic == GNSS)
        (raw,) = list(reader.messages([GNSS]))[-1:]
    builder = RecordBuilder()
    time_ns = raw.log_ns + 1
    Message(channel_id=number, data=raw.data, log_time=time_ns, publish_time=time_ns, sequence=0).write(
        builder
    )
    (start,) = struct.unpack_from("<Q", data, len(data) - 8 - 20)
    bare = builder.end()
    end = bytearray(data[start - 13 :])
    struct.pack_into("<QQ", end, len(end) - 8 - 20, start + len(bare), 0)
    (tmp_path / "y.mcap").write_bytes(data[: start - 13] + bare + bytes(end))
    with LogReader(tmp_path / "y.mcap") as reader:
        assert sum(1 for _ in reader.messages([GNSS])) == 21


def test_attachments_and_metadata_are_passed_over(tmp_path: Path) -> None:
    from mcap.writer import Writer

    out = io.BytesIO()
    writer = Writer(out, chunk_size=64)
    writer.start()
    channel = writer.register_channel("/x", "json", 0)
    for i in range(9):
        writer.add_message(channel, 100 + i, b'{"v": 1}' * 9, 100 + i)
        writer.add_attachment(i, i, f"a{i}", "text/plain", b"\x05" * 500)
        writer.add_metadata("m", {"k": "v"})
    writer.finish()
    data = out.getvalue()
    for name, content in (("x", data), ("cut", data[:-40])):
        (tmp_path / name).write_bytes(content)
        with LogReader(tmp_path / name) as reader:
            assert [raw.log_ns for raw in reader.messages()] == list(range(100, 109))
    assert inspect_log(tmp_path / "x").state == "ok"


@pytest.mark.parametrize(
    "options", [{"repeat_channels": False, "repeat_schemas": False}, {"use_statistics": False}]
)
def test_a_partial_summary_is_no_damage(tmp_path: Path, options: dict[str, Any]) -> None:
    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types), types, "zstd", **options)
    with LogReader(path) as reader:
        assert sum(1 for _ in reader.messages([IMU])) == 100
        assert reader.message_count == 180


def test_an_index_with_other_times_than_its_messages_is_told(tmp_path: Path) -> None:
    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types), types, enable_crcs=False)
    data = bytearray(path.read_bytes())
    with LogReader(path) as reader:
        block = reader.sources[0].blocks[3]
    at = data.rindex(struct.pack("<QQ", block.start_ns, block.end_ns))
    struct.pack_into("<Q", data, at, block.start_ns + 30_000_000)
    path.write_bytes(data)
    verdict = inspect_log(path)
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "bad_index", 180)


@pytest.mark.parametrize(
    ("serialization", "kind", "schema", "message"),
    [
        ("json", "jsonschema", b'{"type": "object"}', b'{"speed": 1.5}'),
        ("protobuf", "protobuf", b"\x0a\x00", b"\x0d\0\0\0?"),
    ],
)
def test_other_profiles_give_their_messages(
    tmp_path: Path, serialization: str, kind: str, schema: bytes, message: bytes
) -> None:
    path = write_other_profile(tmp_path / "x.mcap", serialization, kind, schema, [message] * 50)
    assert (inspect_log(path).state, inspect_log(path).messages) == ("ok", 50)
    with LogReader(path) as reader:
        assert {(raw.msgtype, raw.serialization, raw.data) for raw in reader.messages()} == {
            ("acme.Speed", serialization, message)
        }


def test_blocks_of_a_log_share_their_sets_of_channels(tmp_path: Path) -> None:
    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types, 20), types)
    for salvage in (False, True):
        with LogReader(path, salvage=salvage) as reader:
            blocks = reader.sources[0].blocks
            assert len(blocks) > 20
            assert len({id(block.channels) for block in blocks}) == len({block.channels for block in blocks})


def test_a_scan_verifies_the_checksum_of_the_index_too(tmp_path: Path) -> None:
    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types), types)
    with LogReader(path, salvage=True) as reader:
        assert not reader.damage
    data = bytearray(path.read_bytes())
    data[statistics_at(data) + 20] ^= 1
    path.write_bytes(data)
    with LogReader(path, salvage=True) as reader:
        assert set(reader.sources[0].damage.reasons) == {"bad_index"}
        assert reader.message_count == 180


def test_bytes_behind_the_end_are_told(tmp_path: Path) -> None:
    """Two recordings in one file: the second one has no place in an MCAP file, and is not lost silently."""
    types = store()
    data = write_mcap(tmp_path / "x.mcap", drive(types), types).read_bytes()
    (tmp_path / "y.mcap").write_bytes(data + data)
    verdict = inspect_log(tmp_path / "y.mcap")
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "bad_record", 180)
    assert verdict.files[0].damage["bytes_lost"] == len(data)


def test_a_channel_that_is_told_in_two_ways_keeps_its_first(tmp_path: Path) -> None:
    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types), types, enable_crcs=False)
    data = path.read_bytes()
    at = data.rindex(GNSS.encode())
    (tmp_path / "y.mcap").write_bytes(data[:at] + b"/lies/fix"[: len(GNSS)] + data[at + len(GNSS) :])
    with LogReader(tmp_path / "y.mcap", salvage=True) as reader:
        assert sum(1 for _ in reader.messages([GNSS])) == 20
        assert "bad_record" in reader.sources[0].damage.reasons
