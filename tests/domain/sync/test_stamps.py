"""A repaired clock applied to parts of a topic gives what the repair of the whole topic gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from av_assets.domain.logs.clocks.forensics import examine_clock, repair_clock
from av_assets.domain.sync.stamps import judge_clock
from av_assets.policies.clocks import ClockPolicy

POLICY = ClockPolicy.load()
S = 1_000_000_000
LOG = 1_748_764_800 * S + np.arange(600, dtype=np.int64) * S // 10
JITTER = np.random.default_rng(1).integers(0, 2_000_000, len(LOG))
SENSOR = LOG - 5_000_000 - JITTER
CLOCKS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "healthy": ("none", lambda t: t),
    "uptime": ("add_offset", lambda t: t - 1_748_764_000 * S),
    "gps_leap": ("gps_to_utc", lambda t: t + 18 * S),
    "drift": ("remove_drift", lambda t: t + ((t - t[0]) * 2e-3).astype(np.int64)),
    "step": ("remove_step", lambda t: t + np.where(np.arange(len(t)) >= 300, S // 2, 0)),
    "swapped": ("swap_sec_nsec", lambda t: t % S * S + t // S),
    "zero": ("log_time", lambda t: t * 0),
}


@pytest.mark.parametrize("classification", sorted(CLOCKS))
def test_a_clock_works_stamp_by_stamp(classification: str) -> None:
    name, spoil = CLOCKS[classification]
    sensor_ns = spoil(SENSOR)
    clock = judge_clock("/a", sensor_ns, LOG, POLICY)
    assert (clock.classification, clock.name) == (classification, name)
    whole = repair_clock(examine_clock(LOG, sensor_ns, POLICY), LOG, sensor_ns, "/a", POLICY)
    for at in (1, 7, 299, 300, 301, 599):
        parts = [clock.used_ns(sensor_ns[part], LOG[part]) for part in (slice(0, at), slice(at, None))]
        np.testing.assert_array_equal(np.concatenate(parts), whole.used_ns)
    assert clock.as_json()["time_source"] == whole.source
    assert np.abs(whole.used_ns - LOG).max() < S
