"""Detectors on hand-made signals: counts, levels, and the symmetries that they must keep."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.events.detectors import DriveSignals, detect_events, find_events
from av_assets.domain.events.driving import disengagements, harsh_brakes
from av_assets.domain.events.traffic import (
    EgoMotion,
    TrackRows,
    cut_ins,
    r157_ttc_limit_s,
    stationary_hazards,
)
from av_assets.domain.events.windows import smooth
from av_assets.policies.events import EventsPolicy

if TYPE_CHECKING:
    from pathlib import Path

POLICY = EventsPolicy.load()
S = 1_000_000_000


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


def test_smoothing_keeps_constants_and_symmetry() -> None:
    t = _times(50)
    np.testing.assert_allclose(smooth(t, np.full(len(t), 3.0), 2.5), 3.0)
    pulse = np.exp(-(((t - t[500]) / S) ** 2))
    np.testing.assert_allclose(smooth(t, pulse, 2.5)[400:601], smooth(t, pulse, 2.5)[600:399:-1], atol=1e-9)


def _engaged(t: np.ndarray) -> np.ndarray:
    return np.where((t >= 6 * S) & (t < 9 * S), 0.0, 1.0)


def test_a_disengagement_is_told_apart_by_the_drivers_foot() -> None:
    t = _times(10)
    foot = np.where((t >= 5.8 * S) & (t < 7 * S), 0.3, 0.0)
    steady = np.full(len(t), 0.2)
    for brake, who in ((foot, "driver"), (steady, "system"), (None, "system")):
        (found,) = disengagements(t, _engaged(t), brake, None, POLICY)
        assert found.evidence["initiator"] == who
        assert (found.start_ns, found.end_ns) == (6 * S, 9 * S)


def test_an_edge_inside_a_hole_or_before_the_start_is_no_disengagement() -> None:
    t = _times(10)
    holed = np.where((t >= 5 * S) & (t < 6 * S), np.nan, _engaged(t))
    assert disengagements(t, holed, None, None, POLICY) == []
    assert disengagements(t, np.zeros(len(t)), None, None, POLICY) == []


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


def test_the_limit_of_r157_has_its_published_values() -> None:
    assert [round(r157_ttc_limit_s(v / 3.6), 2) for v in (20, 40, 60)] == [0.81, 1.28, 1.74]


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
    assert set(reasons) == {"cut_in", "disengagement", "harsh_brake", "stationary_hazard"}


def test_speed_stands_in_for_a_missing_acceleration() -> None:
    t = _times(10)
    accel = _dip(t, 8.0, 2.0, 4.0)
    speed = 20.0 + np.concatenate([[0.0], np.cumsum((accel[1:] + accel[:-1]) / 2 * 0.1)])
    events, _ = find_events(DriveSignals(t, ["c"] * len(t), {"speed_mps": speed}, None), POLICY)
    assert [(event.kind, event.level) for event in events] == [("harsh_brake", 1)]


def test_events_of_clip_files_carry_clip_policy_and_evidence(tmp_path: Path) -> None:
    t = _times(10)
    accel = _dip(t, 8.0, 2.0, 4.0)
    for number in range(4):
        rows = slice(number * 50, number * 50 + 50)
        signals = pa.StructArray.from_arrays([pa.array(accel[rows])], names=["accel_mps2"])
        columns = {"clip_id": [f"d/{number:05d}"] * 50, "ref_ns": t[rows], "signals": signals}
        pq.write_table(pa.table(columns), tmp_path / f"{number:05d}.parquet")
    table = detect_events(sorted(tmp_path.iterdir(), reverse=True), POLICY)
    (row,) = table.to_pylist()
    assert (row["kind"], row["clip_id"], row["policy_digest"]) == ("harsh_brake", "d/00001", POLICY.digest)
    assert json.loads(row["evidence"])["min_accel_mps2"] < -3.0
    assert "cut_in" in json.loads(table.schema.metadata[b"reasons"])


def test_no_clips_give_an_empty_table() -> None:
    assert detect_events([], POLICY).num_rows == 0
