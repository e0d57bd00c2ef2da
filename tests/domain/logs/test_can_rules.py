"""CAN frames against a DBC: values are those of cantools, wraps are fine, skips are not."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any

import cantools
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_writers import IMU, drive, store, write_mcap

from av_assets.domain.logs.drive_spec import DriveSpec, StreamSpec
from av_assets.domain.logs.files.blocks import RawMessage
from av_assets.domain.logs.integrity.can_rules import EXTENDED_BIT, CanProbe, load_signals
from av_assets.domain.logs.integrity.check import check_log
from av_assets.domain.logs.integrity.probes import StreamJudge
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.simulation import messages
from av_assets.policies.integrity import IntegrityPolicy

DBC = """\
VERSION "1.0"

NS_ :

BS_:

BU_: ECU

BO_ 100 MIXED: 8 ECU
 SG_ little : 3|11@1+ (0.5,-10) [-10|1000] "" ECU
 SG_ little_signed : 14|9@1- (1,0) [0|0] "" ECU
 SG_ big : 31|12@0+ (2,1) [0|0] "" ECU
 SG_ big_signed : 35|7@0- (1,0) [0|0] "" ECU
 SG_ alive_counter : 48|4@1+ (1,0) [0|14] "" ECU
 SG_ speed : 56|8@1+ (1,0) [0|200] "km/h" ECU

BO_ 2147483748 LONG_ID: 2 ECU
 SG_ long_counter : 0|2@1+ (1,0) [0|3] "" ECU
"""
JUDGE = StreamJudge("can", "/can")


@cache
def dbc(folder: Path) -> Path:
    path = folder / "x.dbc"
    path.write_text(DBC)
    return path


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_signals(dbc(tmp_path_factory.mktemp("dbc")))


def raw(ident: int, data: bytes, ros1: bool = False) -> RawMessage:
    if not ros1:
        frame = messages.can_frame(0, ident & ~EXTENDED_BIT, data)
        frame.is_extended = bool(ident & EXTENDED_BIT)
        encoded = bytes(messages.typestore().serialize_cdr(frame, "can_msgs/msg/Frame"))
        return RawMessage("/can", "can_msgs/msg/Frame", 0, encoded)
    tail = struct.pack("<I4B", ident & ~EXTENDED_BIT, 0, int(bool(ident & EXTENDED_BIT)), 0, len(data))
    return RawMessage("/can", "can_msgs/msg/Frame", 0, bytes(16) + tail + data.ljust(8, b"\0"), "ros1")


@given(st.binary(min_size=8, max_size=8))
def test_raw_values_are_those_of_cantools(data: bytes) -> None:
    database = cantools.database.load_string(DBC, "dbc")
    expected = database.decode_message(100, data, decode_choices=False, scaling=False)
    words = np.frombuffer(data, np.uint8)
    little, big = words.view("<u8").astype(np.uint64), words.view(">u8").astype(np.uint64)
    found = {s.name: int(s.raw(little, big)[0]) for s in _cached_signals()}
    assert found == {name: int(value) for name, value in expected.items()}


@cache
def _cached_signals() -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.dbc"
        path.write_text(DBC)
        return load_signals(path)[100]


def found(signals: Any, frames: list[RawMessage]) -> dict[str, Any]:
    probe = CanProbe(signals, IntegrityPolicy.load())
    for frame in frames:
        probe.glance(frame)
    return {finding.rule: finding for finding in probe.findings(JUDGE)}


def counted(values: list[int], speed: int = 50, ros1: bool = False) -> list[RawMessage]:
    return [raw(100, bytes([0, 0, 0, 0, 0, 0, value, speed]), ros1) for value in values]


@pytest.mark.parametrize("ros1", [False, True])
@pytest.mark.parametrize("start", [0, 7, 14])
def test_a_wrap_at_the_stated_maximum_is_no_skip(signals: Any, start: int, ros1: bool) -> None:
    rules = found(signals, counted([(start + i) % 15 for i in range(100)], ros1=ros1))
    assert rules["can_counter_counts"].status == "passed"


@given(st.integers(1, 98), st.integers(1, 13))
def test_lost_frames_are_skips(at: int, lost: int) -> None:
    values = [i % 15 for i in range(130)]
    del values[at : at + lost]
    rules = found({100: _cached_signals()}, counted(values))
    skip = rules["can_counter_counts"]
    assert (skip.status, skip.severity, skip.measured) == ("failed", "error", 1)
    assert "alive_counter" in skip.reason


def test_one_skip_among_thousands_warns(signals: Any) -> None:
    values = [i % 15 for i in range(3000)]
    del values[1000]
    found_skip = found(signals, counted(values))["can_counter_counts"]
    assert (found_skip.status, found_skip.severity) == ("failed", "warn")


def test_what_never_counts_is_no_counter(signals: Any) -> None:
    values = np.random.default_rng(0).integers(0, 15, 200).tolist()
    assert found(signals, counted(values))["can_counter_counts"].status == "skipped"


def test_repeated_frames_and_other_buses_are_no_skips(signals: Any) -> None:
    long_ids = [raw(100 | EXTENDED_BIT, bytes([i % 4, 0])) for i in range(9)]
    mixed = [
        frame for pair in zip(counted([0, 1, 1, 2, 3, 3, 4, 5, 6]), long_ids, strict=True) for frame in pair
    ]
    assert found(signals, mixed)["can_counter_counts"].status == "passed"
    assert found(signals, long_ids[:5] + long_ids[7:])["can_counter_counts"].status == "failed"


def test_values_outside_of_the_limits_warn(signals: Any) -> None:
    good = found(signals, counted([i % 15 for i in range(30)], speed=200))["signals_are_in_range"]
    assert good.status == "passed"
    bad = found(signals, counted([i % 15 for i in range(30)], speed=201))["signals_are_in_range"]
    assert (bad.status, bad.severity, bad.measured) == ("failed", "warn", 0.5)
    assert "speed 30 times" in bad.reason


def test_frames_that_say_nothing_are_skipped(signals: Any) -> None:
    short = [raw(100, b"\1"), raw(7, bytes(8))]
    assert {f.status for f in found(signals, short).values()} == {"skipped"}


def test_a_dbc_that_is_missing_or_broken_is_told(tmp_path: Path) -> None:
    write_mcap(tmp_path / "x.mcap", drive(store()), store())
    for text, status in ((None, "failed"), ("this is no DBC", "failed"), (DBC, "passed")):
        if text is not None:
            (tmp_path / "bus.dbc").write_text(text)
        spec = DriveSpec(drive="x", streams={"can": StreamSpec(topic=IMU, kind="can", dbc="bus.dbc")})
        with LogReader(tmp_path / "x.mcap") as reader:
            report = check_log(reader, spec, IntegrityPolicy.load())
        assert [f.status for f in report.findings if f.rule == "dbc_is_readable"] == [status]
    (tmp_path / "bus.dbc").write_text("this is no DBC")
    with pytest.raises(ValueError, match=r".+"):
        load_signals(tmp_path / "bus.dbc")
    with pytest.raises(ValueError, match="FileNotFound"):
        load_signals(tmp_path / "none.dbc")
