"""What all detectors share: smoothing against its definition, windows, bounded samples, published formulas."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_assets.domain.events import criticality
from av_assets.domain.events.windows import MAX_SAMPLES, Window, hysteresis, merge, runs, samples, smooth

S = 1_000_000_000
VALUES = hnp.arrays(np.float64, st.integers(0, 60), elements=st.floats(-50, 50) | st.just(float("nan")))


def _slow_smooth(times: np.ndarray, values: np.ndarray, cutoff_hz: float, median_s: float) -> np.ndarray:
    """Sample by sample, straight from the definition."""
    sigma = np.sqrt(np.log(2.0)) / (2 * np.pi * cutoff_hz) * S
    known = np.flatnonzero(np.isfinite(values))
    half = round(median_s * S / 2)
    clean = {i: np.median(values[[j for j in known if abs(times[j] - times[i]) <= half]]) for i in known}
    result = np.full(len(values), np.nan)
    for i in known:
        near = [j for j in known if abs(times[j] - times[i]) <= round(4.0 * sigma)]
        weights = np.exp(-0.5 * ((times[near] - times[i]) / sigma) ** 2)
        result[i] = weights @ [clean[j] for j in near] / weights.sum()
    return result


@given(VALUES, st.integers(1, 300), st.sampled_from([0.0, 0.1, 0.35]), st.integers(0, 1000))
def test_smoothing_is_its_definition(values: np.ndarray, step_ms: int, median_s: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, step_ms * 1_000_000 + 2, len(values))).astype(np.int64)
    expected = _slow_smooth(times, values, 2.5, median_s)
    np.testing.assert_allclose(smooth(times, values, 2.5, median_s), expected, atol=1e-9)


@pytest.mark.parametrize("frequency_hz", [1.0, 2.5, 4.0])
def test_smoothing_has_its_frequency_response_and_no_phase(frequency_hz: float) -> None:
    times = np.arange(0, 20 * S, S // 200)
    wave = np.sin(2 * np.pi * frequency_hz * times / S)
    gain = 2.0 ** (-0.5 * (frequency_hz / 2.5) ** 2)
    inner = slice(500, -500)
    np.testing.assert_allclose(smooth(times, wave, 2.5)[inner], gain * wave[inner], atol=2e-3)


def test_smoothing_is_indifferent_to_its_blocks() -> None:
    """More samples than one block holds, and a burst so dense that a block has one row only."""
    rng = np.random.default_rng(4)
    times = np.sort(rng.choice(20 * S, 20_000, replace=False)).astype(np.int64)
    values = rng.normal(size=len(times))
    whole = smooth(times, values, 2.5)
    part = slice(9_000, 11_000)
    inner = slice(400, -400)
    np.testing.assert_allclose(whole[part][inner], smooth(times[part], values[part], 2.5)[inner], atol=1e-9)
    burst = np.arange(3000, dtype=np.int64)
    np.testing.assert_allclose(smooth(burst, np.full(3000, 2.0), 2.5, 0.1), 2.0)


def test_smoothing_an_hour_at_100_hz_takes_seconds() -> None:
    times = np.arange(360_000) * (S // 100)
    values = np.random.default_rng(0).normal(size=len(times))
    started = time.perf_counter()
    smooth(times, values, 2.5, 0.1)
    assert time.perf_counter() - started < 10.0


@given(VALUES, st.floats(0.5, 20), st.floats(0.1, 1.0), st.integers(0, 100))
def test_windows_hold_their_promises(values: np.ndarray, enter: float, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, S, len(values))).astype(np.int64)
    windows = hysteresis(times, values, enter, enter * share, 0.5)
    covered = np.zeros(len(values), np.bool_)
    for window in windows:
        part = values[window.first : window.last + 1]
        assert part.max() >= enter
        assert part.min() >= enter * share
        assert (np.diff(times[window.first : window.last + 1]) <= 0.5 * S).all()
        covered[window.first : window.last + 1] = True
    assert not (values[~covered] >= enter).any()
    merged = merge(times, windows, 0.5)
    assert all(times[b.first] - times[a.last] >= 0.5 * S for a, b in itertools.pairwise(merged))
    assert {w.first for w in merged} <= {w.first for w in windows}
    assert runs(times, np.zeros(len(values), np.bool_), 0.5) == []


@given(st.integers(1, 300), st.data())
def test_samples_are_few_and_hold_the_peak(count: int, data: st.DataObject) -> None:
    times = np.arange(count, dtype=np.int64)
    values = np.arange(count) * 1.0
    first = data.draw(st.integers(0, count - 1))
    window = Window(first, data.draw(st.integers(first, count - 1)))
    at = data.draw(st.integers(window.first, window.last))
    found = samples(times, values, window, at)
    assert len(found) <= MAX_SAMPLES
    stamps = [stamp for stamp, _ in found]
    assert {window.first, at, window.last} <= set(stamps)
    assert stamps == sorted(set(stamps))
    assert all(stamp == value for stamp, value in found)


@pytest.mark.parametrize(
    ("kmh", "r157", "seated", "standing"),
    [(20, 0.81, 0.71, 1.32), (40, 1.28, 1.18, 2.48), (60, 1.74, 1.64, 3.63)],
)
def test_limits_of_cut_ins_have_their_published_values(
    kmh: float, r157: float, seated: float, standing: float
) -> None:
    closing = kmh / 3.6
    # The table of the KBA rounds 2.4748 s up.
    assert criticality.r157_ttc_limit_s(closing) == pytest.approx(r157, abs=6e-3)
    assert criticality.afgbv_ttc_limit_s(closing, 6.0, 0.3) == pytest.approx(seated, abs=6e-3)
    assert criticality.afgbv_ttc_limit_s(closing, 2.4, 0.12) == pytest.approx(standing, abs=6e-3)


def test_the_safe_distance_has_its_published_value() -> None:
    assert float(criticality.rss_gap_m(20.0, 20.0, 1.0, 3.5, 4.0, 8.0)) == pytest.approx(65.78, abs=5e-3)


@given(st.floats(0, 40), st.floats(0, 40), st.floats(0, 5))
def test_the_safe_distance_is_enough_and_grows_with_speed(rear: float, front: float, more: float) -> None:
    """Two vehicles moved step by step: front brakes hardest, rear reacts late and brakes least."""
    gap = float(criticality.rss_gap_m(rear, front))
    assert gap >= 0.0
    assert float(criticality.rss_gap_m(rear + more, front)) >= gap
    assert float(criticality.rss_gap_m(rear, front + more)) <= gap
    t = np.linspace(0.0, 25.0, 5001)
    front_way = np.where(t < front / 8, front * t - 4 * t**2, front**2 / 16)
    top, late = rear + 3.5, np.maximum(t - 1.0, 0.0)
    braked = np.where(late < top / 4, top * late - 2 * late**2, top**2 / 8)
    rear_way = np.where(t < 1.0, rear * t + 1.75 * t**2, rear + 1.75 + braked)
    # The end of both is what the formula looks at.
    assert gap + front_way[-1] - rear_way[-1] >= -1e-6


def test_time_to_collision_is_infinite_where_nothing_closes_and_unknown_where_unknown() -> None:
    gap, closing = np.array([10.0, 10.0, 10.0, np.nan, 5.0]), np.array([5.0, 0.0, -3.0, 1.0, np.nan])
    np.testing.assert_array_equal(criticality.ttc_s(gap, closing), [2.0, np.inf, np.inf, np.nan, np.nan])
