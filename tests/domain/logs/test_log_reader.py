"""Every format gives the same drive, in time order, byte for byte."""

from __future__ import annotations

import shutil
import struct
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from log_writers import (
    CAMERA,
    DELAY_NS,
    GNSS,
    IMU,
    RADAR,
    START_NS,
    TYPES,
    drive,
    store,
    write_mcap,
    write_ros1,
    write_rosbag2,
)

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.formats import LogKind, sniff
from av_assets.domain.logs.reader import LogReader, RawMessage, header_stamp_ns, image_payload

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = {CAMERA: 20, IMU: 100, GNSS: 20, RADAR: 40}
FORMATS = (
    "bag_none",
    "bag_bz2",
    "bag_lz4",
    "mcap_none",
    "mcap_lz4",
    "mcap_zstd",
    "mcap_ros1",
    "mcap_unchunked",
    "db3",
    "rosbag2_mcap",
    "db3_per_message",
)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("salvage", [False, True])
def test_reads_all_messages_in_time_order(small_logs: dict[str, Path], name: str, salvage: bool) -> None:
    with LogReader(small_logs[name], salvage=salvage) as reader:
        assert {topic: info.count for topic, info in reader.topics.items()} == COUNTS
        assert {topic: info.msgtype for topic, info in reader.topics.items()} == TYPES
        got = list(reader.messages())
        assert not reader.damage
        times = [raw.log_ns for raw in got]
        assert times == sorted(times)
        assert (reader.start_ns, reader.end_ns) == (times[0], times[-1]) == (START_NS + DELAY_NS, times[-1])
        assert reader.message_count == len(got) == 180
        assert all(header_stamp_ns(raw) == raw.log_ns - DELAY_NS for raw in got)
        types = store(ros1=got[0].serialization == "ros1")
        sent = {(one.topic, one.log_ns): one.message for one in drive(types)}
        encode = types.serialize_ros1 if got[0].serialization == "ros1" else types.serialize_cdr
        assert all(raw.data == bytes(encode(sent[raw.topic, raw.log_ns], raw.msgtype)) for raw in got)


@pytest.mark.parametrize("name", FORMATS)
def test_image_payload_is_the_written_one(small_logs: dict[str, Path], name: str) -> None:
    with LogReader(small_logs[name]) as reader:
        for raw in reader.messages({CAMERA}):
            payload, full = image_payload(raw), reader.deserialize(raw)
            assert (payload.encoding, payload.frame_id) == ("jpeg", "camera_front")
            assert bytes(payload.data) == full.data.tobytes()
            assert payload.sensor_ns == raw.log_ns - DELAY_NS


def test_custom_type_decodes_by_its_embedded_definition(small_logs: dict[str, Path]) -> None:
    for name in ("bag_lz4", "mcap_zstd", "rosbag2_mcap", "db3"):
        with LogReader(small_logs[name]) as reader:
            tracks = [reader.deserialize(raw).x_m for raw in reader.messages([RADAR])]
        assert tracks == [float(i) for i in range(40)]


def test_a_file_without_ending_opens_by_its_content(small_logs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("bag_none", "mcap_lz4"):
        shutil.copy(small_logs[name], tmp_path / "ab12cd")
        with LogReader(tmp_path / "ab12cd") as reader:
            assert reader.message_count == 180
    shutil.copy(next(small_logs["db3"].glob("*.db3")), tmp_path / "ab12cd")
    assert sniff(tmp_path / "ab12cd") == LogKind("sqlite3")
    with LogReader(tmp_path / "ab12cd") as reader:
        assert sum(1 for _ in reader.messages()) == 180


def test_split_recording_is_merged_by_time(tmp_path: Path) -> None:
    types = store()
    sent = drive(types)
    write_mcap(tmp_path / "part_10.mcap", sent[0::2], types)
    write_mcap(tmp_path / "part_9.mcap", sent[1::2], types, "zstd")
    with LogReader(tmp_path) as reader:
        got = [(raw.log_ns, raw.topic) for raw in reader.messages()]
    assert sorted(got) == sorted((one.log_ns, one.topic) for one in sent)
    assert [t for t, _ in got] == [one.log_ns for one in sent]


def test_messages_out_of_order_in_the_file_come_out_in_order(tmp_path: Path) -> None:
    types = store()
    sent = drive(types)
    np.random.default_rng(1).shuffle(sent)  # type: ignore[arg-type]
    path = write_mcap(tmp_path / "x.mcap", sent, types, chunk_size=2048)
    with LogReader(path) as reader:
        times = [raw.log_ns for raw in reader.messages()]
        assert times == sorted(times)
        assert len(times) == 180
        assert len(list(reader.messages({GNSS, "/none"}))) == 20


def test_an_index_without_message_indexes_still_gives_all(tmp_path: Path) -> None:
    from mcap.writer import IndexType

    types = store()
    path = write_mcap(tmp_path / "x.mcap", drive(types), types, index_types=IndexType.CHUNK)
    with LogReader(path) as reader:
        assert sum(1 for _ in reader.messages({IMU})) == 100


def test_unknown_type_raises_on_decoding_only(tmp_path: Path) -> None:
    from mcap.writer import Writer

    with (tmp_path / "x.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start(profile="ros2")
        nothing = writer.register_schema("acme/msg/Secret", "ros2msg", b"this is ( not a definition")
        channel = writer.register_channel("/secret", "cdr", nothing)
        writer.add_message(channel, START_NS, b"\0\1\0\0abcd", START_NS)
        writer.finish()
    with LogReader(tmp_path / "x.mcap") as reader:
        (raw,) = reader.messages()
        with pytest.raises(LogError, match="unknown_type"):
            reader.deserialize(raw)


@pytest.mark.parametrize("endian", ["<", ">"])
def test_raw_image_and_video_headers(endian: str) -> None:
    flag = b"\0\1\0\0" if endian == "<" else b"\0\0\0\0"
    pixels = bytes(range(24))
    body = struct.pack(endian + "iII4s", 12, 34, 4, b"cam\0")
    image = body + struct.pack(endian + "III5s", 2, 4, 5, b"rgb8\0") + b"\0"
    image += b"\0" * (-len(image) % 4) + struct.pack(endian + "II", 12, len(pixels)) + pixels
    got = image_payload(RawMessage("/c", "sensor_msgs/msg/Image", 0, flag + image))
    assert (got.sensor_ns, got.encoding, got.height, got.width, got.step) == (
        12_000_000_034,
        "rgb8",
        2,
        4,
        12,
    )
    assert bytes(got.data) == pixels
    video = body + struct.pack(endian + "I3sxI5s", 3, b"nal", 5, b"h264\0")
    got = image_payload(RawMessage("/c", "foxglove_msgs/msg/CompressedVideo", 0, flag + video))
    assert (got.encoding, bytes(got.data), got.frame_id) == ("h264", b"nal", "cam")
    with pytest.raises(LogError, match="bad_message"):
        image_payload(RawMessage("/c", "sensor_msgs/msg/Image", 0, (flag + image)[:40]))
    with pytest.raises(LogError, match="not_an_image"):
        image_payload(RawMessage("/c", "sensor_msgs/msg/Imu", 0, b""))


def test_reading_does_not_write_beside_the_log(small_logs: dict[str, Path]) -> None:
    folder = small_logs["db3"]
    before = sorted(path.name for path in folder.iterdir())
    with LogReader(folder) as reader:
        assert sum(1 for _ in reader.messages()) == 180
    assert sorted(path.name for path in folder.iterdir()) == before


def test_typed_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.mcap").touch()
    (tmp_path / "text.bag").write_text("no bag")
    for name, code in (("gone", "not_found"), ("empty.mcap", "empty_log"), ("text.bag", "not_a_log")):
        with pytest.raises(LogError) as caught:
            LogReader(tmp_path / name)
        assert caught.value.code == code
    (tmp_path / "sub").mkdir()
    with pytest.raises(LogError, match="no_logs"):
        LogReader(tmp_path / "sub")


def test_memory_is_bounded_by_overlapping_blocks(tmp_path: Path) -> None:
    types = store(ros1=True)
    path = write_ros1(tmp_path / "x.bag", drive(types, seconds=20), types)
    with LogReader(path) as reader:
        read: list[int] = []
        source = reader.sources[0]
        original = source.read
        source.read = lambda block, wanted: (read.append(1), original(block, wanted))[1]  # type: ignore[method-assign]
        stream = reader.messages()
        for _ in range(50):
            next(stream)
        assert len(source.blocks) > 20
        assert len(read) <= 4


@pytest.mark.parametrize("name", ["x.bag", "x.mcap", "db3"])
def test_memory_does_not_grow_with_the_length_of_a_log(tmp_path: Path, name: str) -> None:
    """Beyond the list of blocks: ten times as many messages, far less than a tenth of their bytes."""
    types = store(ros1=name == "x.bag")
    peaks, sizes = [], []
    for seconds in (3, 30):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        sent = drive(types, seconds)
        if name == "db3":
            path = write_rosbag2(folder / name, sent, types, "SQLITE3")
        else:
            path = (write_ros1 if name == "x.bag" else write_mcap)(folder / name, sent, types)
        for salvage in (False, True):
            tracemalloc.start()
            with LogReader(path, salvage=salvage) as reader:
                sizes.append(sum(len(raw.data) for raw in reader.messages()))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    for short, long in ((0, 2), (1, 3)):
        assert sizes[long] > 9 * sizes[short]
        assert peaks[long] - peaks[short] < 0.15 * (sizes[long] - sizes[short])
