"""Is this log good? Rules over a drive's streams, each with what was measured and what was allowed.

Belongs here: one reading of the drive, all rules over it. Does not belong here: single rules
(`rules` lists them and where they are judged), thresholds.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.logs.aliases import TopicFacts, propose_aliases
from av_assets.domain.logs.clocks.forensics import examine_clock, repair_clock
from av_assets.domain.logs.clocks.rules import clock_findings
from av_assets.domain.logs.contract import infer_streams, stream_kind
from av_assets.domain.logs.integrity.calibration_rules import calibration_findings
from av_assets.domain.logs.integrity.file_rules import file_findings, topic_findings
from av_assets.domain.logs.integrity.findings import Finding
from av_assets.domain.logs.integrity.probes import StreamJudge
from av_assets.domain.logs.integrity.report import LogReport
from av_assets.domain.logs.integrity.samplings import choose_samplings
from av_assets.domain.logs.integrity.stream_rules import NANOSECONDS, stream_findings
from av_assets.domain.logs.integrity.stream_stats import StreamStats, measure
from av_assets.domain.logs.integrity.timeline import timeline
from av_assets.policies.clocks import ClockPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.logs.aliases import AliasProposal
    from av_assets.domain.logs.clocks.forensics import ClockFinding
    from av_assets.domain.logs.drive_spec import DriveSpec, StreamSpec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.policies.integrity import IntegrityPolicy


@dataclass(frozen=True)
class _Drive:
    """A drive that was read, and what to judge it by."""

    reader: LogReader
    declared: Mapping[str, StreamSpec]
    streams: Mapping[str, StreamSpec]
    stats: Mapping[str, StreamStats]
    dbc_errors: Mapping[str, str]
    clocks: Mapping[str, ClockFinding]
    policy: IntegrityPolicy
    clock_policy: ClockPolicy


def check_log(
    reader: LogReader,
    spec: DriveSpec | None,
    policy: IntegrityPolicy,
    watch: Stopwatch | None = None,
    *,
    clocks: ClockPolicy | None = None,
    drive_dir: Path | None = None,
) -> LogReport:
    """Read the drive once and judge every rule; a rule that cannot be judged is skipped with its reason.

    Without a spec the streams are inferred from the message types and judged against themselves.

    Args:
        clocks: the shipped clock policy by default.
        drive_dir: where the DBC files are that the contract names; by default the folder of the log, or the one
            above it.
    """
    clocks = clocks or ClockPolicy.load()
    types = {name: info.msgtype for name, info in reader.topics.items()}
    declared = spec.streams if spec else {}
    streams = infer_streams(types, declared)
    dbc_errors: dict[str, str] = {}
    with watch("read") if watch else nullcontext():
        samplings = choose_samplings(reader, streams, policy, drive_dir, dbc_errors)
        stats = measure(reader, samplings, policy)
    with watch("compute") if watch else nullcontext():
        times = {one.topic: stats[one.topic] for one in streams.values() if one.topic in stats}
        examined = {
            topic: examine_clock(one.log_times, one.sensor_times, clocks)
            for topic, one in times.items()
            if one.count
        }
        drive = _Drive(reader, declared, streams, stats, dbc_errors, examined, policy, clocks)
        proposals = _proposals(drive)
        findings = tuple(_findings(drive, {one.role: one.fix for one in proposals}))
        return _report(drive, spec.drive if spec else "", findings, proposals)


def _report(
    drive: _Drive, name: str, findings: tuple[Finding, ...], proposals: list[AliasProposal]
) -> LogReport:
    reader, stats, policy = drive.reader, drive.stats, drive.policy
    errors = any(f.status == "failed" and f.severity == "error" for f in findings)
    warned = any(f.status == "failed" for f in findings)
    streams = {role: _summary(one, stats.get(one.topic)) for role, one in sorted(drive.streams.items())}
    return LogReport(
        drive=name,
        verdict="failed" if errors else "warned" if warned else "passed",
        start_ns=reader.start_ns,
        end_ns=reader.end_ns,
        messages=sum(one.count for one in stats.values()),
        findings=findings,
        streams=streams,
        timeline=timeline(reader, stats, policy),
        files=tuple(_file(source) for source in reader.sources),
        aliases=tuple(proposals),
        clocks=dict(drive.clocks),
        repairs={topic: _repair(drive, topic) for topic in drive.clocks},
        policy=policy.digest,
        policies={policy.name: policy.digest, drive.clock_policy.name: drive.clock_policy.digest},
    )


def _proposals(drive: _Drive) -> list[AliasProposal]:
    facts = {
        topic: TopicFacts(one.msgtype, stream_kind(one.msgtype), _rate_hz(one), one.frame_id)
        for topic, one in drive.stats.items()
        if one.count
    }
    applied = {role: drive.streams[role] for role in drive.declared}
    return propose_aliases(applied, facts, drive.policy.alias_rate_tolerance)


def _findings(drive: _Drive, fixes: Mapping[str, str]) -> Iterator[Finding]:
    yield from file_findings(drive.reader, drive.stats)
    yield from calibration_findings(drive.streams, drive.stats)
    yield from topic_findings(drive.stats)
    for role, stream in sorted(drive.streams.items()):
        yield from _stream(drive, role, stream, fixes.get(role, ""))
    roles = {stream.topic for stream in drive.streams.values()}
    for topic, one in sorted(drive.stats.items()):
        if topic not in roles and one.probe is not None:
            yield from one.probe.findings(StreamJudge("", topic))


def _stream(drive: _Drive, role: str, stream: StreamSpec, fix: str) -> Iterator[Finding]:
    span, stats = (drive.reader.start_ns, drive.reader.end_ns), drive.stats.get(stream.topic)
    clock = drive.clocks.get(stream.topic)
    yield from stream_findings(role, stream, stats, span, drive.policy, fix, clock)
    if stream.dbc is not None and stats is not None:
        reason = drive.dbc_errors.get(role, "")
        good = not reason
        yield Finding.judge("dbc_is_readable", "error", good, int(good), 1, reason, role, stream.topic)
    if stats is None or not stats.count:
        return
    times = stats.log_times, stats.sensor_times
    yield from clock_findings(role, stream.topic, *times, drive.clock_policy, finding=clock)
    if stats.probe is not None and not (stats.bad_heads or stats.unknown_type):
        for finding in stats.probe.findings(StreamJudge(role, stream.topic)):
            yield replace(finding, severity="warn") if _is_mild(drive, stream, finding) else finding


def _is_mild(drive: _Drive, stream: StreamSpec, finding: Finding) -> bool:
    """Frames lost with a part of the file are no second fault, and clouds that nobody declared may be empty."""
    if finding.rule == "can_counter_counts":
        return bool(drive.reader.damage or drive.reader.rejected)
    return finding.rule == "clouds_hold_points" and not stream.required


def _rate_hz(stats: StreamStats) -> float | None:
    return NANOSECONDS / max(1.0, stats.track.step_ns) if stats.count > 1 else None


def _repair(drive: _Drive, topic: str) -> dict[str, object]:
    stats = drive.stats[topic]
    found = repair_clock(drive.clocks[topic], stats.log_times, stats.sensor_times, topic, drive.clock_policy)
    return {"name": found.name, "parameters": found.parameters, "reason": found.reason}


def _summary(stream: StreamSpec, stats: StreamStats | None) -> dict[str, object]:
    found: dict[str, object] = {"topic": stream.topic, "kind": stream.kind, "messages": 0}
    if stats is None:
        return found
    track = stats.track
    found |= {"type": stats.msgtype, "messages": track.count, "bytes": stats.bytes}
    if track.count > 1:
        span_ns = max(1, track.last_ns - track.first_ns)
        found["median_rate_hz"] = round(NANOSECONDS / max(1.0, track.step_ns), 3)
        found["mean_rate_hz"] = round((track.count - 1) * NANOSECONDS / span_ns, 3)
        found["max_gap_s"] = round(track.longest_ns / NANOSECONDS, 6)
    if track.stamped and track.count:
        delay = float(np.median(track.log_ns - track.sensor_ns))
        found["median_delay_s"] = round(delay / NANOSECONDS, 6)
    return found


def _file(source: Any) -> dict[str, object]:
    base: dict[str, object] = {"file": source.path.name, "format": source.format, "indexed": source.indexed}
    return base | ({"damage": source.damage.to_dict()} if source.damage else {})


def timeline_png(report: LogReport) -> bytes:
    """PNG of the per-topic message timeline with its holes."""
    from av_assets.domain.logs.integrity.timeline_plot import timeline_png as draw

    return draw(report)


def clocks_png(report: LogReport) -> bytes:
    """PNG of log time minus sensor time of every stream that has stamps."""
    from av_assets.domain.logs.clocks.plot import clock_png

    return clock_png(report.clocks)
