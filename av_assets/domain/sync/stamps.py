"""The stamps of one stream, and which time of it synchronization trusts.

Belongs here: used time per stream, and messages that came too late. Does not belong here: matching, reading.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from av_assets.domain.errors import SyncError
from av_assets.domain.logs.clocks.forensics import examine_clock, repair_clock
from av_assets.domain.logs.clocks.repairs import exchanged, undo_repair

if TYPE_CHECKING:
    from av_assets.domain.sync.grid import Ns
    from av_assets.policies.clocks import ClockPolicy
    from av_assets.policies.sync import SyncPolicy

_LOWEST_NS = -(1 << 63)


@dataclass(frozen=True)
class TopicClock:
    """The repair of one topic's clock, as a function of single stamps.

    Attributes:
        name, parameters, reason: as `ClockRepair` has them.
        classification: what the clock was found to be.
    """

    name: str = "none"
    parameters: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    classification: str = "none"

    @property
    def source(self) -> Literal["sensor", "log"]:
        """Which of the two recorded times the used one is made of."""
        return "log" if self.name in ("log_time", "log_minus_delay") else "sensor"

    def used_ns(self, sensor_ns: Ns, log_ns: Ns) -> Ns:
        """Element by element, so that a part of a topic gives a part of the answer."""
        if self.source == "log":
            return log_ns - int(self.parameters.get("delay_ns", 0))
        if self.name == "none":
            return sensor_ns
        if self.name == "swap_sec_nsec":
            return exchanged(log_ns, sensor_ns)[0]
        return sensor_ns - undo_repair(self.name, self.parameters, np.zeros_like(log_ns), log_ns)

    def as_json(self) -> dict[str, Any]:
        return {
            "classification": self.classification,
            "repair": self.name,
            "parameters": self.parameters,
            "reason": self.reason,
            "time_source": self.source,
        }


def judge_clock(topic: str, sensor_ns: Ns, log_ns: Ns, policy: ClockPolicy) -> TopicClock:
    """Examine the clock of a topic by its stamps, or by a sample of them, and choose the repair."""
    finding = examine_clock(log_ns, sensor_ns, policy)
    repair = repair_clock(finding, log_ns, sensor_ns, topic, policy)
    return TopicClock(repair.name, repair.parameters, repair.reason, finding.classification)


@dataclass(frozen=True)
class Stamps:
    """All stamps of one stream in recorded order. `used_ns` is what matching uses, `clock` says why.

    `kept` are positions that may be matched: those that the out-of-order policy left, in recorded order.
    """

    sensor_ns: Ns
    log_ns: Ns
    used_ns: Ns
    clock: TopicClock
    kept: Ns
    late: int


def lags_ns(used_ns: Ns, log_ns: Ns, ahead_ns: int, before_ns: int = _LOWEST_NS) -> tuple[Ns, int]:
    """How far each sample lies behind the latest one recorded before it, and that latest time at the end.

    A stamp counts as at most `ahead_ns` after its log time, so that one stamp from the future does not make
    all that follow late. `before_ns` is the latest time of what was recorded before these samples.
    """
    reach_ns = np.maximum.accumulate(np.concatenate([[before_ns], np.minimum(used_ns, log_ns + ahead_ns)]))
    return np.maximum(reach_ns[1:], used_ns) - used_ns, int(reach_ns[-1])


def stamps_of(topic: str, sensor_ns: Ns, log_ns: Ns, clock: TopicClock, policy: SyncPolicy) -> Stamps:
    """The stamps of one payload stream under the out-of-order policy.

    Raises:
        SyncError: out_of_order, where the policy is `error` and a sample came later than the watermark.
    """
    used_ns = clock.used_ns(sensor_ns, log_ns)
    late = lags_ns(used_ns, log_ns, policy.max_ahead_ns)[0] > policy.watermark_ns
    refuse_late(topic, int(late.sum()), policy)
    kept = np.flatnonzero(~late) if policy.out_of_order == "drop" else np.arange(len(used_ns))
    return Stamps(sensor_ns, log_ns, used_ns, clock, kept.astype(np.int64), int(late.sum()))


def refuse_late(topic: str, late: int, policy: SyncPolicy) -> None:
    """Raises: SyncError: out_of_order, where the policy is `error` and something came late."""
    if late and policy.out_of_order == "error":
        raise SyncError(
            f"{topic}: {late} messages came later than the watermark of {policy.watermark_s:g} s",
            code="out_of_order",
            remedy="choose sort or drop as out-of-order policy, or repair the recording",
        )
