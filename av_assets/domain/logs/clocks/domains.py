"""Which clock wrote a stamp: the epoch, GPS, TAI, time since start-up.

Belongs here: guessing the domain of stamps. Does not belong here: regression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from av_assets.domain.logs.clocks.lines import NANOSECONDS

if TYPE_CHECKING:
    from av_assets.policies.clocks import ClockPolicy

Domain = Literal["epoch", "gps", "gps_1980", "utc_minus_leap", "tai", "uptime", "zero", "other", "none"]
YEAR_2000_S = 946_684_800
GPS_EPOCH_S = 315_964_800  # 1980-01-06 in Unix time


def explain(offset_ns: int, log_ns: int, sensor_ns: int, policy: ClockPolicy) -> tuple[Domain, int]:
    """Which clock writes such stamps, and what takes them to UTC where that is a known constant."""
    if abs(offset_ns) <= policy.max_offset_s * NANOSECONDS:
        return domain_of(log_ns, sensor_ns), 0
    leap, tolerance_ns = policy.gps_leap_s, policy.leap_tolerance_s * NANOSECONDS
    known: tuple[tuple[Domain, int], ...] = (
        ("gps", -leap),
        ("utc_minus_leap", leap),
        ("tai", -policy.tai_leap_s),
        ("gps_1980", GPS_EPOCH_S - leap),
        ("gps_1980", GPS_EPOCH_S),
    )
    for domain, seconds in known:
        if abs(offset_ns - seconds * NANOSECONDS) <= tolerance_ns:
            return domain, seconds * NANOSECONDS
    return domain_of(log_ns, sensor_ns), 0


def domain_of(log_ns: int, sensor_ns: int) -> Domain:
    if sensor_ns == 0:
        return "zero"
    if 0 < sensor_ns < YEAR_2000_S * NANOSECONDS:
        return "uptime"
    year_ns = 366 * 86_400 * NANOSECONDS
    return "epoch" if abs(log_ns - sensor_ns) < year_ns else "other"
