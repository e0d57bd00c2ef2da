"""A verdict on anything, with a code, and never a traceback."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_writers import store, write_mcap, write_ros1, write_rosbag2

from av_assets.domain.logs.inspect import inspect_log

if TYPE_CHECKING:
    from pathlib import Path

QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
WHOLE = ("bag_none", "bag_lz4", "bag_bz2", "mcap_none", "mcap_lz4", "mcap_zstd", "mcap_unchunked", "db3")


@pytest.mark.parametrize("name", WHOLE)
def test_whole_logs_are_ok(small_logs: dict[str, Path], name: str) -> None:
    verdict = inspect_log(small_logs[name])
    assert (verdict.state, verdict.code, verdict.messages) == ("ok", "", 180)
    found = verdict.to_dict()
    json.dumps(found, allow_nan=False)
    assert found["topics"]["/imu/data"] == {"type": "sensor_msgs/msg/Imu", "count": 100, "rate_hz": 50.0}  # type: ignore[index]


def test_logs_without_a_message_are_quarantined(tmp_path: Path) -> None:
    ros1, ros2 = store(ros1=True), store()
    empty = [
        write_ros1(tmp_path / "x.bag", [], ros1),
        write_mcap(tmp_path / "x.mcap", [], ros2),
        write_rosbag2(tmp_path / "db3", [], ros2, "SQLITE3"),
    ]
    for path in empty:
        assert (inspect_log(path).state, inspect_log(path).code) == ("quarantined", "no_messages")


def test_what_is_no_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mcap").touch()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "folder").mkdir()
    for name, code in (
        ("none", "not_found"),
        ("empty.mcap", "empty_log"),
        ("text", "not_a_log"),
        ("folder", "no_logs"),
    ):
        verdict = inspect_log(tmp_path / name)
        assert (verdict.state, verdict.code) == ("quarantined", code)
        assert verdict.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.mcap").write_bytes(b"x")
    (tmp_path / "x.mcap").chmod(0)
    assert inspect_log(tmp_path / "x.mcap").code == "permission_denied"


def test_one_bad_file_of_a_split_recording_is_told(small_logs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(small_logs["mcap_lz4"].read_bytes())
    (tmp_path / "b.mcap").write_bytes(b"not mcap")
    verdict = inspect_log(tmp_path)
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "not_a_log", 180)


def test_a_missing_split_is_told(small_logs: dict[str, Path], tmp_path: Path) -> None:
    for file in small_logs["rosbag2_mcap"].iterdir():
        text = file.read_bytes()
        if file.name == "metadata.yaml":
            text = text.replace(b"relative_file_paths:\n", b"relative_file_paths:\n  - gone_1.mcap\n")
        (tmp_path / file.name).write_bytes(text)
    assert inspect_log(tmp_path).code == "missing_split"


def judge(path: Path) -> None:
    started = time.perf_counter()
    verdict = inspect_log(path)
    assert time.perf_counter() - started < 10
    assert verdict.state in ("ok", "salvaged", "quarantined")
    assert (verdict.code == "") == (verdict.state == "ok")
    assert verdict.code != "unreadable_file", verdict.reason  # the last resort for errors nobody thought of
    json.dumps(verdict.to_dict(), allow_nan=False)


def log_bytes(small_logs: dict[str, Path], name: str) -> bytes:
    path = small_logs[name]
    return (next(path.glob("*.db3")) if path.is_dir() else path).read_bytes()


@QUICK
@given(
    data=st.binary(max_size=400),
    head=st.sampled_from([b"", b"\x89MCAP0\r\n", b"#ROSBAG V2.0\n", b"SQLite format 3\0"]),
)
def test_random_bytes(tmp_path: Path, data: bytes, head: bytes) -> None:
    (tmp_path / "x").write_bytes(head + data)
    judge(tmp_path / "x")


@QUICK
@given(name=st.sampled_from(WHOLE), share=st.floats(0, 1))
def test_random_truncation(small_logs: dict[str, Path], tmp_path: Path, name: str, share: float) -> None:
    data = log_bytes(small_logs, name)
    (tmp_path / "x").write_bytes(data[: int(len(data) * share)])
    judge(tmp_path / "x")


@QUICK
@given(
    name=st.sampled_from(WHOLE),
    flips=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=40
    ),
    edge=st.sampled_from([1.0, 0.02, -0.02]),
)
def test_random_flips(
    small_logs: dict[str, Path], tmp_path: Path, name: str, flips: list[tuple[float, int]], edge: float
) -> None:
    """Anywhere, or crowded into the first or last bytes, where headers and indexes are."""
    data = bytearray(log_bytes(small_logs, name))
    for share, mask in flips:
        data[int(share * edge * len(data))] ^= mask
    (tmp_path / "x").write_bytes(data)
    judge(tmp_path / "x")


def test_an_index_that_points_beyond_any_file(small_logs: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(small_logs["bag_none"].read_bytes())
    at = data.rindex(b"chunk_pos=") + 10
    data[at : at + 8] = b"\xff" * 8
    (tmp_path / "x").write_bytes(data)
    verdict = inspect_log(tmp_path / "x")
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "bad_index", 180)


def test_a_database_whose_schema_is_no_text(small_logs: dict[str, Path], tmp_path: Path) -> None:
    data = log_bytes(small_logs, "db3")
    (tmp_path / "x").write_bytes(data.replace(b"CREATE TABLE topics", b"CREAT\xff TABLE topics"))
    verdict = inspect_log(tmp_path / "x")
    assert (verdict.state, verdict.code) == ("quarantined", "bad_database")
