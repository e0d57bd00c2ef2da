"""Clocks whose faults are known: what is measured, how it is named, and which rules answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clock_streams import MOVES, POLICY, SECOND, START_NS, found, stream, wrong
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.logs.clocks.forensics import examine_clock, repair_clock
from av_assets.domain.logs.clocks.plot import clock_png
from av_assets.domain.logs.clocks.rules import SEVERITIES, clock_findings

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "count": st.integers(60, 3000),
        "rate_hz": st.sampled_from([5.0, 10.0, 100.0]),
        "jitter_s": st.sampled_from([0.0, 0.0005, 0.005, 0.02]),
        "lag_s": st.floats(0, 0.3),
        "gap_s": st.sampled_from([0.0, 0.5, 7.0]),
    }
)


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_a_healthy_clock_has_no_drift_and_no_step(shape: dict[str, Any]) -> None:
    clock = found(*stream(**shape))
    assert clock.classification in ("healthy", "late")
    assert (clock.steps, clock.drifts, clock.strays, clock.backward_unexplained) == ((), False, 0, 0)
    assert -1 <= clock.base_ns - shape["lag_s"] * SECOND <= 0.01 * SECOND + 3 * shape["jitter_s"] * SECOND
    assert clock.drift_low_ppm is None or clock.drift_low_ppm <= clock.drift_ppm <= clock.drift_high_ppm


@settings(max_examples=40, deadline=None)
@given(
    SHAPES.filter(lambda shape: shape["count"] / shape["rate_hz"] >= 4),
    st.sampled_from([-2.5, -0.5, 0.4, 1.7, 3600.0]),
    st.floats(0.25, 0.75),
)
def test_a_step_is_found_where_it_is(shape: dict[str, Any], jump_s: float, share: float) -> None:
    log, sensor = stream(**shape, jump=(share, jump_s))
    clock = found(log, sensor)
    assert len(clock.steps) == 1
    assert clock.classification == "step"
    assert clock.steps[0].size_ns == pytest.approx(jump_s * SECOND, abs=0.1 * SECOND)
    at = round(share * len(log))
    assert abs(clock.steps[0].log_ns - int(log[at])) <= 0.2 * SECOND
    assert clock.backward_unexplained <= 1
    repaired = repair_clock(clock, log, sensor, "/x", POLICY)
    assert repaired.name == "remove_step"
    away = repaired.used_ns - (sensor - (np.arange(len(log)) >= at) * round(jump_s * SECOND))
    assert abs(np.median(away[:at]) - np.median(away[at:])) <= 0.1 * SECOND


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([-5000.0, -200.0, 60.0, 400.0, 20_000.0]))
def test_drift_lies_in_its_interval_and_is_taken_out(seed: int, ppm: float) -> None:
    log, sensor = stream(seed, count=6000, ppm=ppm, gap_s=20)
    clock = found(log, sensor)
    assert clock.classification == "drift"
    assert clock.drift_ppm == pytest.approx(ppm, abs=3)
    assert clock.drift_low_ppm is not None
    assert clock.drift_high_ppm is not None
    assert clock.drift_low_ppm - 3 <= ppm <= clock.drift_high_ppm + 3
    repaired = repair_clock(clock, log, sensor, "/x", POLICY)
    assert repaired.name == "remove_drift"
    left = examine_clock(log, repaired.used_ns, POLICY)
    assert left.classification in ("healthy", "late", "early")
    assert abs(left.drift_ppm) < 5


def test_a_short_or_jittery_log_claims_no_drift() -> None:
    for seed in range(20):
        assert not found(*stream(seed, count=100, rate_hz=20, ppm=200)).drifts  # adds up to 1 ms
        assert not found(*stream(seed, count=200, rate_hz=10, jitter_s=0.2, ppm=300)).drifts


NAMED = [
    ("healthy", "healthy", "none", "epoch"),
    ("late", "late", "none", "epoch"),
    ("early", "early", "none", "epoch"),
    ("uptime", "uptime", "add_offset", "uptime"),
    ("foreign", "foreign", "add_offset", "epoch"),
    ("gps", "gps_leap", "gps_to_utc", "gps"),
    ("utc_minus_leap", "gps_leap", "gps_to_utc", "utc_minus_leap"),
    ("tai", "gps_leap", "gps_to_utc", "tai"),
    ("gps_1980", "gps_leap", "gps_to_utc", "gps_1980"),
    ("zero", "zero", "log_time", "zero"),
    ("frozen", "frozen", "log_time", "epoch"),
    ("frozen_later", "frozen", "log_time", "epoch"),
    ("swapped", "swapped", "swap_sec_nsec", "epoch"),
    ("drift", "drift", "remove_drift", "epoch"),
    ("step", "step", "remove_step", "epoch"),
]


@pytest.mark.parametrize(("kind", "name", "repair", "domain"), NAMED)
def test_each_wrong_clock_is_named_and_repaired(kind: str, name: str, repair: str, domain: str) -> None:
    log, sensor = wrong(kind)
    clock = found(log, sensor)
    assert (clock.classification, clock.domain) == (name, domain)
    repaired = repair_clock(clock, log, sensor, "/x", POLICY)
    assert repaired.name == repair
    healthy = wrong("healthy")[1]
    if kind not in ("late", "early"):
        assert np.abs(repaired.used_ns - healthy).max() < 0.1 * SECOND
    if kind in ("gps", "utc_minus_leap", "tai", "gps_1980", "swapped"):
        assert np.array_equal(repaired.used_ns, healthy)
    json.dumps([clock.to_dict(), repaired.to_dict()], allow_nan=False)


FAILS = {
    "healthy": set(),
    "late": set(),
    "uptime": {"clock_counts_from_the_epoch", "clock_is_near_log_time"},
    "foreign": {"clock_is_near_log_time"},
    "gps": {"clock_is_near_log_time"},
    "gps_1980": {"clock_counts_from_the_epoch", "clock_is_near_log_time"},
    "zero": {"clock_counts_from_the_epoch"},
    "frozen": {"clock_runs"},
    "frozen_later": {"clock_runs"},
    "swapped": {"stamp_fields_are_in_order"},
    "drift": {"clock_does_not_drift"},
    "step": {"clock_does_not_jump"},
}


@pytest.mark.parametrize(("kind", "rules"), FAILS.items())
def test_one_wrong_clock_fails_at_most_one_rule_of_severity_error(kind: str, rules: set[str]) -> None:
    results = list(clock_findings("imu", "/imu", *wrong(kind), POLICY))
    assert [one.rule for one in results] == list(SEVERITIES)
    failed = [one for one in results if one.status == "failed"]
    assert {one.rule for one in failed} == rules
    assert sum(one.severity == "error" for one in failed) <= 1
    assert all(bool(one.reason) == (one.status != "passed") for one in results)


def test_a_small_step_warns_and_severities_can_be_lowered() -> None:
    log, sensor = stream(3, jump=(0.5, -0.4))
    results = {one.rule: one for one in clock_findings("imu", "/imu", log, sensor, POLICY)}
    assert (results["clock_does_not_jump"].status, results["clock_does_not_jump"].severity) == (
        "failed",
        "warn",
    )
    lowered = clock_findings("can", "/can", *wrong("frozen"), POLICY, {"clock_runs": "warn"})
    assert {one.severity for one in lowered if one.status == "failed"} == {"warn"}
    assert {one.status for one in clock_findings("x", "/x", log, log[:0], POLICY)} == {"skipped"}


@pytest.mark.parametrize(("at", "count"), [(0, 3), (1197, 3), (600, 1)])
def test_stamps_of_another_epoch_or_far_ahead_are_strays(at: int, count: int) -> None:
    for value in (0, START_NS + 900 * SECOND):
        log, sensor = stream(5)
        sensor[at : at + count] = value
        clock = found(log, sensor)
        assert (clock.strays, clock.steps, clock.backward_unexplained) == (count, (), 0)
        failed = [o for o in clock_findings("x", "/x", log, sensor, POLICY) if o.status == "failed"]
        assert [one.rule for one in failed] == ["clock_does_not_jump"]


def test_late_messages_are_neither_steps_nor_strays() -> None:
    log, sensor = stream(5)
    sensor[600] -= 30 * SECOND  # an old message, sent again when someone subscribed
    clock = found(log, sensor)
    assert (clock.classification, clock.strays, clock.steps) == ("healthy", 0, ())
    assert (clock.backward, clock.backward_unexplained) == (1, 1)
    log, sensor = stream(5)
    log[300:500] = np.maximum(log[300:500], log[500])  # ten seconds held up, then delivered together
    assert (found(log, sensor).classification, found(log, sensor).steps) == ("healthy", ())


@settings(max_examples=40, deadline=None)
@given(MOVES.filter(lambda kind: kind != "swapped"), st.integers(-(10**16), 10**16))
def test_the_same_shift_of_both_clocks_changes_nothing(kind: str, shift_ns: int) -> None:
    log, sensor = wrong(kind)
    moved = log + shift_ns
    one = found(log, sensor)
    two = found(moved, sensor + shift_ns if one.domain == "epoch" else sensor)
    if one.domain == "epoch":
        keys = ("offset_ns", "base_ns", "drift_ppm", "drifts", "jitter_ns", "backward", "classification")
        assert [getattr(one, key) for key in keys] == [getattr(two, key) for key in keys]
        assert [s.log_ns + shift_ns for s in one.steps] == [s.log_ns for s in two.steps]
    else:
        assert two.drift_ppm == pytest.approx(one.drift_ppm, abs=0.01)


def test_the_picture_is_bounded_and_the_same_twice() -> None:
    clocks = {f"/{kind}": found(*wrong(kind)) for kind in ("drift", "step", "uptime", "frozen")}
    assert all(len(clock.series) <= 120 for clock in clocks.values())
    assert clock_png(clocks).startswith(b"\x89PNG")
    assert clock_png(clocks) == clock_png(dict(reversed(clocks.items())))
    assert clock_png({}).startswith(b"\x89PNG")


REAL = {
    ("bags/datmo_intersection.bag", "/scan"): "late",
    ("bags/datmo_intersection.bag", "/imu/data"): "healthy",
    ("bags/robot_localization_test1.bag", "/imu/data"): "drift",
    ("bags/robot_localization_test1.bag", "/fix"): "healthy",
    ("bags/fox_example.bag", "/rosout"): "healthy",
    ("bags/carnd_ros1_jpeg_lz4.bag", "/camera/front/image_raw/compressed"): "healthy",
    ("drives/comma2k19_rav4_drive", "/gnss/fix"): "late",
    ("drives/comma2k19_rav4_drive", "/can0/received"): "healthy",
    ("drives/carnd_h264_video", "/camera/front/video"): "healthy",
}


@pytest.mark.parametrize(("file", "topic"), REAL)
def test_clocks_of_real_drives(real_data: Path, file: str, topic: str) -> None:
    from av_assets.domain.logs.reader import LogReader, header_stamp_ns

    with LogReader(real_data / file) as reader:
        rows = [(raw.log_ns, header_stamp_ns(raw)) for raw in reader.messages([topic])]
    log, sensor = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    clock = found(log, sensor)
    assert clock.classification == REAL[file, topic]
    assert clock.steps == ()
    if clock.classification != "drift":
        assert np.array_equal(repair_clock(clock, log, sensor, topic, POLICY).used_ns, sensor)
    else:  # an IMU whose clock warms up: 34.5 ms at first, 20.8 ms at the end of 395 s
        assert clock.drift_ppm == pytest.approx(37, abs=2)
