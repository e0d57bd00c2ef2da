"""The integrity rules of one stream: presence, rate, gaps, stamps, clocks, coverage, frozen data, fixes.

Belongs here: rules over the measurements of one stream. Does not belong here: rules over files or the whole
drive (`integrity`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from av_assets.domain.logs.contract import stream_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.domain.logs.drive_spec import StreamSpec
    from av_assets.domain.logs.stream_stats import StreamStats
    from av_assets.policies.integrity import IntegrityPolicy

Severity = Literal["error", "warn"]
Status = Literal["passed", "failed", "skipped"]
NANOSECONDS = 1_000_000_000
EARTH_RADIUS_M = 6_371_008.8
GPS_LEAP_S = 18  # GPS time is ahead of UTC by this much since 2017
YEAR_2000_S = 946_684_800


@dataclass(frozen=True)
class Finding:
    """One rule on one stream, or on the drive where role is empty. A rule that passed has no reason."""

    rule: str
    severity: Severity
    status: Status
    measured: float | None = None
    threshold: float | None = None
    reason: str = ""
    role: str = ""
    topic: str = ""

    @classmethod
    def judge(
        cls,
        rule: str,
        severity: Severity,
        good: bool,
        measured: float,
        threshold: float,
        reason: str,
        role: str = "",
        topic: str = "",
    ) -> Finding:
        status: Status = "passed" if good else "failed"
        text = "" if good else reason
        return cls(rule, severity, status, round(float(measured), 6), float(threshold), text, role, topic)

    def to_dict(self) -> dict[str, object]:
        return {"id": self.rule, **{k: v for k, v in vars(self).items() if k != "rule"}}


@dataclass(frozen=True)
class _Stream:
    """What the rules of one stream share."""

    role: str
    spec: StreamSpec
    stats: StreamStats
    policy: IntegrityPolicy
    span: tuple[int, int]

    def judge(
        self, rule: str, severity: Severity, good: bool, measured: float, threshold: float, reason: str
    ) -> Finding:
        return Finding.judge(rule, severity, good, measured, threshold, reason, self.role, self.spec.topic)

    def skip(self, rule: str, severity: Severity, reason: str) -> Finding:
        return Finding(rule, severity, "skipped", None, None, reason, self.role, self.spec.topic)

    @property
    def expected_period_ns(self) -> float:
        """The contract's period, else the median of what was recorded."""
        if self.spec.rate_hz:
            return NANOSECONDS / self.spec.rate_hz
        return float(np.median(np.diff(self.stats.log_times)))


def stream_findings(
    role: str, spec: StreamSpec, stats: StreamStats | None, span: tuple[int, int], policy: IntegrityPolicy
) -> Iterator[Finding]:
    """All rules of one stream. `span`: log time of the drive's first and last message."""
    count = len(stats.log_ns) if stats else 0
    severity: Severity = "error" if spec.required else "warn"
    reason = f"{spec.topic} is not in the log" if stats is None else f"{spec.topic} holds no message"
    yield Finding.judge("stream_is_present", severity, count > 0, count, 1, reason, role, spec.topic)
    if stats is None or not count:
        return
    stream = _Stream(role, spec, stats, policy, span)
    yield from _type(stream)
    yield from _rate_and_gaps(stream)
    yield from _stamps(stream)
    if spec.kind in ("camera", "lidar"):
        limit = policy.max_equal_frames
        reason = "the payload does not change: the sensor is frozen"
        freeze = stats.longest_freeze
        yield stream.judge("frames_are_live", "error", freeze <= limit, freeze, limit, reason)
    if spec.kind == "gnss":
        yield from _positions(stream)


def _type(stream: _Stream) -> Iterator[Finding]:
    kind, declared = stream_kind(stream.stats.msgtype), stream.spec.kind
    same = kind == declared or declared in ("other", "signal", "radar", "pose")
    reason = f"declared as {declared}, but the messages are {stream.stats.msgtype}"
    yield stream.judge("type_matches_role", "error", same, int(same), 1, reason)
    errors = stream.stats.decode_errors
    yield stream.judge("messages_decode", "error", not errors, len(errors), 0, "; ".join(errors[:3]))


def _rate_and_gaps(stream: _Stream) -> Iterator[Finding]:
    policy, times, rate = stream.policy, stream.stats.log_times, stream.spec.rate_hz
    if len(times) < policy.min_messages_for_rate:
        reason = f"only {len(times)} messages"
        yield from (stream.skip(rule, "warn", reason) for rule in ("rate_matches_contract", "has_no_gap"))
        return
    steps = np.diff(times)
    if rate is None:
        yield stream.skip("rate_matches_contract", "error", "the contract names no rate")
    else:
        measured = NANOSECONDS / max(1.0, float(np.median(steps)))
        good = abs(measured / rate - 1) <= policy.rate_tolerance
        yield stream.judge(
            "rate_matches_contract",
            "error",
            good,
            measured,
            rate,
            f"{measured:.2f} Hz instead of {rate:g} Hz",
        )
    yield from _gaps(stream, steps)
    start_ns, end_ns = stream.span
    # A sample stands for the period after it: without it, a slow stream could never cover a short drive.
    period_ns = float(np.median(steps)) if len(steps) else 0.0
    coverage = min(1.0, (int(times[-1]) - int(times[0]) + period_ns) / max(1, end_ns - start_ns))
    yield stream.judge(
        "covers_the_drive", "error" if stream.spec.required else "warn", coverage >= policy.min_span_coverage,
        coverage, policy.min_span_coverage, f"messages cover {coverage:.1%} of the drive",
    )  # fmt: skip


def _gaps(stream: _Stream, steps: np.ndarray[Any, Any]) -> Iterator[Finding]:
    """One finding by the longest gap: error, warning or passed. Signals are skipped: they may be events."""
    policy, kind = stream.policy, stream.spec.kind
    if stream.spec.rate_hz is None and kind in ("signal", "other", "pose"):
        yield stream.skip("has_no_gap", "warn", "no rate is declared, the topic may be event driven")
        return
    period = stream.expected_period_ns
    longest = float(steps.max())
    error_limit = max(policy.error_gap_periods * period, policy.error_gap_s * NANOSECONDS)
    warn_limit = max(policy.warn_gap_periods * period, policy.warn_gap_s * NANOSECONDS)
    severity: Severity = "error" if longest > error_limit else "warn"
    limit = error_limit if severity == "error" else warn_limit
    at = (int(stream.stats.log_ns[int(steps.argmax())]) - stream.span[0]) / NANOSECONDS
    reason = f"{longest / NANOSECONDS:.3f} s without a message, {at:.3f} s into the drive"
    good = longest <= warn_limit
    yield stream.judge("has_no_gap", severity, good, longest / NANOSECONDS, limit / NANOSECONDS, reason)


def _stamps(stream: _Stream) -> Iterator[Finding]:
    policy, times, stamps = stream.policy, stream.stats.log_times, stream.stats.sensor_times
    rules = (
        "sensor_time_moves_forward",
        "stamps_are_unique",
        "clock_is_near_log_time",
        "clock_does_not_jump",
    )
    if len(stamps) != len(times):
        yield from (stream.skip(rule, "warn", "the messages carry no stamp") for rule in rules)
        return
    steps = np.diff(stamps)
    back, same = int((steps < 0).sum()), int((steps == 0).sum())
    limit = policy.max_backward_stamps
    yield stream.judge(rules[0], "error", back <= limit, back, limit, f"sensor time steps back {back} times")
    if stream.spec.kind in policy.duplicates_allowed:
        yield stream.skip(rules[1], "warn", f"stamps of kind {stream.spec.kind} may repeat")
    else:
        share, allowed = same / max(1, len(steps)), policy.max_duplicate_fraction
        yield stream.judge(rules[1], "warn", share <= allowed, share, allowed, f"{same} stamps repeat")
    yield from _clock(stream, rules, times - stamps)


def _clock(stream: _Stream, rules: tuple[str, ...], delay_ns: np.ndarray[Any, Any]) -> Iterator[Finding]:
    policy = stream.policy
    median = float(np.median(delay_ns)) / NANOSECONDS
    domain = _clock_domain(float(np.median(stream.stats.sensor_times)) / NANOSECONDS, median)
    good = abs(median) <= policy.max_clock_offset_s
    reason = f"log time minus sensor time is {median:.3f} s{domain}"
    yield stream.judge(rules[2], "warn", good, median, policy.max_clock_offset_s, reason)
    jump = float(np.abs(np.diff(delay_ns)).max(initial=0)) / NANOSECONDS
    # A gap in the log delays nothing: only a change of the offset itself is a jump.
    good = jump <= policy.max_clock_jump_s
    reason = f"the offset between the clocks changes by {jump:.3f} s at once"
    yield stream.judge(rules[3], "error", good, jump, policy.max_clock_jump_s, reason)


def _clock_domain(stamp_s: float, offset_s: float) -> str:
    """A guess at which clock wrote the stamps, for people."""
    if stamp_s == 0:
        return "; the stamps are zero"
    if stamp_s < YEAR_2000_S:
        return "; the stamps look like time since start-up"
    if abs(abs(offset_s) - GPS_LEAP_S) < 1:
        return "; the stamps look like GPS time"
    return ""


def _positions(stream: _Stream) -> Iterator[Finding]:
    fixes = np.array(stream.stats.fixes, dtype=np.float64).reshape(-1, 3)
    rules = ("position_is_on_earth", "speed_is_possible")
    if not len(fixes):
        yield from (stream.skip(rule, "error", "no valid fix") for rule in rules)
        return
    latitude, longitude = fixes[:, 1], fixes[:, 2]
    wrong = int((~(np.abs(latitude) <= 90) | ~(np.abs(longitude) <= 180)).sum())
    yield stream.judge(rules[0], "error", not wrong, wrong, 0, f"{wrong} fixes are not on Earth")
    limit = stream.policy.max_speed_mps
    speed = _top_speed_mps(np.array([t for t, _, _ in stream.stats.fixes]), latitude, longitude)
    yield stream.judge(rules[1], "error", speed <= limit, speed, limit, f"the fixes imply {speed:.0f} m/s")


def _top_speed_mps(
    times_ns: np.ndarray[Any, Any], latitude: np.ndarray[Any, Any], longitude: np.ndarray[Any, Any]
) -> float:
    """Largest speed between fixes at least a second apart (equirectangular: good below 10 km)."""
    use = np.isfinite(latitude) & np.isfinite(longitude)
    times_ns, lat, lon = times_ns[use], np.radians(latitude[use]), np.radians(longitude[use])
    later = np.searchsorted(times_ns, times_ns + NANOSECONDS)
    early = np.flatnonzero(later < len(times_ns))
    late = later[early]
    if not len(early):
        return 0.0
    turn = (lon[late] - lon[early] + np.pi) % (2 * np.pi) - np.pi
    east = turn * np.cos((lat[late] + lat[early]) / 2)
    metres = EARTH_RADIUS_M * np.hypot(east, lat[late] - lat[early])
    return float((metres / ((times_ns[late] - times_ns[early]) / NANOSECONDS)).max())
