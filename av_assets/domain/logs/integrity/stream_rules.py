"""The integrity rules that every stream shares: presence, type, decoding, rate, gaps, coverage, order of stamps.

Belongs here: rules over the times and counts of one stream. Does not belong here: clocks (`rules`), what is
inside of messages (`picture_rules`, `measurement_rules`, `can_rules`), rules over files or the drive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from av_assets.domain.logs.contract import stream_kind
from av_assets.domain.logs.integrity.findings import Finding
from av_assets.domain.logs.integrity.probes import StreamJudge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.domain.logs.clocks.forensics import ClockFinding
    from av_assets.domain.logs.drive_spec import StreamSpec
    from av_assets.domain.logs.integrity.rules import Severity
    from av_assets.domain.logs.integrity.stream_stats import StreamStats
    from av_assets.domain.logs.integrity.time_track import TimeTrack
    from av_assets.policies.integrity import IntegrityPolicy

__all__ = ["Finding", "stream_findings"]
NANOSECONDS = 1_000_000_000
EVENT_KINDS = ("signal", "other", "pose")  # may be event driven where the contract names no rate


@dataclass(frozen=True)
class _Stream(StreamJudge):
    """What the rules of one stream share."""

    spec: StreamSpec
    stats: StreamStats
    policy: IntegrityPolicy
    span: tuple[int, int]

    @property
    def period_ns(self) -> float:
        """The contract's period, else the median of what was recorded."""
        return NANOSECONDS / self.spec.rate_hz if self.spec.rate_hz else self.stats.track.step_ns


def stream_findings(
    role: str,
    spec: StreamSpec,
    stats: StreamStats | None,
    span: tuple[int, int],
    policy: IntegrityPolicy,
    fix: str = "",
    clock: ClockFinding | None = None,
) -> Iterator[Finding]:
    """All shared rules of one stream.

    Args:
        span: log time of the drive's first and last message.
        clock: the examined clock: steps back that are its steps are reported there, not as single stamps.
        fix: what to do if the stream is absent, where more is known than the catalogue says.
    """
    count = stats.count if stats else 0
    severity: Severity = "error" if spec.required else "warn"
    reason = f"{spec.topic} is not in the log" if stats is None else f"{spec.topic} holds no message"
    yield Finding.judge("stream_is_present", severity, count > 0, count, 1, reason, role, spec.topic, fix)
    if stats is None or not count:
        return
    stream = _Stream(role, spec.topic, spec, stats, policy, span)
    yield from _type(stream)
    yield from _times(stream)
    yield from _stamps(stream, clock)


def _type(stream: _Stream) -> Iterator[Finding]:
    stats, kind, declared = stream.stats, stream_kind(stream.stats.msgtype), stream.spec.kind
    loose = declared in ("other", "signal") or (
        declared in ("radar", "pose") and kind in ("signal", declared)
    )
    same = kind == declared or loose
    reason = f"declared as {declared}, but the messages are {stats.msgtype}"
    yield stream.judge("type_matches_role", "error", same, int(same), 1, reason)
    bad = stats.bad_heads
    yield stream.judge("serialization_is_valid", "error", not bad, bad, 0, f"{bad} messages are no CDR")
    if bad or not same:  # what is no CDR, or something else, cannot decode: one fault, one finding
        what = "encoding" if bad else "type"
        yield stream.skip("messages_decode", "error", f"the {what} is not what it is declared to be")
        return
    errors = stats.decode_errors
    yield stream.judge("messages_decode", "error", not errors, len(errors), 0, "; ".join(errors[:3]))


def _times(stream: _Stream) -> Iterator[Finding]:
    policy, track = stream.policy, stream.stats.track
    rules = (
        "rate_matches_contract",
        "rate_is_steady",
        "has_no_gap",
        "no_message_is_lost",
        "covers_the_drive",
    )
    if track.count < policy.min_messages_for_rate:
        yield from (stream.skip(rule, "warn", f"only {track.count} messages") for rule in rules)
        return
    yield _rate(stream)
    if stream.spec.rate_hz is None and stream.spec.kind in EVENT_KINDS:
        reason = "no rate is declared, the topic may be event driven"
        yield from (stream.skip(rule, "warn", reason) for rule in rules[1:4])
    else:
        yield _gap(stream)
        yield from _flow(stream)
    start_ns, end_ns = stream.span
    # A sample stands for the period after it: without it, a slow stream could never cover a short drive.
    coverage = min(1.0, (track.last_ns - track.first_ns + track.step_ns) / max(1, end_ns - start_ns))
    severity: Severity = "error" if stream.spec.required else "warn"
    limit, missing_ns = policy.min_span_coverage, (1 - coverage) * (end_ns - start_ns)
    good = coverage >= limit or missing_ns <= policy.max_uncovered_s * NANOSECONDS
    reason = f"messages cover {coverage:.1%} of the drive"
    yield stream.judge("covers_the_drive", severity, good, coverage, limit, reason)


def _rate(stream: _Stream) -> Finding:
    rate = stream.spec.rate_hz
    if rate is None:
        return stream.skip("rate_matches_contract", "error", "the contract names no rate")
    measured = NANOSECONDS / max(1.0, stream.stats.track.step_ns)
    good = abs(measured / rate - 1) <= stream.policy.rate_tolerance
    reason = f"{measured:.2f} Hz instead of {rate:g} Hz"
    return stream.judge("rate_matches_contract", "error", good, measured, rate, reason)


def _gap(stream: _Stream) -> Finding:
    """One finding by the longest gap: error, warning or passed."""
    policy, period, track = stream.policy, stream.period_ns, stream.stats.track
    longest = track.longest_ns
    error_limit = max(policy.error_gap_periods * period, policy.error_gap_s * NANOSECONDS)
    warn_limit = max(policy.warn_gap_periods * period, policy.warn_gap_s * NANOSECONDS)
    severity: Severity = "error" if longest > error_limit else "warn"
    limit = error_limit if severity == "error" else warn_limit
    at = (track.longest_at_ns - stream.span[0]) / NANOSECONDS
    reason = f"{longest / NANOSECONDS:.3f} s without a message, {at:.3f} s into the drive"
    measured, good = longest / NANOSECONDS, longest <= warn_limit
    return stream.judge("has_no_gap", severity, good, measured, limit / NANOSECONDS, reason)


def _flow(stream: _Stream) -> Iterator[Finding]:
    """Sagging rates and lost messages; not for bursts, whose median step is no period."""
    policy, track = stream.policy, stream.stats.track
    step, span = track.step_ns, track.last_ns - track.first_ns
    if track.in_bursts:
        reason = "the messages come in bursts"
        yield from (stream.skip(rule, "warn", reason) for rule in ("rate_is_steady", "no_message_is_lost"))
        return
    # Against the period that is usual here: a rate that is wrong all the time has a rule of its own.
    share, limit = step / track.slowest_ns if track.slowest_ns else 1.0, policy.min_steady_rate
    reason = f"over {policy.steady_window_s:g} s the rate sags to {share:.0%} of the usual one"
    yield stream.judge("rate_is_steady", "warn", share >= limit, share, limit, reason)
    # One message more or less is what jitter alone can look like in a short stream.
    expected, allowed = (span + step) / max(1.0, step), policy.max_lost_share
    lost = max(0.0, 1 - (track.count + 1) / expected)
    reason = f"{lost:.1%} of the messages that the median period leads to expect did not come"
    yield stream.judge("no_message_is_lost", "warn", lost <= allowed, lost, allowed, reason)


def _stamps(stream: _Stream, clock: ClockFinding | None) -> Iterator[Finding]:
    policy, track = stream.policy, stream.stats.track
    rules = ("sensor_time_moves_forward", "stamps_are_unique", "messages_are_unique")
    if not track.stamped:
        yield from (stream.skip(rule, "warn", "the messages carry no stamp") for rule in rules)
        return
    back, limit = _unexplained(track, clock), policy.max_backward_stamps
    reason = f"sensor time steps back {back} times"
    yield stream.judge(rules[0], "error", back <= limit, back, limit, reason)
    if stream.spec.kind in policy.duplicates_allowed:
        yield stream.skip(rules[1], "warn", f"stamps of kind {stream.spec.kind} may repeat")
    else:
        share, allowed = track.same / max(1, track.count - 1), policy.max_duplicate_fraction
        reason = f"{track.same} stamps repeat"
        yield stream.judge(rules[1], "warn", share <= allowed, share, allowed, reason)
    repeats = stream.stats.repeats
    share, allowed = repeats / max(1, track.count - 1), policy.max_repeated_share
    reason = f"{repeats} messages are those before them once more"
    yield stream.judge(rules[2], "warn", share <= allowed, share, allowed, reason)


def _unexplained(track: TimeTrack, clock: ClockFinding | None) -> int:
    """Steps back that are no steps of the clock; in proportion where the clock was examined on thinned times."""
    if clock is None:
        return track.back
    if track.exact or clock.classification == "swapped":
        return clock.backward_unexplained
    return -(-track.back * clock.backward_unexplained // max(1, clock.backward))
