"""Fixes that are not on Earth, at its zero point, or further apart than any car drives.

Belongs here: judging NavSatFix. Does not belong here: map matching.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.logs.integrity.findings import Finding
    from av_assets.domain.logs.integrity.probes import StreamJudge
    from av_assets.domain.logs.reader import LogReader
    from av_assets.policies.integrity import IntegrityPolicy

NANOSECONDS = 1_000_000_000
EARTH_RADIUS_M = 6_371_008.8
NULL_ISLAND_DEG = 1e-6


class PositionProbe:
    """Valid fixes, at most `max_fix_hz` of them; the first and the last always."""

    wants_all = True

    def __init__(self, reader: LogReader, policy: IntegrityPolicy) -> None:
        self.reader, self.policy = reader, policy
        self._times: array[int] = array("q")
        self._places = array("d")
        self._next_ns = 0

    def glance(self, raw: RawMessage) -> None:
        """Decode where it is time for the next fix; undecodable ones are the business of `messages_decode`."""
        from av_assets.domain.errors import LogError

        if raw.log_ns < self._next_ns:
            return
        # Half a period early: jitter shall not drop every second fix of a receiver at just this rate.
        self._next_ns = raw.log_ns + int(0.5 * NANOSECONDS / self.policy.max_fix_hz)
        try:
            fix = self.reader.deserialize(raw)
        except LogError:
            return
        status = getattr(getattr(fix, "status", None), "status", -1)
        if status >= 0:
            self._times.append(raw.log_ns)
            self._places.extend((float(fix.latitude), float(fix.longitude)))

    def look(self, raw: RawMessage, message: Any) -> None:
        pass

    def findings(self, judge: StreamJudge) -> Iterator[Finding]:
        rules = ("position_is_on_earth", "position_is_not_zero", "speed_is_possible")
        if not self._times:
            yield from (judge.skip(rule, "error", "no valid fix") for rule in rules)
            return
        places = np.frombuffer(self._places, np.float64).reshape(-1, 2)
        latitude, longitude = places[:, 0], places[:, 1]
        off = ~(np.abs(latitude) <= 90) | ~(np.abs(longitude) <= 180)
        wrong = int(off.sum())
        yield judge.judge(rules[0], "error", not wrong, wrong, 0, f"{wrong} fixes are not on Earth")
        null = (np.abs(places) < NULL_ISLAND_DEG).all(axis=1)
        zeros = int(null.sum())
        yield judge.judge(rules[1], "error", not zeros, zeros, 0, f"{zeros} fixes are at zero, zero")
        # What is no position implies no speed: one fault, one finding.
        use = ~off & ~null
        times, limit = np.frombuffer(self._times, np.int64)[use], self.policy.max_speed_mps
        speed = top_speed_mps(times, latitude[use], longitude[use])
        yield judge.judge(rules[2], "error", speed <= limit, speed, limit, f"the fixes imply {speed:.0f} m/s")


def top_speed_mps(
    times_ns: np.ndarray[Any, Any], latitude: np.ndarray[Any, Any], longitude: np.ndarray[Any, Any]
) -> float:
    """Largest speed between fixes at least a second apart (equirectangular: good below 10 km)."""
    lat, lon = np.radians(latitude), np.radians(longitude)
    later = np.searchsorted(times_ns, times_ns + NANOSECONDS)
    early = np.flatnonzero(later < len(times_ns))
    late = later[early]
    if not len(early):
        return 0.0
    turn = (lon[late] - lon[early] + np.pi) % (2 * np.pi) - np.pi
    east = turn * np.cos((lat[late] + lat[early]) / 2)
    metres = EARTH_RADIUS_M * np.hypot(east, lat[late] - lat[early])
    return float((metres / ((times_ns[late] - times_ns[early]) / NANOSECONDS)).max())
