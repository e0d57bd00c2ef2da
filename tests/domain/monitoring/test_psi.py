"""PSI on fixed bins: the published vectors, and what must never change it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.monitoring.psi import (
    bin_counts,
    fold_out_of_range,
    occupied_bins,
    psi,
    psi_limit,
    quantile_edges,
)

TENTHS = [0.1] * 10
SHIFTED = [0.05, *[0.1] * 8, 0.15]
values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


def test_psi_of_the_published_vector() -> None:
    assert float(psi(TENTHS, SHIFTED)) == pytest.approx(0.0549, abs=5e-5)


def test_size_limit_of_the_published_vector() -> None:
    assert psi_limit(500, 500, 10) == pytest.approx(0.068, abs=5e-4)


def test_equal_shares_give_zero_whatever_the_size() -> None:
    assert float(psi([1, 2, 3], [10, 20, 30])) == 0.0


def test_an_empty_bin_costs_the_floor_and_not_infinity() -> None:
    expected = (0.5 - 1e-4) * np.log(0.5 / 1e-4) + (1.0 - 0.5) * np.log(1.0 / 0.5)
    assert float(psi([1, 1], [0, 2])) == pytest.approx(expected)


def test_a_side_without_rows_gives_nan() -> None:
    assert np.isnan(psi([0, 0], [1, 1]))


@settings(deadline=None)
@given(values, st.randoms())
def test_order_of_rows_changes_nothing(data: list[float], random: object) -> None:
    edges = quantile_edges(data)
    shuffled = list(data)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert quantile_edges(shuffled) == edges
    assert bin_counts(shuffled, edges).tolist() == bin_counts(data, edges).tolist()


@settings(deadline=None)
@given(values, st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=100))
def test_every_value_is_in_exactly_one_bin(reference: list[float], current: list[float]) -> None:
    edges = quantile_edges(reference)
    assert bin_counts(current, edges).sum() == len(current)
    inside = bin_counts(reference, edges)
    assert inside[0] == inside[-1] == inside[-2] == 0


def test_values_out_of_range_and_missing_ones_have_bins_of_their_own() -> None:
    edges = quantile_edges(np.arange(100.0))
    counts = bin_counts([-1.0, 50.0, 1e9, float("inf"), float("nan")], edges)
    assert (counts[0], counts[-2], counts[-1]) == (1, 2, 1)


def test_a_constant_feature_notices_another_value() -> None:
    edges = quantile_edges([3.0, 3.0])
    assert bin_counts([2.0, 3.0, 4.0, 4.0], edges).tolist() == [1, 1, 2, 0]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=3, max_size=12),
    st.lists(st.integers(0, 50), min_size=12, max_size=12),
)
def test_psi_is_never_negative_and_symmetric(a: list[int], b: list[int]) -> None:
    b = b[: len(a)]
    if sum(a) and sum(b):
        assert float(psi(a, b)) >= 0
        assert float(psi(a, b)) == pytest.approx(float(psi(b, a)))


def test_without_drift_the_limit_is_passed_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    passed = 0
    for _ in range(400):
        reference, current = rng.normal(size=500), rng.normal(size=500)
        edges = quantile_edges(reference)
        a, b = (fold_out_of_range(bin_counts(x, edges)) for x in (reference, current))
        passed += float(psi(a, b)) > psi_limit(500, 500, occupied_bins(a, b))
    assert passed / 400 < 0.12


def test_counts_keep_zero_apart_from_one() -> None:
    edges = quantile_edges([0.0] * 90 + [1.0] * 10)
    assert bin_counts([0.0, 0.0, 1.0], edges).tolist() == [0, 2, 1, 0, 0]


def test_folding_keeps_every_row_and_can_drop_the_missing_ones() -> None:
    counts = np.array([[1, 10, 20, 30, 2, 5]])
    assert fold_out_of_range(counts).tolist() == [[11, 20, 32, 5]]
    assert fold_out_of_range(counts, missing=False).tolist() == [[11, 20, 32]]
    assert fold_out_of_range(np.array([1, 10, 2, 5])).tolist() == [1, 10, 2, 5]
