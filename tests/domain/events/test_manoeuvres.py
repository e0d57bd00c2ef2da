"""Turns, hard cornering and lane changes on motions that are laid out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.events.manoeuvres import hard_cornerings, heading, lane_changes, turns
from av_assets.policies.events import EventsPolicy

if TYPE_CHECKING:
    from av_assets.domain.events.manoeuvres import Heading
    from av_assets.domain.events.windows import Event

POLICY = EventsPolicy.load()
S = 1_000_000_000
OTHER = {"left": "right", "right": "left"}


def _times(rate_hz: float, seconds: float = 30.0) -> np.ndarray:
    return np.rint(np.arange(round(seconds * rate_hz)) * (S / rate_hz)).astype(np.int64)


def _bump(t: np.ndarray, start_s: float, length_s: float) -> np.ndarray:
    """0 to 1 and back to 0 with ramps of half a second."""
    s = t / S
    return np.clip(np.minimum(s - start_s, start_s + length_s - s) / 0.5, 0.0, 1.0)


def _motion(t: np.ndarray, speed: np.ndarray | float, rate: np.ndarray) -> Heading:
    return heading(t, np.broadcast_to(np.asarray(speed, np.float64), len(t)).copy(), rate, POLICY)


def _lane_change(t: np.ndarray, speed: float, offset: float = 3.5, length_s: float = 4.0) -> np.ndarray:
    """Turn rate of y(t) = D (u - sin(2 pi u) / 2 pi), from 10 s on."""
    u = np.clip((t / S - 10.0) / length_s, 0.0, 1.0)
    across_mps2 = offset * 2 * np.pi / length_s**2 * np.sin(2 * np.pi * u)
    across_mps = offset / length_s * (1 - np.cos(2 * np.pi * u)) * (u > 0) * (u < 1)
    return across_mps2 / np.sqrt(speed**2 - across_mps**2)


def _all(motion: Heading) -> list[Event]:
    return [*turns(motion, POLICY), *hard_cornerings(motion, POLICY), *lane_changes(motion, POLICY)]


@pytest.mark.parametrize(("degrees", "level"), [(30, 0), (43, 0), (50, 1), (90, 1), (130, 1), (180, 2)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_level_of_a_turn_is_its_angle(degrees: float, level: int, sign: float) -> None:
    t = _times(10)
    rate = sign * np.deg2rad(degrees) / 4.5 * _bump(t, 10.0, 5.0)
    found = turns(_motion(t, 5.0, rate), POLICY)
    assert [event.level for event in found] == ([level] if level else [])
    for event in found:
        assert event.peak == pytest.approx(np.deg2rad(degrees), abs=0.05)
        assert event.tags[0] == ("left" if sign > 0 else "right")
        assert ("u_turn" in event.tags) is (level == 2)


def test_wide_bends_and_turning_on_the_spot_are_no_turns() -> None:
    t = _times(10)
    rate = 0.35 * _bump(t, 10.0, 5.0)
    assert len(turns(_motion(t, 5.0, rate), POLICY)) == 1
    assert turns(_motion(t, 25.0, rate), POLICY) == []
    assert turns(_motion(t, 0.2, rate), POLICY) == []
    assert turns(_motion(t, 3.0, 0.11 * _bump(t, 2.0, 25.0)), POLICY) == []


@pytest.mark.parametrize(("lateral", "level"), [(2.5, 0), (3.6, 1), (5.1, 2), (7.0, 3)])
def test_the_level_of_hard_cornering_is_its_lateral_acceleration(lateral: float, level: int) -> None:
    t = _times(10)
    found = hard_cornerings(_motion(t, 15.0, lateral / 15.0 * _bump(t, 10.0, 3.0)), POLICY)
    assert [event.level for event in found] == ([level] if level else [])
    for event in found:
        assert event.peak == pytest.approx(lateral, rel=0.02)


@pytest.mark.parametrize("speed", [8.0, 15.0, 30.0])
@pytest.mark.parametrize("length_s", [3.0, 4.0, 6.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_lane_change_is_found_with_its_offset(speed: float, length_s: float, sign: float) -> None:
    t = _times(10)
    (found,) = lane_changes(_motion(t, speed, sign * _lane_change(t, speed, 3.5, length_s)), POLICY)
    assert found.peak == pytest.approx(3.5, abs=0.35)
    assert found.tags == ("left" if sign > 0 else "right",)
    assert abs(found.start_ns / S - 10.0) < 0.6
    assert abs(found.end_ns / S - 10.0 - length_s) < 0.6


def test_what_is_not_one_lane_or_does_not_return_is_no_lane_change() -> None:
    t = _times(10)
    for offset in (0.5, 1.5, 6.0):
        assert lane_changes(_motion(t, 15.0, _lane_change(t, 15.0, offset)), POLICY) == []
    bend = 0.05 * _bump(t, 8.0, 10.0)
    assert lane_changes(_motion(t, 15.0, bend), POLICY) == []
    out_only = np.where(t < 12 * S, _lane_change(t, 15.0), 0.0)
    assert lane_changes(_motion(t, 15.0, out_only), POLICY) == []
    assert lane_changes(_motion(t, 2.0, _lane_change(t, 2.0) * 0.5), POLICY) == []


def test_out_and_back_are_two_lane_changes() -> None:
    t = _times(10, 40.0)
    there = _lane_change(t, 15.0)
    back = -np.roll(there, 120)
    found = lane_changes(_motion(t, 15.0, there + back), POLICY)
    assert [event.tags[0] for event in found] == ["left", "right"]


def test_a_vehicle_that_tells_its_lane_is_believed() -> None:
    t = _times(10)
    lane = np.where(t < 12 * S, 1.0, 2.0)
    lane[(t > 15 * S) & (t < 17 * S)] = np.nan
    lane[t > 20 * S] = 3.0
    motion = _motion(t, 15.0, _lane_change(t, 15.0))
    found = lane_changes(motion, POLICY, lane)
    assert [(e.evidence["from_lane"], e.evidence["to_lane"]) for e in found] == [(1.0, 2.0), (2.0, 3.0)]
    assert found[0].end_ns == 12 * S
    holed = np.where((t > 11 * S) & (t < 13 * S), np.nan, np.where(t < 12 * S, 1.0, 2.0))
    assert lane_changes(motion, POLICY, holed) == []


@pytest.mark.parametrize("rate_hz", [10, 25, 50])
def test_manoeuvres_do_not_depend_on_the_sample_rate(rate_hz: int) -> None:
    def found(hz: float) -> list[Event]:
        t = _times(hz)
        rate = 0.45 * _bump(t, 3.03, 3.5) + _lane_change(t, 12.0) - 0.4 * _bump(t, 20.01, 4.0)
        return _all(_motion(t, 12.0, rate))

    fine, coarse = found(100), found(rate_hz)
    assert [(e.kind, e.level, e.tags) for e in fine] == [(e.kind, e.level, e.tags) for e in coarse]
    assert {e.kind for e in fine} == {"turn", "hard_cornering", "lane_change"}
    for one, other in zip(fine, coarse, strict=True):
        assert abs(one.start_ns - other.start_ns) <= S / rate_hz + S / 100
        assert abs(one.end_ns - other.end_ns) <= S / rate_hz + S / 100


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(2.0, 30.0))
def test_left_and_right_are_mirrors(seed: int, speed: float) -> None:
    rng = np.random.default_rng(seed)
    t = _times(10, 60.0)
    rate = np.convolve(rng.normal(0, 1.0, len(t)), np.hanning(40) / 20, mode="same")
    one, other = _all(_motion(t, speed, rate)), _all(_motion(t, speed, -rate))

    def key(event: Event) -> tuple[str, int, int, int]:
        return event.kind, event.level, event.start_ns, event.end_ns

    assert sorted(map(key, one)) == sorted(map(key, other))
    sides = {key(event): event.tags for event in one}
    for event in other:
        assert sides[key(event)] == tuple(OTHER.get(tag, tag) for tag in event.tags)


def test_noise_and_holes_invent_nothing() -> None:
    t = _times(10, 120.0)
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.01, len(t))
    assert _all(_motion(t, 15.0, noise)) == []
    spikes = noise.copy()
    spikes[::97] += 2.0
    assert turns(_motion(t, 5.0, spikes), POLICY) == []
    rate = 0.35 * _bump(t, 10.0, 5.0)
    rate[(t > 11 * S) & (t < 14 * S)] = np.nan
    assert turns(_motion(t, 5.0, rate), POLICY) == []
    change = _lane_change(t, 15.0)
    change[(t > 11.5 * S) & (t < 12.5 * S)] = np.nan
    assert lane_changes(_motion(t, 15.0, change), POLICY) == []
    silent = _motion(t, np.full(len(t), np.nan), rate)
    assert _all(silent) == []


def test_no_samples_give_no_manoeuvres() -> None:
    empty = np.empty(0)
    assert _all(heading(np.empty(0, np.int64), empty, empty, POLICY)) == []
