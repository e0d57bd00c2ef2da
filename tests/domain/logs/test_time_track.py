"""Folded in any pieces, times give the same numbers; long topics keep what matters in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.logs.integrity.time_track import CHUNK_MESSAGES, MAX_THINNED, TimeTrack

PERIOD_NS = 1_000_000
times_of = st.lists(
    st.tuples(st.integers(0, 50), st.integers(-20, 20)), min_size=1, max_size=60
)  # step, change of the sensor's delay


def folded(log: np.ndarray, sensor: np.ndarray | None, cuts: list[int]) -> TimeTrack:
    track = TimeTrack(int(log[0]), int(log[-1]), 10, 0.5)
    for first, last in zip([0, *cuts], [*cuts, len(log)], strict=True):
        track.fold(log[first:last], None if sensor is None else sensor[first:last])
    return track


@given(times_of, st.data())
def test_pieces_do_not_matter(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    log = np.cumsum([step for step, _ in steps]).astype(np.int64) * PERIOD_NS
    sensor = log - np.cumsum([change for _, change in steps]).astype(np.int64) * PERIOD_NS
    cuts = sorted(data.draw(st.sets(st.integers(0, len(log)), max_size=5)))
    track = folded(log, sensor, cuts)
    assert (track.count, track.first_ns, track.last_ns) == (len(log), log[0], log[-1])
    assert track.back == int((np.diff(sensor) < 0).sum())
    assert track.same == int((np.diff(sensor) == 0).sum())
    assert track.bins.sum() == len(log)
    assert track.longest_ns == np.diff(log).max(initial=0)
    assert np.array_equal(track.log_ns, log)
    assert np.array_equal(track.sensor_ns, sensor)
    if len(log) > 1:
        assert track.step_ns == np.median(np.diff(log))
        assert log[log == track.longest_at_ns].size or track.longest_ns == 0


def test_without_stamps_there_is_no_sensor_time() -> None:
    log = np.arange(10, dtype=np.int64)
    track = folded(log, None, [4])
    assert not track.stamped
    assert track.sensor_ns.size == 0
    mixed = TimeTrack(0, 10, 10, 0.5)
    mixed.fold(log[:5], log[:5])
    mixed.fold(log[5:], None)
    assert not mixed.stamped


@pytest.fixture(scope="module")
def long_track() -> TimeTrack:
    """Two million messages in bursts of four, with one jump of the clock and one pause."""
    count = 2_000_000
    log = np.arange(count, dtype=np.int64) // 4 * 4 * PERIOD_NS
    log[1_234_568:] += 777 * PERIOD_NS
    sensor = log.copy()
    sensor[1_000_001:] += 5_000_000_000
    track = TimeTrack(int(log[0]), int(log[-1]), 100, 0.5)
    for first in range(0, count, CHUNK_MESSAGES):
        track.fold(log[first : first + CHUNK_MESSAGES], sensor[first : first + CHUNK_MESSAGES])
    return track


def test_a_long_topic_is_thinned(long_track: TimeTrack) -> None:
    assert not long_track.exact
    assert MAX_THINNED / 4 < len(long_track.log_ns) <= MAX_THINNED
    assert len(long_track.log_ns) == len(long_track.sensor_ns)
    assert (np.diff(long_track.log_ns) >= 0).all()
    assert long_track.log_ns[-1] == long_track.last_ns


def test_both_sides_of_the_jump_are_kept(long_track: TimeTrack) -> None:
    offset = long_track.log_ns - long_track.sensor_ns
    (at,) = np.flatnonzero(np.diff(offset))
    assert (long_track.log_ns[at], long_track.log_ns[at + 1]) == (
        1_000_000 * PERIOD_NS,
        1_000_000 * PERIOD_NS,
    )


def test_bursts_and_the_pause_are_seen_in_the_thinned_topic(long_track: TimeTrack) -> None:
    assert long_track.step_ns == 0
    assert long_track.in_bursts
    assert long_track.longest_ns == 781 * PERIOD_NS
    (hole,) = long_track.holes(100 * PERIOD_NS)
    assert hole[1] - hole[0] == 781 * PERIOD_NS


def test_a_sagging_rate_is_seen_across_pieces() -> None:
    steps = np.full(4000, 10 * PERIOD_NS, dtype=np.int64)
    steps[2000:2100] = 20 * PERIOD_NS
    log = np.cumsum(steps)
    for cuts in ([], [2050], [2000, 2100], list(range(100, 4000, 100))):
        assert folded(log, log, cuts).slowest_ns == pytest.approx(20 * PERIOD_NS, rel=0.01)
