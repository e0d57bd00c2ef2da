"""Matching: the laws of nearest, hold and interpolation on any stamps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.sync.match import (
    hold,
    interpolate,
    interpolate_rotations,
    measured_phase,
    nearest,
    pair_offsets,
)

MS = 1_000_000
times = st.lists(st.integers(0, 60), min_size=0, max_size=25).map(lambda v: np.array(v, np.int64))
grids = st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True).map(
    lambda v: np.array(sorted(v), np.int64)
)
tolerances = st.integers(0, 12)
shifts = st.integers(-(10**18), 10**18)


@given(grids, times, tolerances, st.integers(-5, 5))
def test_nearest_is_the_brute_force_answer_and_a_tie_goes_to_the_earlier(
    ref: np.ndarray, stamps: np.ndarray, tolerance: int, phase: int
) -> None:
    found = nearest(ref, stamps, tolerance, phase)
    for r, sample in zip(ref, found.sample, strict=True):
        inside = sorted((abs(s - r - phase), s) for s in stamps if abs(s - r - phase) <= tolerance)
        assert (stamps[sample] == inside[0][1]) if inside else sample == -1


@given(grids, times, tolerances, st.booleans(), shifts)
def test_shifting_all_clocks_changes_nothing(
    ref: np.ndarray, stamps: np.ndarray, tolerance: int, one_to_one: bool, shift: int
) -> None:
    plain = nearest(ref, stamps, tolerance, one_to_one=one_to_one)
    moved = nearest(ref + shift, stamps + shift, tolerance, one_to_one=one_to_one)
    np.testing.assert_array_equal(plain.sample, moved.sample)
    np.testing.assert_array_equal(plain.delta_ns, moved.delta_ns)


@given(grids, times, tolerances, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(
    ref: np.ndarray, stamps: np.ndarray, tolerance: int, one_to_one: bool, random: object
) -> None:
    order = np.arange(len(stamps))
    random.shuffle(order)  # type: ignore[attr-defined]
    plain = nearest(ref, stamps, tolerance, one_to_one=one_to_one)
    mixed = nearest(ref, stamps[order], tolerance, one_to_one=one_to_one)
    np.testing.assert_array_equal(plain.delta_ns, mixed.delta_ns)
    np.testing.assert_array_equal(plain.sample >= 0, mixed.sample >= 0)


def _best(ref: np.ndarray, stamps: np.ndarray, tolerance: int) -> tuple[int, int]:
    """(matches, -distance) of the best monotone assignment, by trying all."""
    best = (0, 0)
    order = np.sort(stamps)
    for size in range(1, min(len(ref), len(order)) + 1):
        for rows in itertools.combinations(range(len(ref)), size):
            for picked in itertools.combinations(range(len(order)), size):
                gaps = [abs(int(order[j]) - int(ref[i])) for i, j in zip(rows, picked, strict=True)]
                if max(gaps) <= tolerance:
                    best = max(best, (size, -sum(gaps)))
    return best


small = st.lists(st.integers(0, 20), min_size=1, max_size=5)


@given(
    small.map(lambda v: np.array(sorted(set(v)), np.int64)),
    small.map(lambda v: np.array(v, np.int64)),
    tolerances,
)
def test_one_to_one_uses_no_sample_twice_keeps_order_and_is_the_best_there_is(
    ref: np.ndarray, stamps: np.ndarray, tolerance: int
) -> None:
    found = nearest(ref, stamps, tolerance, one_to_one=True)
    used = found.sample[found.sample >= 0]
    assert len(np.unique(used)) == len(used)
    assert np.all(np.diff(stamps[used]) >= 0)
    assert np.all(np.abs(found.delta_ns) <= tolerance)
    assert (len(used), -int(np.abs(found.delta_ns).sum())) == _best(ref, stamps, tolerance)


@given(grids, times, st.integers(0, 20))
def test_hold_never_looks_ahead_and_never_believes_old_values(
    ref: np.ndarray, stamps: np.ndarray, age: int
) -> None:
    found = hold(ref, stamps, age)
    for r, sample in zip(ref, found.sample, strict=True):
        usable = [s for s in stamps if 0 <= r - s <= age]
        assert (stamps[sample] == max(usable)) if usable else sample == -1


@given(grids, times, st.integers(1, 15))
def test_lines_stay_lines_and_gaps_and_ends_stay_empty(ref: np.ndarray, stamps: np.ndarray, gap: int) -> None:
    result = interpolate(ref, stamps, 3.0 * stamps - 7.0, gap)
    known = np.unique(stamps)
    for r, value in zip(ref, result, strict=True):
        below, above = known[known <= r], known[known >= r]
        inside = len(below) and len(above) and (above[0] - below[-1] <= gap)
        assert value == pytest.approx(3.0 * r - 7.0) if inside else np.isnan(value)


@given(grids, times, st.integers(1, 15), st.randoms(use_true_random=False))
def test_interpolation_does_not_care_about_order_even_with_repeated_stamps(
    ref: np.ndarray, stamps: np.ndarray, gap: int, random: object
) -> None:
    values = np.array([random.uniform(-1, 1) for _ in stamps])  # type: ignore[attr-defined]
    order = np.arange(len(stamps))
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(
        interpolate(ref, stamps, values, gap), interpolate(ref, stamps[order], values[order], gap)
    )


def test_angles_take_the_shorter_way_round() -> None:
    ref, stamps = np.array([5], np.int64), np.array([0, 10], np.int64)
    assert abs(abs(interpolate(ref, stamps, [3.1, -3.1], 20, 2 * np.pi)[0]) - np.pi) < 1e-9
    assert interpolate(ref, stamps, [179.0, -179.0], 20, 360.0)[0] == pytest.approx(-180.0)
    assert interpolate(ref, stamps, [3.1, -3.1], 20)[0] == pytest.approx(0.0)


def test_nan_samples_do_not_count() -> None:
    ref, stamps = np.array([10], np.int64), np.array([0, 10, 20], np.int64)
    assert interpolate(ref, stamps, [1.0, np.nan, 3.0], 20)[0] == pytest.approx(2.0)
    assert np.isnan(interpolate(ref, stamps, [1.0, np.nan, 3.0], 10)[0])


def test_rotations_turn_evenly_and_not_across_gaps() -> None:
    turn = [[0, 0, 0, 1.0], [0, 0, np.sin(np.pi / 4), np.cos(np.pi / 4)]]
    ref, stamps = np.array([5, 15], np.int64), np.array([0, 10], np.int64)
    found = interpolate_rotations(ref, stamps, turn, 10)
    np.testing.assert_allclose(found[0], [0, 0, np.sin(np.pi / 8), np.cos(np.pi / 8)])
    assert np.isnan(found[1]).all()
    assert np.isnan(interpolate_rotations(ref, stamps, turn, 9)).all()


@pytest.mark.parametrize("offset_ms", [0, 13, -13, 49, -49])
@pytest.mark.parametrize("rate_ratio", [1, 2])
def test_the_usual_offset_is_measured_for_equal_and_half_rates(offset_ms: int, rate_ratio: int) -> None:
    ref = np.arange(100, dtype=np.int64) * 100 * MS
    jitter = np.random.default_rng(3).integers(-2 * MS, 2 * MS, 100)
    stamps = (ref + offset_ms * MS + jitter)[::rate_ratio]
    assert abs(measured_phase(ref, stamps) - offset_ms * MS) < 1 * MS


def test_a_dropped_frame_shows_in_the_residuals_although_the_neighbours_match() -> None:
    ref = np.arange(50, dtype=np.int64) * 100 * MS
    stamps = np.delete(ref, [20])
    assert np.abs(pair_offsets(ref, stamps)).max() == 100 * MS


def test_ten_thirty_and_a_hundred_hertz_meet_on_the_slowest() -> None:
    ref = np.arange(100, dtype=np.int64) * 100 * MS
    camera = np.rint(np.arange(300) * (1e9 / 30)).astype(np.int64) + 7 * MS
    imu = np.arange(1000, dtype=np.int64) * 10 * MS
    frames = nearest(ref, camera, 30 * MS, measured_phase(ref, camera), one_to_one=True)
    np.testing.assert_array_equal(frames.sample, np.arange(100) * 3)
    np.testing.assert_allclose(interpolate(ref, imu, np.sin(imu / 1e9), 20 * MS), np.sin(ref / 1e9))
