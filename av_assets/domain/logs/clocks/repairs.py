"""Repairs of a stream's clock: named, recorded, and undone exactly where stamps were moved, not replaced.

Belongs here: the transforms and the choice that the policy makes. Does not belong here: what is wrong with a
clock (`clocks`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from av_assets.domain.errors import LogError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from av_assets.domain.logs.clocks.forensics import ClockFinding
    from av_assets.policies.clocks import ClockPolicy, RepairName

    Ns = NDArray[np.int64]

NANOSECONDS = 1_000_000_000
_REPLACES = ("log_time", "log_minus_delay")
_HALF = NANOSECONDS // 2
_LARGEST_NS = float(1 << 62)


@dataclass(frozen=True)
class ClockRepair:
    """The stamps that matching uses, and how they came to be.

    used_ns: (N,) int64 in recorded order. parameters: JSON-able, with log_ns enough to undo a repair that
    moves stamps. reason: why this one, for people.
    """

    name: RepairName
    used_ns: Ns
    parameters: dict[str, Any]
    reason: str
    log_ns: Ns = field(repr=False)

    @property
    def invertible(self) -> bool:
        return self.name not in _REPLACES

    @property
    def source(self) -> Literal["sensor", "log"]:
        """Which of the two stored stamps the used ones were made of."""
        return "sensor" if self.invertible else "log"

    def undo(self, used_ns: Ns) -> Ns:
        """The sensor stamps again, bit for bit; `used_ns` is (N,) in recorded order.

        Raises:
            LogError: clock_repair_replaces, log time took the place of the stamps.
        """
        return undo_repair(self.name, self.parameters, used_ns, self.log_ns)

    def to_dict(self) -> dict[str, object]:
        return {"name": self.name, "parameters": self.parameters, "reason": self.reason}


def undo_repair(name: str, parameters: Mapping[str, Any], used_ns: Ns, log_ns: Ns) -> Ns:
    """Sensor stamps out of what a shard keeps: used and log stamps, name and parameters of the repair.

    Raises:
        LogError: clock_repair_replaces, for repairs that put log time in the place of the stamps.
    """
    if name in _REPLACES:
        raise LogError(
            f"{name} replaces the stamps",
            code="clock_repair_replaces",
            remedy="take sensor_ns, which is stored beside them",
        )
    used = np.asarray(used_ns, np.int64)
    if name == "swap_sec_nsec":
        return (used % NANOSECONDS) * NANOSECONDS + used // NANOSECONDS
    return used if name == "none" else used - _correction(parameters, np.asarray(log_ns, np.int64))


def repair_clock(
    finding: ClockFinding, log_ns: Ns, sensor_ns: Ns, topic: str, policy: ClockPolicy
) -> ClockRepair:
    """Apply what the policy names for this class of clock, or for this topic.

    Where the repair cannot be made, or its result would lie farther than `max_offset_s` from log time, log
    time is used and the reason says so. A repair named for a topic by a person is not second-guessed by
    distance. Streams without a stamp for every message get log time.
    """
    log, sensor = np.asarray(log_ns, np.int64), np.asarray(sensor_ns, np.int64)
    known = policy.topic(topic)
    name = known.repair or policy.repairs[finding.classification]
    chosen = f"policy for {topic}" if known.repair else f"the clock is {finding.classification}"
    if len(log) != len(sensor) or not len(log):
        return ClockRepair("log_time", log.copy(), {}, "not every message carries a stamp", log)
    refusal = _refusal(name, finding, log, sensor)
    if refusal:
        return ClockRepair("log_time", log.copy(), {}, f"{chosen}; {name} is not possible: {refusal}", log)
    parameters = _parameters(name, finding, log, sensor, known.delay_s)
    used = _applied(name, parameters, log, sensor)
    away_ns = abs(float(np.median(log - used)))
    moved = name not in ("none", *_REPLACES)
    if moved and not known.repair and away_ns > policy.max_offset_s * NANOSECONDS:
        reason = f"{chosen}; after {name} the stamps are still {away_ns / NANOSECONDS:.3f} s from log time"
        return ClockRepair("log_time", log.copy(), {}, reason, log)
    return ClockRepair(name, used, parameters, chosen, log)


def _refusal(name: RepairName, finding: ClockFinding, log: Ns, sensor: Ns) -> str:
    if name in ("none", *_REPLACES):
        return ""
    if finding.classification in ("none", "zero", "frozen"):
        return "there is no running clock"
    if name == "swap_sec_nsec" and not exchanged(log, sensor)[1].all():
        return "some stamps are not exchanged"
    if name == "gps_to_utc" and not finding.leap_ns:
        return "the offset is not that of GPS time"
    return ""


def _parameters(
    name: RepairName, finding: ClockFinding, log: Ns, sensor: Ns, delay_s: float | None
) -> dict[str, Any]:
    delay_ns = None if delay_s is None else round(delay_s * NANOSECONDS)
    if name == "log_minus_delay":
        return {"delay_ns": finding.delay_ns if delay_ns is None else delay_ns}
    if name in ("none", "log_time", "swap_sec_nsec"):
        return {}
    constant = {"add_offset": finding.base_ns - (delay_ns or 0), "gps_to_utc": finding.leap_ns}.get(name, 0)
    slope = finding.slope if finding.drifts else 0.0
    segments = [[start, _wrapped(level + constant)] for start, level in finding.levels]
    origin_ns = finding.first_log_ns if name == "add_offset" else finding.anchor_ns
    return {"segments": segments, "slope": slope, "origin_log_ns": origin_ns}


def _wrapped(value: int) -> int:
    """As int64 arithmetic has it: stamps are moved and moved back modulo 2**64, so that nothing overflows."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _applied(name: RepairName, parameters: Mapping[str, Any], log: Ns, sensor: Ns) -> Ns:
    if name == "none":
        return sensor.copy()
    if name in _REPLACES:
        return log - int(parameters.get("delay_ns", 0))
    if name == "swap_sec_nsec":
        return exchanged(log, sensor)[0]
    return sensor + _correction(parameters, log)


def _correction(parameters: Mapping[str, Any], log: Ns) -> Ns:
    """(N,) ns to add to sensor stamps. A function of log time alone, which no repair changes: so the very same
    numbers are there to subtract."""
    starts = np.array([start for start, _ in parameters["segments"]], np.int64)
    add = np.array([level for _, level in parameters["segments"]], np.int64)
    segment = np.clip(np.searchsorted(starts, log, "right") - 1, 0, None)
    drift = np.rint(float(parameters["slope"]) * (log - int(parameters["origin_log_ns"])).astype(np.float64))
    return np.asarray(add[segment] + np.clip(drift, -_LARGEST_NS, _LARGEST_NS).astype(np.int64))


def exchanged(log: Ns, sensor: Ns, within_s: int = 60) -> tuple[Ns, NDArray[np.bool_]]:
    """Stamps with their fields exchanged, and where that makes sense.

    A stamp N * 1e9 + S, with the seconds S in the field of nanoseconds, leaves S as its remainder by 1e9; of
    all such S, the one nearest to log time counts. It makes sense where S lies within `within_s` of log time
    and N is a number of nanoseconds, which chance does in 1 of 10 million stamps.
    """
    log_s = log // NANOSECONDS
    second = log_s + (sensor % NANOSECONDS - log_s + _HALF) % NANOSECONDS - _HALF
    nanosecond = (sensor - second) // NANOSECONDS
    sense = (np.abs(second - log_s) <= within_s) & (nanosecond >= 0) & (nanosecond < NANOSECONDS)
    return second * NANOSECONDS + nanosecond, sense
