"""Repairs of clocks: the policy chooses, log time is the way out, and moved stamps come back bit for bit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from clock_streams import MOVES, POLICY, SECOND, found, stream, wrong
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import LogError, PolicyError
from av_assets.domain.logs.clocks.forensics import examine_clock, repair_clock
from av_assets.domain.logs.clocks.repairs import undo_repair
from av_assets.domain.logs.clocks.rules import clock_findings
from av_assets.policies.clocks import ClockPolicy

if TYPE_CHECKING:
    from pathlib import Path

TODAY = dict.fromkeys(POLICY.repairs, "log_time") | dict.fromkeys(
    ("healthy", "late", "early", "drift", "step"), "none"
)


@settings(max_examples=40, deadline=None)
@given(
    MOVES,
    st.sampled_from(["none", "add_offset", "remove_drift", "remove_step", "gps_to_utc", "swap_sec_nsec"]),
    st.integers(0, 10**6),
)
def test_repairs_that_move_stamps_are_undone_bit_for_bit(kind: str, repair: str, seed: int) -> None:
    log, sensor = wrong(kind)
    mixed = np.random.default_rng(seed).permutation(len(log))
    log, sensor = log[mixed], sensor[mixed]
    topics = [{"pattern": "/x*", "repair": repair, "delay_s": 0.003}]
    policy = ClockPolicy.model_validate(POLICY.model_dump() | {"topics": topics})
    repaired = repair_clock(examine_clock(log, sensor, policy), log, sensor, "/x/y", policy)
    if repaired.name == "log_time":
        assert "not possible" in repaired.reason
        with pytest.raises(LogError) as error:
            repaired.undo(repaired.used_ns)
        assert error.value.code == "clock_repair_replaces"
        return
    assert (repaired.name, repaired.source) == (repair, "sensor")
    assert np.array_equal(repaired.undo(repaired.used_ns), sensor)
    part = slice(17, 400, 3)  # a shard keeps some rows only, and the parameters as JSON
    stored = json.loads(json.dumps(repaired.parameters))
    assert np.array_equal(undo_repair(repaired.name, stored, repaired.used_ns[part], log[part]), sensor[part])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**62)), max_size=60))
def test_any_numbers_are_judged_and_undone(rows: list[tuple[int, int]]) -> None:
    sensor, log = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    clock = found(log, sensor)
    repaired = repair_clock(clock, log, sensor, "/x", POLICY)
    assert len(repaired.used_ns) == len(rows)
    if repaired.invertible:
        assert np.array_equal(repaired.undo(repaired.used_ns), sensor)
    json.dumps(clock.to_dict(), allow_nan=False)
    list(clock_findings("x", "/x", log, sensor, POLICY))


@pytest.mark.parametrize("kind", ["healthy", "late", "early", "foreign", "gps", "uptime", "zero", "frozen"])
def test_log_time_beyond_the_limit_is_one_policy_among_others(kind: str) -> None:
    policy = ClockPolicy.model_validate(POLICY.model_dump() | {"repairs": TODAY})
    log, sensor = wrong(kind)
    foreign = abs(float(np.median(log - sensor))) > policy.max_offset_s * SECOND
    expected = log if foreign or 2 * len(np.unique(sensor)) <= len(sensor) else sensor
    used = repair_clock(examine_clock(log, sensor, policy), log, sensor, "/x", policy).used_ns
    assert np.array_equal(used, expected)


def test_delay_is_named_by_the_policy_or_estimated() -> None:
    for delay_s, expected_ns in ((0.05, 50_000_000), (None, None)):
        topics = [{"pattern": "/imu*", "repair": "log_minus_delay", "delay_s": delay_s}]
        policy = ClockPolicy.model_validate(POLICY.model_dump() | {"topics": topics})
        log, sensor = wrong("uptime")
        clock = examine_clock(log, sensor, policy)
        repaired = repair_clock(clock, log, sensor, "/imu/data", policy)
        assert np.array_equal(repaired.used_ns, log - (expected_ns or clock.delay_ns))
    assert 0 < clock.delay_ns < 0.01 * SECOND
    assert repair_clock(clock, log, sensor, "/other", policy).name == "add_offset"


def test_a_repair_that_leaves_stamps_far_away_gives_way_to_log_time() -> None:
    repairs = POLICY.repairs | {"foreign": "remove_step"}
    policy = ClockPolicy.model_validate(POLICY.model_dump() | {"repairs": repairs})
    log, sensor = wrong("foreign")
    repaired = repair_clock(examine_clock(log, sensor, policy), log, sensor, "/x", policy)
    assert repaired.name == "log_time"
    assert "3599.995 s" in repaired.reason


def test_a_policy_answers_every_class(tmp_path: Path) -> None:
    (tmp_path / "clocks.yaml").write_text(
        yaml.safe_dump(POLICY.model_dump(mode="json") | {"repairs": {"healthy": "none"}}), "utf-8"
    )
    with pytest.raises(PolicyError, match="no repair for none, late"):
        ClockPolicy.load(tmp_path / "clocks.yaml")


def test_messages_without_stamps_get_log_time() -> None:
    log, sensor = stream(1)
    clock = found(log, sensor[:-1])
    assert clock.classification == "none"
    assert np.array_equal(repair_clock(clock, log, sensor[:-1], "/x", POLICY).used_ns, log)
