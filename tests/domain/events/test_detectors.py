"""Detectors on hand-made signals: counts, levels, and the symmetries that they must keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from av_assets.domain.events import traffic
from av_assets.domain.events.braking import Sources, harsh_brakes
from av_assets.domain.events.detectors import (
    KINDS,
    DriveSignals,
    find_events,
)
from av_assets.domain.events.paths import EgoMotion, TrackRows, path_tracks
from av_assets.domain.events.takeovers import Driver, disengagements
from av_assets.policies.events import EventsPolicy

if TYPE_CHECKING:
    from av_assets.domain.events.windows import Event

POLICY = EventsPolicy.load()
S = 1_000_000_000


def cut_ins(motion: EgoMotion, tracks: TrackRows, policy: EventsPolicy) -> list[Event]:
    return traffic.cut_ins(path_tracks(motion, tracks, policy), policy)


def stationary_hazards(motion: EgoMotion, tracks: TrackRows, policy: EventsPolicy) -> list[Event]:
    return traffic.stationary_hazards(path_tracks(motion, tracks, policy), policy)


def _times(rate_hz: float, seconds: float = 20.0) -> np.ndarray:
    return np.rint(np.arange(round(seconds * rate_hz)) * (S / rate_hz)).astype(np.int64)


def _dip(t: np.ndarray, start_s: float, length_s: float, depth: float) -> np.ndarray:
    """A braking with ramps of 0.2 s."""
    s = t / S
    return -depth * np.clip(np.minimum(s - start_s, start_s + length_s - s) / 0.2, 0.0, 1.0)


@pytest.mark.parametrize(("depth", "level"), [(2.5, 0), (3.6, 1), (5.6, 2), (7.2, 3)])
def test_the_level_of_a_braking_is_its_strength(depth: float, level: int) -> None:
    t = _times(10)
    found = harsh_brakes(t, _dip(t, 8.0, 2.0, depth), POLICY)
    assert [event.level for event in found] == ([level] if level else [])


@pytest.mark.parametrize("rate_hz", [10, 25, 50, 100])
@pytest.mark.parametrize("depth", [3.6, 5.6])
def test_the_sample_rate_does_not_matter(rate_hz: int, depth: float) -> None:
    fine, coarse = _times(100), _times(rate_hz)
    (expected,) = harsh_brakes(fine, _dip(fine, 8.03, 1.5, depth), POLICY)
    (found,) = harsh_brakes(coarse, _dip(coarse, 8.03, 1.5, depth), POLICY)
    assert found.level == expected.level
    assert abs(found.start_ns - expected.start_ns) <= S / rate_hz
    assert abs(found.end_ns - expected.end_ns) <= S / rate_hz


def test_short_spikes_noise_and_acceleration_are_no_braking() -> None:
    t = _times(50)
    rng = np.random.default_rng(5)
    assert harsh_brakes(t, _dip(t, 8.0, 0.3, 6.0), POLICY) == []
    assert harsh_brakes(t, rng.normal(0, 0.6, len(t)), POLICY) == []
    assert harsh_brakes(t, -_dip(t, 8.0, 2.0, 6.0), POLICY) == []
    noisy = _dip(t, 8.0, 2.0, 5.8) + rng.normal(0, 0.3, len(t))
    assert [event.level for event in harsh_brakes(t, noisy, POLICY)] == [2]


def test_brakings_close_together_are_one_and_a_hole_parts_them() -> None:
    t = _times(10)
    accel = _dip(t, 5.0, 1.2, 4.0) + _dip(t, 6.4, 1.2, 4.0)
    assert len(harsh_brakes(t, accel, POLICY)) == 1
    apart = _dip(t, 5.0, 1.2, 4.0) + _dip(t, 9.0, 1.2, 4.0)
    assert len(harsh_brakes(t, apart, POLICY)) == 2
    holed = np.where((t > 6 * S) & (t < 9 * S), np.nan, _dip(t, 4.0, 7.0, 4.0))
    assert len(harsh_brakes(t, holed, POLICY)) == 2


def _sources(t: np.ndarray, speed: float, imu: float, pressure_bar: float) -> Sources:
    accelerations = {"wheel_speed": _dip(t, 8.0, 2.0, speed), "imu": _dip(t, 8.0, 2.0, imu)}
    return Sources(accelerations, {"brake_pressure_bar": -_dip(t, 8.0, 2.0, pressure_bar)})


@pytest.mark.parametrize(
    ("speed", "imu", "pressure_bar", "disagreeing"),
    [
        (5.6, 5.2, 40.0, []),
        (5.6, 2.0, 40.0, ["imu"]),
        (5.6, 5.6, 0.0, ["brakes"]),
        (2.0, 9.0, 1.0, ["brakes", "imu", "wheel_speed"]),
    ],
)
def test_sources_that_disagree_are_named_and_change_nothing_else(
    speed: float, imu: float, pressure_bar: float, disagreeing: list[str]
) -> None:
    t = _times(10)
    (found,) = harsh_brakes(t, _dip(t, 8.0, 2.0, 5.6), POLICY, _sources(t, speed, imu, pressure_bar))
    assert found.level == 2
    assert found.evidence["disagreeing"] == disagreeing
    assert found.evidence["sources_agree"] is (not disagreeing)
    assert ("sources_disagree" in found.tags) is bool(disagreeing)
    said = found.evidence["sources"]
    assert said["imu_decel_mps2"] == pytest.approx(imu, abs=0.3)
    assert said["brake_pressure_bar"] == pytest.approx(pressure_bar, abs=0.1)


def test_a_source_that_is_alone_is_named_and_nothing_is_said_to_agree() -> None:
    t = _times(10)
    lone = Sources({"imu": _dip(t, 8.0, 2.0, 5.6), "vehicle": np.full(len(t), np.nan)}, {})
    (found,) = harsh_brakes(t, _dip(t, 8.0, 2.0, 5.6), POLICY, lone)
    assert found.evidence["lone_source"] == "imu"
    assert found.evidence["sources_agree"] is None
    assert found.evidence["sources"]["vehicle_decel_mps2"] is None
    assert found.tags == ("lone_source",)


def _engaged(t: np.ndarray) -> np.ndarray:
    return np.where((t >= 6 * S) & (t < 9 * S), 0.0, 1.0)


@pytest.mark.parametrize(
    ("driver", "cause", "level"),
    [
        ("foot", "brake", 1),
        ("steady", "system", 2),
        ("hands", "steering", 1),
        ("hands_right", "steering", 1),
        ("button", "button", 1),
        ("nothing", "unknown", 2),
        ("silent", "unknown", 2),
    ],
)
def test_a_disengagement_has_a_cause(driver: str, cause: str, level: int) -> None:
    t = _times(10)
    step = np.where((t >= 5.8 * S) & (t < 7 * S), 1.0, 0.0)
    drivers = {
        "foot": Driver(brake=0.3 * step, steering_rad=0.0 * step, button=0.0 * step),
        "steady": Driver(brake=np.full(len(t), 0.2)),
        "hands": Driver(brake=0.0 * step, steering_rad=0.1 * step),
        "hands_right": Driver(brake=0.0 * step, steering_rad=-0.1 * step),
        "button": Driver(brake=0.0 * step, steering_rad=0.0 * step, button=step),
        "nothing": Driver(),
        "silent": Driver(brake=np.full(len(t), np.nan)),
    }
    (found,) = disengagements(t, _engaged(t), drivers[driver], POLICY)
    assert (found.evidence["cause"], found.level) == (cause, level)
    who = "driver" if level == 1 else cause
    assert found.evidence["initiator"] == who
    assert (f"{who}_initiated" in found.tags) is (who != "unknown")
    assert (found.start_ns, found.end_ns) == (6 * S, 9 * S)


def test_an_edge_inside_a_hole_or_before_the_start_is_no_disengagement() -> None:
    t = _times(10)
    holed = np.where((t >= 5 * S) & (t < 6 * S), np.nan, _engaged(t))
    assert disengagements(t, holed, Driver(), POLICY) == []
    assert disengagements(t, np.zeros(len(t)), Driver(), POLICY) == []


def test_a_disengagement_ends_before_a_hole_in_the_recording() -> None:
    t = _times(10)
    kept = (t < 7 * S) | (t > 12 * S)
    (found,) = disengagements(t[kept], _engaged(t)[kept], Driver(), POLICY)
    assert found.end_ns == t[69]


def _cut_in(t: np.ndarray, side: float = 1.0, forward_mps: float = 10.0) -> TrackRows:
    """A vehicle 15 m ahead moves from 3.5 m beside to the middle between 5 and 7.5 s."""
    s = t / S
    y = side * 3.5 * (1 - np.clip((s - 5.0) / 2.5, 0.0, 1.0))
    still = np.zeros(len(t))
    return TrackRows(t, np.full(len(t), 7), np.full(len(t), 18.8), y, still - 10.0 + forward_mps, still)


def _ego(t: np.ndarray, yaw_rate: float = 0.0) -> EgoMotion:
    return EgoMotion(t, np.full(len(t), 10.0), np.full(len(t), yaw_rate))


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("rate_hz", [10, 50])
def test_a_cut_in_is_found_once_from_either_side(side: float, rate_hz: float) -> None:
    t = _times(rate_hz)
    (found,) = cut_ins(_ego(t), _cut_in(t, side), POLICY)
    assert found.evidence["side"] == ("left" if side > 0 else "right")
    assert abs(found.start_ns - 5.93 * S) <= S / rate_hz
    assert found.evidence["gap_m"] == pytest.approx(15.0)


def test_who_crosses_on_foot_stays_beside_or_drives_off_is_no_cut_in() -> None:
    t = _times(10)
    tracks = _cut_in(t)
    assert cut_ins(_ego(t), _cut_in(t, forward_mps=0.5), POLICY) == []
    assert cut_ins(_ego(t), tracks._replace(y_m=np.full(len(t), 3.5)), POLICY) == []
    assert cut_ins(_ego(t), tracks._replace(y_m=tracks.y_m[::-1]), POLICY) == []
    assert cut_ins(_ego(t), tracks._replace(x_m=np.full(len(t), 80.0)), POLICY) == []


def test_a_bend_brings_nobody_into_the_lane() -> None:
    """A neighbour 3.5 m to the left on a circle of 200 m, seen 30 m ahead."""
    t = _times(10)
    bend = 10.0 / 200.0
    still = np.zeros(len(t))
    across = 3.5 - 30.0**2 / 400.0
    tracks = TrackRows(t, np.full(len(t), 1), still + 30.0, still + across, still, still)
    entering = tracks._replace(y_m=np.where(t < 4 * S, 3.5, across))
    rates = np.where(t < 4 * S, 0.0, -bend)
    assert cut_ins(EgoMotion(t, np.full(len(t), 10.0), rates), entering, POLICY) == []


@pytest.mark.parametrize(("closing", "r157", "afgbv"), [(4.0, True, True), (12.0, False, False)])
def test_a_cut_in_is_judged_by_both_regulations(closing: float, r157: bool, afgbv: bool) -> None:
    """15 m ahead at entry and slower by `closing`: TTC 3.75 s or 1.25 s against 0.68/0.58 s and 1.35/1.25 s."""
    t = _times(10)
    tracks = _cut_in(t)
    s = t / S
    tracks = tracks._replace(x_m=18.8 - closing * (s - 6.3), vx_mps=np.full(len(t), -closing))
    (found,) = cut_ins(EgoMotion(t, np.full(len(t), 20.0), 0.0 * s), tracks, POLICY)
    assert found.evidence["ttc_at_entry_s"] == pytest.approx(15.0 / closing, abs=0.1)
    assert found.evidence["r157_ttc_limit_s"] == pytest.approx(closing / 12 + 0.35, abs=1e-3)
    assert found.evidence["afgbv_ttc_limit_s"] == pytest.approx(closing / 12 + 0.25, abs=1e-3)
    assert found.evidence["lateral_visible_s"] == pytest.approx(1.3, abs=0.21)
    assert (found.evidence["r157_avoidable"], found.evidence["afgbv_avoidable"]) == (r157, afgbv)
    assert {tag for tag in found.tags if tag.endswith("avoidable")} == (
        {"r157_avoidable", "afgbv_avoidable"} if r157 else set()
    )


def test_a_lateral_motion_that_is_too_short_is_not_avoidable_by_r157() -> None:
    t = _times(50)
    tracks = _cut_in(t)
    jump = 3.5 * (1 - np.clip((t / S - 5.0) / 0.6, 0.0, 1.0))
    (found,) = cut_ins(_ego(t), tracks._replace(y_m=jump), POLICY)
    assert found.evidence["lateral_visible_s"] < 0.72
    assert not found.evidence["r157_avoidable"]
    assert found.evidence["afgbv_avoidable"]


def test_without_a_turn_rate_for_a_while_nobody_is_in_the_path() -> None:
    t = _times(10)
    unknown = np.where((t > 4 * S) & (t < 15 * S), np.nan, 0.0)
    assert cut_ins(EgoMotion(t, np.full(len(t), 10.0), unknown), _cut_in(t), POLICY) == []


def test_one_track_twice_in_a_frame_counts_once() -> None:
    t = _times(10)
    tracks = _cut_in(t)
    doubled = TrackRows(*(np.concatenate([column, column]) for column in tracks))
    assert cut_ins(_ego(t), doubled, POLICY) == cut_ins(_ego(t), tracks, POLICY)


def _approach(t: np.ndarray, track_mps: float) -> tuple[EgoMotion, TrackRows]:
    """Ego closes at 10 m/s on something 80 m ahead, brakes at 4 m/s2 from 16 m before it."""
    s = t / S
    speed = np.clip(10.0 - 4.0 * np.maximum(s - 6.0, 0), 0.0, None)
    way = np.concatenate([[0.0], np.cumsum(np.diff(s) * (speed[1:] + speed[:-1]) / 2)])
    x = 80.0 + track_mps * s - way
    still = np.zeros(len(t))
    return EgoMotion(t, speed, still), TrackRows(t, np.full(len(t), 3), x, still, track_mps - speed, still)


def test_something_that_stands_in_the_path_is_a_hazard_once() -> None:
    t = _times(10)
    (found,) = stationary_hazards(*_approach(t, 0.0), POLICY)
    assert found.peak >= 3.0
    assert 5 * S < found.start_ns < 7 * S


def test_what_moves_or_stands_beside_is_no_hazard() -> None:
    t = _times(10)
    assert stationary_hazards(*_approach(t, 1.5), POLICY) == []
    motion, tracks = _approach(t, 0.0)
    assert stationary_hazards(motion, tracks._replace(y_m=np.full(len(t), 3.0)), POLICY) == []


def test_missing_signals_give_no_events_and_a_reason_each() -> None:
    events, reasons = find_events(DriveSignals(_times(10), ["c"] * 200, {}, None), POLICY)
    assert events == []
    assert set(reasons) == set(KINDS)


def test_speed_stands_in_for_a_missing_acceleration() -> None:
    t = _times(10)
    accel = _dip(t, 8.0, 2.0, 4.0)
    speed = 20.0 + np.concatenate([[0.0], np.cumsum((accel[1:] + accel[:-1]) / 2 * 0.1)])
    events, _ = find_events(DriveSignals(t, ["c"] * len(t), {"speed_mps": speed}, None), POLICY)
    assert [(event.kind, event.level) for event in events] == [("harsh_brake", 1)]


def test_reversed_in_time_a_braking_is_none() -> None:
    t = _times(10)
    accel = _dip(t, 8.0, 2.0, 6.0)
    speed = 20.0 + np.concatenate([[0.0], np.cumsum((accel[1:] + accel[:-1]) / 2 * 0.1)])
    for played, count in ((speed, 1), (speed[::-1].copy(), 0)):
        events, _ = find_events(DriveSignals(t, ["c"] * len(t), {"speed_mps": played}, None), POLICY)
        assert len(events) == count


def test_without_a_turn_rate_events_say_that_the_path_is_taken_as_straight() -> None:
    t = _times(10)
    signals = {"speed_mps": np.full(len(t), 10.0)}
    events, reasons = find_events(DriveSignals(t, ["c"] * len(t), signals, _cut_in(t)), POLICY)
    assert {event.kind for event in events} == {"cut_in", "rss_violation"}
    assert all("straight_path_assumed" in event.tags for event in events)
    assert reasons["turn"] == "no yaw_rate_radps"
    signals["yaw_rate_radps"] = np.zeros(len(t))
    told, _ = find_events(DriveSignals(t, ["c"] * len(t), signals, _cut_in(t)), POLICY)
    assert not any("straight_path_assumed" in event.tags for event in told)
