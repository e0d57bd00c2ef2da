"""Stamps of streams whose clocks are known to be right or wrong in one way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from av_assets.domain.logs.clocks.forensics import ClockFinding, examine_clock
from av_assets.policies.clocks import ClockPolicy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ns = NDArray[np.int64]

POLICY = ClockPolicy.load()
START_NS = 1_748_764_800_000_000_000
SECOND = 1_000_000_000
MOVES = st.sampled_from(["healthy", "uptime", "foreign", "gps", "gps_1980", "swapped", "drift", "step"])


def stream(
    seed: int = 0,
    count: int = 1200,
    rate_hz: float = 20,
    jitter_s: float = 0.005,
    lag_s: float = 0.004,
    ppm: float = 0,
    jump: tuple[float, float] | None = None,
    gap_s: float = 0,
) -> tuple[Ns, Ns]:
    """(log_ns, sensor_ns) of a sensor whose messages arrive in order, late by an exponential tail; `jump`: share
    of the messages after which the sensor's clock is so many seconds ahead."""
    rng = np.random.default_rng(seed)
    true = START_NS + (np.arange(count) * (SECOND / rate_hz)).astype(np.int64)
    true[count // 3 :] += round(gap_s * SECOND)
    delay = lag_s + np.minimum(rng.exponential(jitter_s, count) ** 1.3, 1.0)
    log = np.maximum.accumulate(true + (delay * SECOND).astype(np.int64))
    sensor = true + np.rint((true - START_NS) * ppm * 1e-6).astype(np.int64)
    if jump:
        sensor[round(jump[0] * count) :] += round(jump[1] * SECOND)
    return log, sensor


def wrong(kind: str) -> tuple[Ns, Ns]:
    log, sensor = stream(7)
    seconds, nanoseconds = sensor // SECOND, sensor % SECOND
    return log, {
        "healthy": sensor,
        "late": sensor - 200_000_000,
        "early": sensor + 300_000_000,
        "uptime": sensor - START_NS + 12 * SECOND,
        "foreign": sensor + 3600 * SECOND,
        "gps": sensor + 18 * SECOND,
        "utc_minus_leap": sensor - 18 * SECOND,
        "tai": sensor + 37 * SECOND,
        "gps_1980": sensor - (315_964_800 - 18) * SECOND,
        "zero": np.zeros_like(sensor),
        "frozen": np.full_like(sensor, sensor[0]),
        "frozen_later": np.where(np.arange(len(sensor)) > 800, sensor[800], sensor),
        "swapped": nanoseconds * SECOND + seconds,
        "drift": sensor + (sensor - START_NS) // 500,
        "step": sensor + 3 * SECOND * (np.arange(len(sensor)) >= 700),
    }[kind]


def found(log: Ns, sensor: Ns) -> ClockFinding:
    return examine_clock(log, sensor, POLICY)
