"""Batches of messages give the very numbers that reading them one by one gives."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.logs.reader import LogReader, RawMessage, header_stamp_ns
from av_assets.domain.sync.alike import alike, times
from av_assets.domain.sync.can_batches import BatchCanDecoder, CanFrames
from av_assets.domain.sync.canbus import EXTENDED_FLAG, CanDecoder
from av_assets.domain.sync.signal_batches import SignalBatches
from av_assets.domain.sync.signals import SignalReader
from av_assets.domain.sync.wire import CanFrame

if TYPE_CHECKING:
    from pathlib import Path

    from tests.domain.sync.conftest import Drive

Samples = dict[str, list[tuple[int, float]]]


def _turned(_: str) -> np.ndarray:
    """Some rotation that is not the identity."""
    return np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def _single(reader: LogReader, can: dict[str, CanDecoder], batch: list[RawMessage]) -> Samples:
    single = SignalReader(reader.deserialize, _turned, can, {}, 32)
    found: Samples = defaultdict(list)
    for row, raw in enumerate(batch):
        for name, value in single.read(raw):
            found[name].append((row, value))
    return found


def _batched(reader: LogReader, can: dict[str, BatchCanDecoder], batch: list[RawMessage]) -> Samples:
    single = SignalReader(reader.deserialize, _turned, dict(can), {}, 32)
    found: Samples = defaultdict(list)
    for names, rows, values in SignalBatches(single, _turned, can).read(batch, *alike(batch)):
        for column, name in enumerate(names):
            found[name] += zip(rows.tolist(), values[:, column].tolist(), strict=True)
    return found


def _same(batched: Samples, single: Samples) -> None:
    assert batched.keys() == single.keys()
    for name, samples in single.items():
        rows, values = zip(*samples, strict=True)
        found_rows, found_values = zip(*sorted(batched[name]), strict=True)
        assert found_rows == rows
        np.testing.assert_allclose(found_values, values, rtol=1e-12, atol=1e-12)


def test_every_small_topic_of_a_drive_reads_alike(drive: Drive) -> None:
    dbc = drive.folder / "vehicle.dbc"
    names: set[str] = set()
    with LogReader(drive.folder) as reader:
        for topic in ("/imu/data", "/gnss/fix", "/can/frames"):
            batch = list(reader.messages({topic}))
            single = _single(reader, {"/can/frames": CanDecoder(dbc)}, batch)
            _same(_batched(reader, {"/can/frames": BatchCanDecoder(dbc)}, batch), single)
            names |= single.keys()
    assert names >= {"imu_ax_mps2", "latitude_deg", "speed_mps", "engaged"}


@pytest.mark.parametrize(
    ("log", "topics"),
    [("bags/robot_localization_test1.bag", 3), ("drives/comma2k19_rav4_drive", 5)],
)
def test_topics_of_real_logs_read_alike(real_data: Path, log: str, topics: int) -> None:
    """ROS 1 and ROS 2, with odometry, poses and types that nobody reads by offset."""
    read = 0
    with LogReader(real_data / log) as reader:
        for topic, info in reader.topics.items():
            if info.count and info.msgtype.split("/")[0] in ("sensor_msgs", "nav_msgs", "geometry_msgs"):
                batch = [raw for raw, _ in zip(reader.messages({topic}), range(300), strict=False)]
                single = _single(reader, {}, batch)
                _same(_batched(reader, {}, batch), single)
                read += bool(single)
    assert read >= min(topics, 3)


@pytest.mark.parametrize("log", ["bags/robot_localization_test1.bag", "drives/comma2k19_rav4_drive"])
def test_stamps_of_a_batch_are_those_of_its_messages(real_data: Path, log: str) -> None:
    with LogReader(real_data / log) as reader:
        for topic in reader.topics:
            batch = [raw for raw, _ in zip(reader.messages({topic}), range(200), strict=False)]
            expected = [(header_stamp_ns(raw), raw.log_ns) for raw in batch]
            found = times(batch, alike(batch)[0]) if batch else np.empty((0, 2))
            assert found.tolist() == [[log if stamp is None else stamp, log] for stamp, log in expected]


def test_messages_that_differ_before_their_numbers_and_broken_ones_are_read_one_by_one(drive: Drive) -> None:
    with LogReader(drive.folder) as reader:
        batch = list(reader.messages({"/imu/data"}))[:20]
        at = batch[3].data.index(b"imu")
        batch[3] = batch[3]._replace(data=batch[3].data.replace(b"imu", b"umi", 1))
        batch[5] = batch[5]._replace(data=batch[5].data[: at + 40])
        found = _batched(reader, {}, batch)
        _same(found, _single(reader, {}, batch))
    assert [row for row, _ in sorted(found["imu_ax_mps2"])] == [n for n in range(20) if n != 5]


def _dbc(path: Path, signals: list[tuple[int, int, int, int]]) -> Path:
    """A DBC with one message of 8 bytes; signals are (start, length, little-endian, signed)."""
    lines = ['VERSION ""', "", "NS_ :", "", "BS_:", "", "BU_: A", "", "BO_ 100 M: 8 A"]
    for number, (start, length, little, signed) in enumerate(signals):
        sign = "-" if signed else "+"
        lines.append(f' SG_ s{number} : {start}|{length}@{little}{sign} (0.5,-3) [0|0] "" A')
    path.write_text("\n".join([*lines, ""]))
    return path


@st.composite
def _layouts(draw: Any) -> list[tuple[int, int, int, int]]:
    """Signals of either byte order in bytes of their own, so that none overlaps another."""
    layouts, byte = [], 0
    while byte < 8:
        size = draw(st.integers(1, min(8 - byte, 4)))
        length = draw(st.integers(1, 8 * size))
        little = draw(st.integers(0, 1))
        start = 8 * byte if little else 8 * byte + 7
        layouts.append((start, length, little, draw(st.integers(0, 1))))
        byte += size
    return layouts


@settings(max_examples=40)
@given(_layouts(), st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=5), st.integers(0, 8))
def test_shifts_and_masks_give_what_cantools_gives(
    tmp_path_factory: pytest.TempPathFactory,
    layouts: list[tuple[int, int, int, int]],
    payloads: list[bytes],
    cut: int,
) -> None:
    dbc = _dbc(tmp_path_factory.mktemp("dbc") / "m.dbc", layouts)
    single, batch = CanDecoder(dbc), BatchCanDecoder(dbc)
    sizes = np.array([8] * (len(payloads) - 1) + [cut], np.int64)
    data = np.array([list(payload) for payload in payloads], np.uint8)
    frames = CanFrames(np.full(len(payloads), 100), np.ones(len(payloads), np.bool_), sizes, data)
    found = [(n, v) for names, _, values in batch.decode_many(frames) for row in values
             for n, v in zip(names, row.tolist(), strict=True)]  # fmt: skip
    pairs = zip(payloads, sizes.tolist(), strict=True)
    expected = [e for p, n in pairs for e in single.decode(CanFrame(100, False, True, p[:n]))]
    assert sorted(found) == sorted(expected)
    assert batch.failed == single.failed


def test_unknown_remote_and_multiplexed_frames_are_counted_and_read_alike(tmp_path: Path) -> None:
    lines = ['VERSION ""', "", "NS_ :", "", "BS_:", "", "BU_: A", "", "BO_ 100 M: 8 A",
             ' SG_ kind M : 0|8@1+ (1,0) [0|0] "" A', ' SG_ a m0 : 8|8@1+ (1,0) [0|0] "" A',
             ' SG_ b m1 : 8|16@1+ (1,0) [0|0] "" A', ""]  # fmt: skip
    (tmp_path / "m.dbc").write_text("\n".join(lines))
    decoder = BatchCanDecoder(tmp_path / "m.dbc")
    keys = np.array([100, 100, 7, 100 | EXTENDED_FLAG, 100])
    data = np.array([[0, 5, 0, 0, 0, 0, 0, 0], [1, 5, 1, 0, 0, 0, 0, 0]] + [[0] * 8] * 3, np.uint8)
    is_data = np.array([True, True, True, True, False])
    found = list(decoder.decode_many(CanFrames(keys, is_data, np.full(5, 8), data)))
    values = [dict(zip(names, table[0].tolist(), strict=True)) for names, _, table in found]
    assert values == [{"kind": 0.0, "a": 5.0}, {"kind": 1.0, "b": 261.0}]
    assert decoder.unknown == 3
