"""Integrity rules about the clock of one stream.

One wrong clock fails one rule of severity error at most: a clock that stands still is not asked whether it
drifts, exchanged fields are put in order first, and steps back that are steps of the clock are not counted
twice (see `ClockFinding.backward_unexplained`).
Belongs here: turning a ClockFinding into rule results. Does not belong here: measuring it (`clocks`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from av_assets.domain.logs.clocks.forensics import ClockFinding, examine_clock
from av_assets.domain.logs.clocks.lines import NANOSECONDS
from av_assets.domain.logs.integrity.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from av_assets.domain.logs.clocks.lines import Ns
    from av_assets.domain.logs.integrity.rules import Severity
    from av_assets.policies.clocks import ClockPolicy

SEVERITIES: dict[str, Severity] = {
    "clock_runs": "error",
    "clock_counts_from_the_epoch": "warn",
    "stamp_fields_are_in_order": "warn",
    "clock_is_near_log_time": "warn",
    "clock_does_not_jump": "error",
    "clock_does_not_drift": "warn",
}
_DOMAINS = {
    "gps": "; the stamps look like GPS time",
    "gps_1980": "; the stamps look like GPS time, counted from 1980",
    "utc_minus_leap": "; GPS leap seconds seem to be taken off twice",
    "tai": "; the stamps look like TAI",
    "uptime": "; the stamps look like time since start-up",
    "zero": "; the stamps are zero",
}


def clock_findings(
    role: str,
    topic: str,
    log_ns: Ns,
    sensor_ns: Ns,
    policy: ClockPolicy,
    severities: Mapping[str, Severity] | None = None,
    finding: ClockFinding | None = None,
) -> Iterator[Finding]:
    """Results of the six clock rules, in the order of SEVERITIES.

    Args:
        log_ns, sensor_ns: (N,) int64 in recorded order; of other length where messages carry no stamp, then
            all rules are skipped.
        severities: rule -> severity instead of the one in SEVERITIES.
        finding: the examination, where the caller has it already.
    """
    found = examine_clock(log_ns, sensor_ns, policy) if finding is None else finding
    graded = {**SEVERITIES, **(severities or {})}

    def judge(rule: str, good: bool, measured: float, threshold: float, reason: str) -> Finding:
        return Finding.judge(rule, graded[rule], good, measured, threshold, reason, role, topic)

    def skip(rule: str, reason: str) -> Finding:
        return Finding(rule, graded[rule], "skipped", None, None, reason, role, topic)

    name = found.classification
    if name == "none":
        yield from (skip(rule, "the messages carry no stamp") for rule in SEVERITIES)
        return
    if name == "zero":
        yield skip("clock_runs", "the stamps are zero")
    else:
        reason = (
            f"one stamp stands for {found.longest_hold_s:.3f} s; {found.held_share:.0%} of the time in all"
        )
        yield judge("clock_runs", name != "frozen", found.longest_hold_s, policy.max_held_s, reason)
    foreign = found.domain in ("zero", "uptime", "gps_1980") and abs(found.offset_ns) > _ns(
        policy.max_offset_s
    )
    reason = (
        f"log time minus sensor time is {found.offset_ns / NANOSECONDS:.3f} s{_DOMAINS.get(found.domain, '')}"
    )
    yield judge("clock_counts_from_the_epoch", not foreign, int(not foreign), 1, reason)
    rules = list(SEVERITIES)[2:]
    if name in ("zero", "frozen"):
        yield from (skip(rule, f"the stamps are {name}") for rule in rules)
        return
    swapped = name == "swapped"
    reason = "the stamps make sense with seconds and nanoseconds exchanged"
    yield judge(rules[0], not swapped, int(not swapped), 1, reason)
    near = abs(found.offset_ns) <= _ns(policy.warn_offset_s)
    reason = (
        f"log time minus sensor time is {found.offset_ns / NANOSECONDS:.3f} s{_DOMAINS.get(found.domain, '')}"
    )
    yield judge(rules[1], near, found.offset_ns / NANOSECONDS, policy.warn_offset_s, reason)
    yield from _jumps_and_drift(found, policy, graded, role, topic)


def _jumps_and_drift(
    found: ClockFinding, policy: ClockPolicy, graded: Mapping[str, Severity], role: str, topic: str
) -> Iterator[Finding]:
    """A step below `max_jump_s` warns, one beyond it, or a stamp that no delay explains, is as grave as the
    rule says."""
    rule = "clock_does_not_jump"
    grave = found.largest_step_ns > _ns(policy.max_jump_s) or found.strays > 0
    steps = ", ".join(f"{one.size_ns / NANOSECONDS:+.3f} s" for one in found.steps[:5])
    more = f" and {len(found.steps) - 5} times more" if len(found.steps) > 5 else ""
    said = [f"the sensor's clock steps by {steps}{more}"] if found.steps else []
    said += [f"{found.strays} stamps are far ahead of log time or of another epoch"] if found.strays else []
    severity = graded[rule] if grave or not found.steps else "warn"
    measured = found.largest_step_ns / NANOSECONDS
    yield Finding.judge(
        rule, severity, not said, measured, policy.max_jump_s if grave or not said else policy.min_step_s,
        "; ".join(said), role, topic,
    )  # fmt: skip
    rule = "clock_does_not_drift"
    reason = f"the sensor's clock runs {found.drift_ppm:+.1f} ppm off the recorder's"
    yield Finding.judge(
        rule, graded[rule], not found.drifts, found.drift_ppm, policy.min_drift_ppm, reason, role, topic
    )


def _ns(seconds: float) -> float:
    return seconds * NANOSECONDS
