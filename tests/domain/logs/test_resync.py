"""Reading goes on behind a bad record: only what the bad one held is lost, and the account says how much that is."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_writers import IMU, drive, store, write_mcap, write_ros1

from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.reader import LogReader

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.logs.files.blocks import Damage

Message = tuple[str, int, bytes]
# In none of these does a checksum cover the messages: one chunk as rosbags writes it, and no chunk at all.
PLAIN = ("rosbag2_mcap", "mcap_unchunked")
MESSAGE_HEAD = 9 + 22


def scanned(path: Path) -> tuple[list[Message], Damage]:
    with LogReader(path, salvage=True) as reader:
        found = sorted((raw.topic, raw.log_ns, raw.data) for raw in reader.messages())
        return found, reader.sources[0].damage


def plain_log(logs: dict[str, Path], name: str) -> bytes:
    log = logs[name]
    return (log if log.is_file() else next(log.glob("*.mcap"))).read_bytes()


def heads(data: bytes, messages: list[Message]) -> list[int]:
    """Where the record of each message stands, in the order of the file."""
    return sorted(data.index(payload) - MESSAGE_HEAD for _, _, payload in messages)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("number", [0, 1, 90, 178, 179])
@pytest.mark.parametrize("length", [0, 21, 60, 4000, 1 << 20, 1 << 62])
def test_a_wrong_length_costs_its_message_only(
    small_logs: dict[str, Path], tmp_path: Path, name: str, number: int, length: int
) -> None:
    path = tmp_path / "x.mcap"
    data = bytearray(plain_log(small_logs, name))
    path.write_bytes(data)
    whole, _ = scanned(path)
    places = heads(bytes(data), whole)
    end = places[number + 1] if number < 179 else None
    struct.pack_into("<Q", data, places[number] + 1, length)
    path.write_bytes(data)
    found, damage = scanned(path)
    assert set(found) < set(whole)
    assert len(found) == 179
    assert damage.reasons["count_mismatch"] == 1
    if end:
        assert end - places[number] <= damage.bytes_lost <= end - places[number] + 64
    assert inspect_log(path).messages == 179


@pytest.mark.parametrize("name", PLAIN)
def test_a_file_is_read_though_its_first_records_are_gone(
    small_logs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """Header, first schemas and channels, up to and with the first message; the summary repeats the channels."""
    path = tmp_path / "x.mcap"
    data = bytearray(plain_log(small_logs, name))
    path.write_bytes(data)
    whole, _ = scanned(path)
    first = heads(bytes(data), whole)[0]
    for start, end, kept in ((8, 17, 180), (first, first + 20, 179), (first - 30, first + 9, 179)):
        broken = data[:start] + b"\xee" * (end - start) + data[end:]
        path.write_bytes(broken)
        found, damage = scanned(path)
        assert set(found) <= set(whole)
        assert (len(found), damage.bytes_lost > 0) == (kept, True)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
@settings(max_examples=20)
def test_no_message_is_made_of_noise(small_logs: dict[str, Path], seed: int, length: int) -> None:
    import random
    import tempfile
    from pathlib import Path

    data = bytearray(plain_log(small_logs, "mcap_unchunked"))
    noise = random.Random(seed)
    at = noise.randrange(100, len(data) - length)
    data[at : at + length] = bytes(noise.choice(b"\0\0\0\5\3\x01") for _ in range(length))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.mcap"
        path.write_bytes(plain_log(small_logs, "mcap_unchunked"))
        whole, _ = scanned(path)
        path.write_bytes(data)
        found, damage = scanned(path)
    touched = bytes(data[max(0, at - 4000) : at + length + 4000])
    assert all(message in whole or message[2] in touched for message in found)
    assert sum(message in whole for message in found) >= 180 - 2 - length // 40
    assert damage or found == whole or len(found) == len(whole)


def test_an_uncompressed_chunk_that_tells_two_sizes_loses_nothing(
    small_logs: dict[str, Path], tmp_path: Path
) -> None:
    data = bytearray(plain_log(small_logs, "rosbag2_mcap"))
    path = tmp_path / "x.mcap"
    path.write_bytes(data)
    with LogReader(path) as reader:
        (block,) = reader.sources[0].blocks
    struct.pack_into("<Q", data, block.offset + 9 + 16, 100)
    path.write_bytes(data)
    found, damage = scanned(path)
    assert (len(found), dict(damage.reasons)) == (180, {"bad_chunk": 1})


def test_a_checked_chunk_is_not_read_in_part(small_logs: dict[str, Path], tmp_path: Path) -> None:
    """Its checksum says that something is wrong and not what: none of its messages is proven."""
    path = tmp_path / "x.mcap"
    data = bytearray(small_logs["mcap_none"].read_bytes())
    with LogReader(small_logs["mcap_none"]) as reader:
        block = sorted(reader.sources[0].blocks, key=lambda b: b.offset)[2]
        inside = [raw for raw in reader.messages() if block.start_ns <= raw.log_ns <= block.end_ns]
    data[data.index(inside[5].data, block.offset) - MESSAGE_HEAD + 1] ^= 0x40
    path.write_bytes(data)
    found, damage = scanned(path)
    assert 180 - len(inside) - 4 <= len(found) < 180
    assert damage.bytes_lost == block.length
    assert set(damage.reasons) == {"bad_crc", "count_mismatch"}


def test_a_chunk_of_a_bag_that_tells_two_sizes_loses_nothing(tmp_path: Path) -> None:
    types = store(ros1=True)
    path = write_ros1(tmp_path / "x.bag", drive(types), types)
    data = bytearray(path.read_bytes())
    whole, _ = scanned(path)
    at = data.index(b"size=", data.index(b"compression=none") - 60) + 5
    struct.pack_into("<I", data, at, 0)
    path.write_bytes(data)
    found, damage = scanned(path)
    assert found == whole
    assert "bad_chunk" in damage.reasons


@pytest.mark.parametrize("broken", [b"typ_=", b"\xff\xff\xff\xff"])
def test_a_later_copy_of_a_connection_stands_in_for_a_broken_one(tmp_path: Path, broken: bytes) -> None:
    types = store(ros1=True)
    path = write_ros1(tmp_path / "x.bag", drive(types), types)
    data = bytearray(path.read_bytes())
    whole, _ = scanned(path)
    at = data.index(b"type=sensor_msgs/Imu")
    at -= 4 if broken[:1] == b"\xff" else 0  # the length before the field, or its name
    data[at : at + len(broken)] = broken
    path.write_bytes(data)
    found, damage = scanned(path)
    assert found == whole
    assert sum(topic == IMU for topic, _, _ in found) == 100
    assert damage.reasons["bad_record"] == 1
    assert damage.bytes_lost > 0


def test_messages_without_a_topic_are_counted_in_bytes(tmp_path: Path) -> None:
    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types), types, use_chunking=False, repeat_channels=False)
    data = bytearray(path.read_bytes())
    whole, _ = scanned(path)
    at = data.index(IMU.encode()) - 4
    struct.pack_into("<I", data, at, 1 << 30)  # the topic claims a gigabyte
    path.write_bytes(data)
    found, damage = scanned(path)
    assert found == [message for message in whole if message[0] != IMU]
    assert "unknown_channel" in damage.reasons
    assert damage.bytes_lost > sum(len(data) for topic, _, data in whole if topic == IMU)
