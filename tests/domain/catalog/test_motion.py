"""Distance over real time, stops, braking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.catalog.motion import max_deceleration_mps2, speed_profile
from av_assets.policies.catalog import CatalogPolicy

POLICY = CatalogPolicy.load()


def times(n: int, hz: float = 10.0) -> np.ndarray:
    return 10**18 + (np.arange(n) * 1e9 / hz).astype(np.int64)


@given(st.lists(st.floats(0, 40), min_size=2, max_size=200))
def test_distance_is_the_trapezoid_integral(speeds: list[float]) -> None:
    ns, speed = times(len(speeds)), np.array(speeds)
    found = speed_profile(ns, speed, POLICY)["distance_m"]
    assert found == pytest.approx(np.trapezoid(speed, (ns - ns[0]) / 1e9), abs=1e-6)


def test_distance_does_not_depend_on_the_rate() -> None:
    slow, fast = times(101, 10.0), times(501, 50.0)
    found = [speed_profile(t, 10 + 5 * np.sin((t - t[0]) / 3e9), POLICY)["distance_m"] for t in (slow, fast)]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_unevenly_known_speed_is_weighted_by_time() -> None:
    ns = 10**18 + np.array([0, 1, 2, 3, 13], np.int64) * 100_000_000
    found = speed_profile(ns, np.array([10.0, 10.0, 10.0, 10.0, 20.0]), POLICY)
    assert found["distance_m"] == pytest.approx(3.0 + 15.0)  # the last second rises from 10 to 20
    assert found["mean_speed_mps"] == 12.0


def test_a_long_gap_counts_for_nothing_and_a_short_one_is_interpolated() -> None:
    ns, speed = times(300), np.full(300, 10.0)
    speed[100:200] = np.nan
    assert speed_profile(ns, speed, POLICY)["distance_m"] == pytest.approx(198.0)
    short = np.full(300, 10.0)
    short[100:105] = np.nan
    assert speed_profile(ns, short, POLICY)["distance_m"] == pytest.approx(299.0)


def test_stops_and_standing() -> None:
    speed = np.concatenate([np.zeros(50), np.full(50, 5.0), np.zeros(30), np.full(10, 5.0), np.zeros(10)])
    found = speed_profile(times(len(speed)), speed, POLICY)
    assert found["stops"] == 1  # it stood at first without having moved, and at the end for less than 2 s
    assert found["standing_share"] == pytest.approx(90 / 150)
    assert (found["p50_speed_mps"], found["p95_speed_mps"]) == (0.0, 5.0)


def test_a_stop_in_reverse_gear_and_creeping_noise() -> None:
    rng = np.random.default_rng(1)
    speed = np.concatenate([np.full(30, -2.0), rng.uniform(-0.2, 0.2, 40), np.full(30, 2.0)])
    found = speed_profile(times(100), speed, POLICY)
    assert found["stops"] == 1
    assert found["distance_m"] == pytest.approx(12.4, abs=0.5)


@pytest.mark.parametrize("speed", [None, np.full(5, np.nan), np.empty(0)])
def test_unknown_speed_is_null_everywhere(speed: np.ndarray | None) -> None:
    ns = times(0 if speed is not None and not len(speed) else 5)
    assert set(speed_profile(ns, speed, POLICY).values()) == {None}
    assert max_deceleration_mps2(ns, None, speed, POLICY) is None


def test_braking_is_taken_from_acceleration_without_its_spikes() -> None:
    accel = np.full(50, -1.0)
    accel[20] = -30.0
    accel[30:34] = -6.0
    assert max_deceleration_mps2(times(50), accel, None, POLICY) == 6.0
    assert max_deceleration_mps2(times(50), np.full(50, 2.0), None, POLICY) == 0.0


def test_braking_from_speed_where_no_acceleration_is_recorded() -> None:
    ns = times(50)
    speed = np.maximum(20 - 4 * (ns - ns[0]) / 1e9, 0)
    assert max_deceleration_mps2(ns, np.full(50, np.nan), speed, POLICY) == pytest.approx(4.0)
    speed[10:40] = np.nan
    assert max_deceleration_mps2(ns, None, speed, POLICY) == pytest.approx(4.0)
