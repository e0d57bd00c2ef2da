"""Is this log good? Rules over a drive's streams, each with what was measured and what was allowed.

Belongs here: the rules and their report. Does not belong here: reading (`stream_stats`), thresholds.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from av_assets.domain.logs.contract import infer_streams, stream_kind
from av_assets.domain.logs.stream_rules import Finding, stream_findings
from av_assets.domain.logs.stream_stats import StreamStats, measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.logs.drive_spec import DriveSpec, StreamSpec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.policies.integrity import IntegrityPolicy

Verdict = Literal["passed", "warned", "failed"]
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_TOPIC = "/tf_static"
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class LogReport:
    """The verdict on a drive's logs.

    streams: role -> topic, type, kind, messages, median_rate_hz, max_gap_s, coverage, clock.
    timeline: start_ns, bin_ns, and per topic the messages in each bin and the holes as [start_ns, end_ns].
    """

    drive: str
    verdict: Verdict
    start_ns: int
    end_ns: int
    messages: int
    findings: tuple[Finding, ...]
    streams: dict[str, dict[str, object]] = field(default_factory=dict)
    timeline: dict[str, Any] = field(default_factory=dict)
    files: tuple[dict[str, object], ...] = ()
    policy: str = ""

    def failed(self, severity: str = "error") -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.status == "failed" and f.severity == severity)

    def to_dict(self) -> dict[str, object]:
        return {
            "schema": 1,
            "drive": self.drive,
            "verdict": self.verdict,
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "messages": self.messages,
            "rules": [finding.to_dict() for finding in self.findings],
            "streams": self.streams,
            "timeline": self.timeline,
            "files": list(self.files),
            "policy": self.policy,
        }


def check_log(
    reader: LogReader, spec: DriveSpec | None, policy: IntegrityPolicy, watch: Stopwatch | None = None
) -> LogReport:
    """Read the drive once and judge every rule; a rule that cannot be judged is skipped with its reason.

    Without a spec the streams are inferred from the message types and judged against themselves.
    """
    topics = {name: info.msgtype for name, info in reader.topics.items()}
    streams = infer_streams(topics, spec.streams if spec else {})
    kinds = {stream.topic: stream.kind for stream in streams.values()}
    with watch("read") if watch else nullcontext():
        stats = measure(reader, kinds)
    with watch("compute") if watch else nullcontext():
        findings = tuple(_findings(reader, streams, stats, policy))
        errors = any(f.status == "failed" and f.severity == "error" for f in findings)
        warned = any(f.status == "failed" for f in findings)
        return LogReport(
            drive=spec.drive if spec else "",
            verdict="failed" if errors else "warned" if warned else "passed",
            start_ns=reader.start_ns,
            end_ns=reader.end_ns,
            messages=sum(len(one.log_ns) for one in stats.values()),
            findings=findings,
            streams={
                role: _summary(stream, stats.get(stream.topic)) for role, stream in sorted(streams.items())
            },
            timeline=timeline(reader, stats, policy),
            files=tuple(_file(source) for source in reader.sources),
            policy=policy.digest,
        )


def _findings(
    reader: LogReader, streams: dict[str, StreamSpec], stats: dict[str, StreamStats], policy: IntegrityPolicy
) -> Iterator[Finding]:
    yield from _file_findings(reader, stats)
    yield from _calibration(streams, stats)
    empty = sorted(topic for topic, one in stats.items() if not one.log_ns)
    yield Finding.judge(
        "topic_has_messages",
        "warn",
        not empty,
        len(empty),
        0,
        "topics without a message: " + ", ".join(empty),
    )
    unknown = sorted(topic for topic, one in stats.items() if one.unknown_type)
    yield Finding.judge(
        "type_known",
        "warn",
        not unknown,
        len(unknown),
        0,
        "kept as bytes, no definition: " + ", ".join(unknown),
    )
    span = (reader.start_ns, reader.end_ns)
    for role, stream in sorted(streams.items()):
        yield from stream_findings(role, stream, stats.get(stream.topic), span, policy)


def _file_findings(reader: LogReader, stats: dict[str, StreamStats]) -> Iterator[Finding]:
    damaged = [f"{source.path.name}: {source.damage.first}" for source in reader.sources if source.damage]
    damaged += [f"{path.name}: {reason}" for path, _, reason in reader.rejected]
    yield Finding.judge("file_is_whole", "error", not damaged, len(damaged), 0, "; ".join(damaged))
    read = sum(len(one.log_ns) for one in stats.values())
    reason = f"the index promises {reader.message_count} messages, {read} were read"
    same = read == reader.message_count
    yield Finding.judge("count_matches_index", "error", same, read, reader.message_count, reason)
    yield Finding.judge("log_has_messages", "error", read > 0, read, 1, "no message at all")
    back = 0
    for source in reader.sources:
        in_file = sorted(source.blocks, key=lambda block: block.offset)
        back += sum(late.start_ns < early.start_ns for early, late in pairwise(in_file))
    yield Finding.judge(
        "log_is_in_order", "warn", not back, back, 0, "chunks start before the chunk before them"
    )


def _calibration(streams: dict[str, StreamSpec], stats: dict[str, StreamStats]) -> Iterator[Finding]:
    """Cameras need a camera_info beside them, and all sensors a static transform."""
    infos = [t for t, one in stats.items() if one.msgtype == CAMERA_INFO and one.log_ns]
    folders = [topic.rsplit("/", 1)[0] for topic in infos]
    cameras = {role: stream for role, stream in streams.items() if stream.kind == "camera"}
    for role, stream in sorted(cameras.items()):
        paired = (
            any(stream.topic.startswith(folder + "/") for folder in folders)
            or len(infos) == len(cameras) == 1
        )
        reason = f"no camera_info beside {stream.topic}"
        yield Finding.judge(
            "camera_has_intrinsics", "warn", paired, int(paired), 1, reason, role, stream.topic
        )
    if any(stream.kind in ("camera", "lidar", "radar") for stream in streams.values()):
        found = TF_TOPIC in stats and len(stats[TF_TOPIC].log_ns) > 0
        yield Finding.judge(
            "sensors_have_extrinsics", "warn", found, int(found), 1, "no message on /tf_static"
        )


def _summary(stream: StreamSpec, stats: StreamStats | None) -> dict[str, object]:
    found: dict[str, object] = {"topic": stream.topic, "kind": stream.kind, "messages": 0}
    if stats is None:
        return found
    times = stats.log_times
    found |= {"type": stats.msgtype, "messages": len(times), "bytes": stats.bytes}
    if len(times) > 1:
        steps = np.diff(times)
        found["median_rate_hz"] = round(NANOSECONDS / max(1.0, float(np.median(steps))), 3)
        found["mean_rate_hz"] = round((len(times) - 1) * NANOSECONDS / max(1, int(times[-1] - times[0])), 3)
        found["max_gap_s"] = round(float(steps.max()) / NANOSECONDS, 6)
    if len(stats.sensor_ns) == len(times) > 0:
        found["median_delay_s"] = round(float(np.median(times - stats.sensor_times)) / NANOSECONDS, 6)
    return found


def timeline(reader: LogReader, stats: dict[str, StreamStats], policy: IntegrityPolicy) -> dict[str, Any]:
    """Messages per time bin and topic, and the holes; bins cover the drive evenly."""
    bins = policy.timeline_bins
    span = max(1, reader.end_ns - reader.start_ns)
    topics: dict[str, Any] = {}
    for topic, one in sorted(stats.items()):
        times = one.log_times
        place = np.minimum(
            ((times - reader.start_ns).astype(np.float64) / span * bins).astype(np.int64), bins - 1
        )
        topics[topic] = {
            "counts": np.bincount(np.clip(place, 0, bins - 1), minlength=bins).tolist(),
            "holes": _holes(times, stream_kind(one.msgtype), policy),
        }
    return {"start_ns": reader.start_ns, "bin_ns": span // bins, "bins": bins, "topics": topics}


def _holes(times: np.ndarray[Any, Any], kind: str | None, policy: IntegrityPolicy) -> list[list[int]]:
    if kind is None or len(times) < policy.min_messages_for_rate:
        return []
    steps = np.diff(times)
    limit = max(policy.warn_gap_periods * float(np.median(steps)), policy.warn_gap_s * NANOSECONDS)
    return [[int(times[i]), int(times[i + 1])] for i in np.flatnonzero(steps > limit)[:1000]]


def _file(source: Any) -> dict[str, object]:
    base: dict[str, object] = {"file": source.path.name, "format": source.format, "indexed": source.indexed}
    return base | ({"damage": source.damage.to_dict()} if source.damage else {})


def timeline_png(report: LogReport) -> bytes:
    """PNG of the per-topic message timeline with its holes."""
    from av_assets.domain.logs.timeline_plot import timeline_png as draw

    return draw(report)
