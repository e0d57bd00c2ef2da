"""Positions that a vehicle cannot have been at are dropped and counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.catalog.positions import clean_positions, distance_m
from av_assets.policies.catalog import CatalogPolicy

POLICY = CatalogPolicy.load()
M_PER_DEG = 111_195.08  # of latitude on the mean sphere: 2 pi R / 360


def trace(n: int, mps: float = 15.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Straight to the north at 10 Hz."""
    ns = 1_748_851_200_000_000_000 + np.arange(n, dtype=np.int64) * 100_000_000
    return ns, 48.0 + np.arange(n) * mps / 10 / M_PER_DEG, np.full(n, 11.5)


def test_distance_of_a_published_pair() -> None:
    # Paris (48.8567, 2.3508) to London (51.5072, -0.1275) on the mean sphere: 343.5 km (Karney's geodesic: 343.9)
    found = distance_m(np.array([48.8567]), np.array([2.3508]), np.array([51.5072]), np.array([-0.1275]))
    assert found[0] == pytest.approx(343_500, rel=0.002)


def test_clean_trace_is_left_alone() -> None:
    ns, latitude, longitude = trace(100)
    found = clean_positions(ns, latitude, longitude, POLICY)
    assert (len(found), found.reason) == (100, "")


@given(st.sets(st.integers(0, 99), min_size=1, max_size=20), st.integers(0, 10_000))
def test_wild_fixes_are_dropped_wherever_they_are_and_no_other(wild: set[int], seed: int) -> None:
    ns, latitude, longitude = trace(100)
    rng, where = np.random.default_rng(seed), sorted(wild)
    latitude[where] += rng.uniform(0.5, 3, len(where)) * rng.choice([-1, 1], len(where))
    found = clean_positions(ns, latitude, longitude, POLICY)
    assert set(found.ns.tolist()) == set(np.delete(ns, where).tolist())
    assert found.reason.startswith(f"{len(where)} position")
    assert "GNSS jumps" in found.reason


def test_a_tunnel_is_no_jump() -> None:
    ns, latitude, longitude = trace(600)
    latitude[100:500] = np.nan
    found = clean_positions(ns, latitude, longitude, POLICY)
    assert (len(found), found.reason) == (200, "")


def test_a_while_in_another_country_is_dropped_as_a_whole() -> None:
    ns, latitude, longitude = trace(300)
    longitude[100:150] += 8
    found = clean_positions(ns, latitude, longitude, POLICY)
    assert len(found) == 250
    assert np.ptp(found.longitude_deg) == 0


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(0.0, 0.0), (0.005, -0.005), (91.0, 11.0), (48.0, 181.0)]
)
def test_null_island_and_off_the_earth_are_nowhere(latitude: float, longitude: float) -> None:
    ns, north, east = trace(10)
    north[3], east[3] = latitude, longitude
    found = clean_positions(ns, north, east, POLICY)
    assert len(found) == 9
    assert "1 position without a fix" in found.reason
    whole = clean_positions(ns, np.full(10, latitude), np.full(10, longitude), POLICY)
    assert (len(whole), whole.reason) == (0, "10 positions without a fix (off the earth or at 0, 0)")


def test_no_position_says_so() -> None:
    ns, latitude, _ = trace(5)
    for given_latitude in (None, np.full(5, np.nan)):
        assert clean_positions(ns, given_latitude, latitude, POLICY).reason == "no GNSS position"
    empty = np.empty(0)
    assert len(clean_positions(np.empty(0, np.int64), empty, empty, POLICY)) == 0


def test_across_the_antimeridian_longitudes_run_on() -> None:
    ns, latitude, longitude = trace(20, mps=0.0)
    longitude = 179.9999 + np.arange(20) * 2e-5
    longitude[longitude > 180] -= 360
    found = clean_positions(ns, latitude, longitude, POLICY)
    assert len(found) == 20
    assert (np.diff(found.longitude_deg) > 0).all()


def test_noise_all_over_is_bounded_in_time() -> None:
    rng = np.random.default_rng(1)
    ns = np.arange(36_000, dtype=np.int64) * 100_000_000
    found = clean_positions(ns, rng.uniform(-60, 60, 36_000), rng.uniform(-170, 170, 36_000), POLICY)
    assert 0 < len(found) < 2001
