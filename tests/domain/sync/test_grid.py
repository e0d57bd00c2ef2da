"""The reference grid: whose stamps it takes and how it is laid out without a sensor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.errors import SyncError
from av_assets.domain.sync.grid import fixed_grid, reference_grid, to_ns

START = 1_748_764_800_123_456_789
SOME = np.array([3, 1, 2, 2], np.int64) + START


def test_a_lidar_comes_before_a_camera_and_a_camera_before_the_clock() -> None:
    span = (START, START + 10**9)
    assert reference_grid({"lidar_top": SOME}, {"camera_front": SOME}, span, 10.0).role == "lidar_top"
    assert reference_grid({}, {"b": SOME, "a": SOME}, span, 10.0).role == "a"
    assert reference_grid({}, {"b": SOME, "a": SOME}, span, 10.0, prefer="b").role == "b"
    fixed = reference_grid({"lidar_top": np.empty(0, np.int64)}, {}, span, 10.0)
    assert (fixed.kind, fixed.role, len(fixed.ref_ns)) == ("fixed", None, 10)


def test_stamps_of_the_reference_are_sorted_and_unique() -> None:
    assert reference_grid({"l": SOME}, {}, (0, 1), 10.0).ref_ns.tolist() == [START + 1, START + 2, START + 3]


@given(st.sampled_from([7.0, 10.0, 30.0, 29.97]), st.integers(1, 10**10), st.integers(-(10**17), 10**17))
def test_a_fixed_grid_is_half_open_does_not_drift_and_moves_with_its_span(
    rate: float, length: int, shift: int
) -> None:
    grid = fixed_grid(START, START + length, rate)
    assert grid[0] == START
    assert grid[-1] < START + length
    assert grid[-1] + 1e9 / rate + 1 >= START + length
    assert np.all(np.abs((grid - START) - np.arange(len(grid)) * 1e9 / rate) <= 0.5 + 1e-3)
    np.testing.assert_array_equal(fixed_grid(START + shift, START + shift + length, rate), grid + shift)


def test_seconds_are_rounded_once_and_nanoseconds_not_at_all() -> None:
    assert to_ns([0.1, 0.2, 0.3]).tolist() == [100_000_000, 200_000_000, 300_000_000]
    assert to_ns(np.array([START])).tolist() == [START]


def test_nothing_at_all_is_an_error() -> None:
    with pytest.raises(SyncError) as caught:
        reference_grid({}, {}, (5, 5), 10.0)
    assert caught.value.code == "empty_span"
