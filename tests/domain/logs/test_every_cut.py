"""A log cut at any byte, or with any byte flipped, is salvaged or refused by name: nothing else ever happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from log_writers import drive, store, write_mcap, write_ros1, write_rosbag2
from video_writers import write_times, write_video

from av_assets.domain.errors import LogError
from av_assets.domain.logs.inspect import Inspection, inspect_log
from av_assets.domain.logs.reader import LogReader

if TYPE_CHECKING:
    from pathlib import Path

Contents = list[tuple[str, int, bytes]]
FORMATS = (
    "bag_none",
    "bag_bz2",
    "bag_lz4",
    "mcap_none",
    "mcap_lz4",
    "mcap_zstd",
    "mcap_unchunked",
    "mcap_data_crc",
    "mcap_file_zstd",
    "mcap_message_zstd",
    "db3",
    "db3_file_zstd",
    "db3_message_zstd",
    "mp4",
)
# What is written with checksums over every message: there a flip loses messages and never changes one.
CHECKED = ("mcap_none", "mcap_lz4", "mcap_zstd")
CASES = 60


@pytest.fixture(scope="session")
def tiny_logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One log of about 20 messages in several chunks for each format."""
    folder = tmp_path_factory.mktemp("tiny")
    ros1, ros2 = store(ros1=True), store()
    sent1, sent2 = drive(ros1, 0.22), drive(ros2, 0.22)
    small = {"chunk_size": 1024}
    logs = {f"bag_{c}": write_ros1(folder / f"{c}.bag", sent1, ros1, c) for c in ("none", "bz2", "lz4")}
    for codec in ("none", "lz4", "zstd"):
        logs[f"mcap_{codec}"] = write_mcap(folder / f"{codec}.mcap", sent2, ros2, codec, **small)
    logs["mcap_unchunked"] = write_mcap(folder / "flat.mcap", sent2, ros2, use_chunking=False)
    logs["mcap_data_crc"] = write_mcap(folder / "crc.mcap", sent2, ros2, enable_data_crcs=True, **small)
    for plugin, kind in (("MCAP", "mcap"), ("SQLITE3", "db3")):
        for mode in ("", "FILE", "MESSAGE"):
            name = f"{kind}_{mode.lower()}_zstd" if mode else kind
            bag = write_rosbag2(folder / name, sent2, ros2, plugin, mode)
            logs[name] = next(path for path in bag.iterdir() if path.name != "metadata.yaml")
    logs["mp4"] = write_video(folder / "x.mp4", 12, bf="0", g="4", movflags="faststart")
    write_times(folder / "x.csv", 12)
    return logs


def contents(path: Path) -> Contents:
    with LogReader(path) as reader:
        return [(raw.topic, raw.log_ns, raw.data) for raw in reader.messages()]


def judged(path: Path, whole: Contents, subset: bool) -> Inspection:
    """The verdict, in time and typed, and in agreement with what the reader gives."""
    started = time.perf_counter()
    verdict = inspect_log(path)
    if verdict.state == "quarantined" and verdict.code != "no_messages":
        with pytest.raises(LogError):
            contents(path)
        kept = []
    else:
        kept = contents(path)
    assert time.perf_counter() - started < 10
    assert verdict.state in ("ok", "salvaged", "quarantined")
    assert (verdict.code == "") == (verdict.state == "ok")
    assert verdict.code != "unreadable_file", verdict.reason  # the last resort for errors nobody thought of
    assert not subset or set(kept) <= set(whole)
    assert verdict.state != "ok" or len(kept) == len(whole)
    return verdict


def write_damaged(folder: Path, log: Path, data: bytes) -> Path:
    path = folder / log.name
    path.write_bytes(data)
    if log.suffix == ".mp4":
        write_times(folder / f"{log.stem}.csv", 12)
    return path


def places(size: int, seed: int, count: int = CASES) -> list[int]:
    """Both ends byte by byte, where headers and indexes are, and evenly between them."""
    step = max(1, size // count)
    return sorted(
        {*range(1, size, step), *(size - 1 - i * 7 - seed for i in range(20)), *range(1 + seed, 60, 7)}
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_log_cut_anywhere(tiny_logs: dict[str, Path], tmp_path: Path, name: str) -> None:
    whole, data = contents(tiny_logs[name]), tiny_logs[name].read_bytes()
    assert inspect_log(tiny_logs[name]).state == "ok"
    for at in places(len(data), 0):
        verdict = judged(write_damaged(tmp_path, tiny_logs[name], data[:at]), whole, subset=True)
        assert verdict.state != "ok", at


@pytest.mark.parametrize("name", FORMATS)
def test_a_log_with_a_flipped_bit_anywhere(tiny_logs: dict[str, Path], tmp_path: Path, name: str) -> None:
    whole, data = contents(tiny_logs[name]), tiny_logs[name].read_bytes()
    for at in places(len(data), 3):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        judged(write_damaged(tmp_path, tiny_logs[name], bytes(flipped)), whole, subset=name in CHECKED)
