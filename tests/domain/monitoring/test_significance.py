"""Permutation of drives and correction over features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.monitoring.significance import benjamini_hochberg, drive_permutation_p, smallest_p


def test_benjamini_hochberg_of_a_known_example() -> None:
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=20))
def test_adjusted_values_are_not_smaller_and_keep_order(p: list[float]) -> None:
    adjusted = benjamini_hochberg(p)
    assert all(a >= b - 1e-12 for a, b in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert all(np.diff(np.array(adjusted)[order]) >= -1e-12)


def test_few_drives_are_permuted_exactly() -> None:
    reference = np.array([[10, 0], [10, 0], [10, 0]])
    current = np.array([[0, 10], [0, 10]])
    p = drive_permutation_p(reference, current, 1000, np.random.default_rng(0))
    assert p == pytest.approx(1 / 10) == smallest_p(3, 2, 1000)


def test_drawn_permutations_keep_the_observed_one() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(5, 50, (24, 12))
    p = drive_permutation_p(counts[:14], counts[14:], 200, np.random.default_rng(0))
    assert p >= 1 / 201


def test_p_is_uniform_when_drives_are_exchangeable() -> None:
    rng = np.random.default_rng(2)
    small = [
        drive_permutation_p(counts[:6], counts[6:], 500, np.random.default_rng(0)) <= 0.1
        for counts in rng.dirichlet(np.ones(6), (200, 10)) * 100
    ]
    assert np.mean(small) <= 0.16
