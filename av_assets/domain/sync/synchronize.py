"""A drive becomes clips: pass one plans from stamps, pass two streams payloads into their rows.

Payloads in memory are those of the clips that are still incomplete: one clip, for a log in time order.
Belongs here: the order of work. Does not belong here: matching, formats, numbers of the policy.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.errors import SyncError
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.sync.frames import CameraFrames
from av_assets.domain.sync.grid import NS_PER_S, Ns, ReferenceGrid, period_of, reference_grid
from av_assets.domain.sync.match import Match, measured_phase, nearest
from av_assets.domain.sync.payloads import PayloadStreamer
from av_assets.domain.sync.report import residual_png, stream_report
from av_assets.domain.sync.resample import resample_signals
from av_assets.domain.sync.shards import (
    Times,
    clip_path,
    clip_table,
    points_column,
    signals_column,
    struct_column,
    tracks_column,
    write_clip,
)
from av_assets.domain.sync.streams import PAYLOAD_KINDS, Stamps, Survey, judge_clock, survey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.logs.drive_spec import DriveSpec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.policies.sync import SyncPolicy

REPORT_SCHEMA = 1


class MatchedStream(NamedTuple):
    """One payload stream and where its samples go."""

    kind: str
    topic: str
    stamps: Stamps
    match: Match
    phase_ns: int
    tolerance_ns: int

    def times(self, rows: slice) -> Times:
        index = self.match.sample[rows]
        valid = index >= 0
        take = np.where(valid, index, 0)
        return Times(self.stamps.sensor_ns[take], self.stamps.log_ns[take], self.match.delta_ns[rows], valid)


@dataclass(frozen=True)
class SyncSummary:
    """What was written. `residual_ok`: p95 of every payload stream lies within its tolerance."""

    frames: int
    clips: int
    residual_ok: bool
    report: dict[str, Any] = field(repr=False)


def synchronize_drive(
    reader: LogReader,
    spec: DriveSpec,
    redacted_dir: Path | None,
    policy: SyncPolicy,
    out_dir: Path,
    watch: Stopwatch | None = None,
    drive_dir: Path | None = None,
) -> SyncSummary:
    """Write clips/, calibration.json, sync_report.json and residuals.png of one drive into `out_dir`.

    Args:
        redacted_dir: folder of `<role>.parquet` files of redaction, the only source of pictures; None:
        no camera.
        drive_dir: folder that a DBC path in `spec` is relative to; None: beside the log.

    Raises:
        SyncError: empty_span (no sample at all), bad_dbc, bad_redacted_clip, raw_image_topic.
    """
    watch = watch or Stopwatch()
    with ExitStack() as stack:
        with watch("read"):
            found = survey(reader, spec, policy, drive_dir)
            cameras = _open_cameras(redacted_dir, found, stack)
        with watch("compute"):
            grid, matched = _plan(found, cameras, policy)
            signals, signal_report = resample_signals(found, grid.ref_ns, policy)
        rows = _clip_rows(grid.ref_ns, round(policy.clip_s * NS_PER_S))
        streamer = PayloadStreamer(reader, found, _payload_indices(matched), rows)
        for number, clip in enumerate(rows):
            with watch("read"):
                payloads = streamer.clip(number)
            with watch("write"):
                columns = _columns(matched, cameras, payloads, signals, clip)
                table = clip_table(spec.drive, number, clip.start, grid.ref_ns[clip], columns)
                path = clip_path(out_dir, number)
                write_clip(table, path, policy.structured_zstd_level, policy.points_zstd_level)
    report = _report(spec, found, grid, matched, signal_report, streamer.unreadable, len(rows), policy)
    with watch("write"):
        found.calibration.save(out_dir / "calibration.json")
        text = json.dumps(report, indent=1, sort_keys=True, allow_nan=False)
        (out_dir / "sync_report.json").write_text(text + "\n", "utf-8")
        (out_dir / "residuals.png").write_bytes(residual_png(report))
    return SyncSummary(len(grid.ref_ns), len(rows), bool(report["residual_ok"]), report)


def _open_cameras(redacted_dir: Path | None, found: Survey, stack: ExitStack) -> dict[str, CameraFrames]:
    cameras = {}
    for role, stream in found.streams.items():
        path = redacted_dir / f"{role}.parquet" if redacted_dir and stream.kind == "camera" else None
        if path is not None and path.is_file():
            cameras[role] = CameraFrames(path)
            stack.callback(cameras[role].close)
    return cameras


def _plan(
    found: Survey, cameras: Mapping[str, CameraFrames], policy: SyncPolicy
) -> tuple[ReferenceGrid, dict[str, MatchedStream]]:
    """The grid, and for each camera, lidar and radar which sample stands in which row."""
    offset_ns = round(policy.max_clock_offset_s * NS_PER_S)
    kinds: dict[str, tuple[str, str, Stamps]] = {}
    for role, stream in found.streams.items():
        if role in cameras:
            stamps = judge_clock(cameras[role].sensor_ns, cameras[role].log_ns, offset_ns)
            kinds[role] = ("camera", stream.topic, stamps)
        elif stream.kind in PAYLOAD_KINDS and len(found.stamps[stream.topic].used_ns):
            kinds[role] = (stream.kind, stream.topic, found.stamps[stream.topic])
    of_kind = {
        k: {r: s.used_ns for r, (kind, _, s) in kinds.items() if kind == k} for k in ("lidar", "camera")
    }
    span_ns = _span(found, [stamps for _, _, stamps in kinds.values()])
    grid = reference_grid(
        of_kind["lidar"], of_kind["camera"], span_ns, policy.fixed_rate_hz, policy.reference_role
    )
    return grid, {role: _match(role, *given, grid, policy) for role, given in kinds.items()}


def _span(found: Survey, payloads: list[Stamps]) -> tuple[int, int]:
    """Half-open time that any stream covers."""
    used = [s.used_ns for s in [*found.stamps.values(), *payloads] if len(s.used_ns)]
    if not used:
        raise SyncError("the log holds no sample of any stream", code="empty_span")
    return int(min(s.min() for s in used)), int(max(s.max() for s in used)) + 1


def _match(
    role: str, kind: str, topic: str, stamps: Stamps, grid: ReferenceGrid, policy: SyncPolicy
) -> MatchedStream:
    period_ns = max(period_of(np.sort(stamps.used_ns)), grid.period_ns)
    tolerance_s = policy.tolerance_s.get(role, period_ns / NS_PER_S / 2 + policy.jitter_s)
    phase_ns = 0
    if role in policy.phase_s:
        phase_ns = round(policy.phase_s[role] * NS_PER_S)
    elif policy.expected_phase == "measured" and role != grid.role:
        phase_ns = measured_phase(grid.ref_ns, stamps.used_ns)
    tolerance_ns = round(tolerance_s * NS_PER_S)
    match = nearest(grid.ref_ns, stamps.used_ns, tolerance_ns, phase_ns, policy.one_to_one)
    return MatchedStream(kind, topic, stamps, match, phase_ns, tolerance_ns)


def _clip_rows(ref_ns: Ns, clip_ns: int) -> list[slice]:
    """Rows of each clip: half-open windows of clip_ns from the first row; windows without rows make no
    clip."""
    window = (ref_ns - ref_ns[0]) // clip_ns
    starts = np.flatnonzero(np.diff(window, prepend=-1))
    return [slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(ref_ns)], strict=True)]


def _payload_indices(matched: Mapping[str, MatchedStream]) -> dict[str, Ns]:
    return {role: stream.match.sample for role, stream in matched.items() if stream.kind in PAYLOAD_KINDS}


def _columns(
    matched: Mapping[str, MatchedStream],
    cameras: Mapping[str, CameraFrames],
    payloads: Mapping[str, list[Any]],
    signals: Mapping[str, Array],
    clip: slice,
) -> dict[str, Any]:
    """The sensor columns of one clip, in role order, signals last."""
    columns = {}
    for role, stream in sorted(matched.items()):
        times = stream.times(clip)
        if stream.kind == "camera":
            columns[role] = struct_column(cameras[role].take(stream.match.sample[clip]), times)
            continue
        items = payloads[role]
        readable = np.array([item is not None for item in items], np.bool_)
        leading = points_column(items) if stream.kind == "lidar" else tracks_column(items)
        columns[role] = struct_column(leading, times._replace(valid=times.valid & readable))
    if signals:
        columns["signals"] = signals_column({name: values[clip] for name, values in signals.items()})
    return columns


def _report(
    spec: DriveSpec, found: Survey, grid: ReferenceGrid, matched: Mapping[str, MatchedStream],
    signal_report: dict[str, Any], unreadable: Mapping[str, int], clips: int, policy: SyncPolicy,
) -> dict[str, Any]:  # fmt: skip
    streams = {}
    for role, s in sorted(matched.items()):
        figures = stream_report(
            grid.ref_ns, s.stamps, s.match, s.phase_ns, s.tolerance_ns, policy.histogram_bins
        )
        streams[role] = {"topic": s.topic, "kind": s.kind, "unreadable": unreadable.get(role, 0), **figures}
    absent = [
        f"{r}: no redacted frames"
        for r, s in found.streams.items()
        if s.kind == "camera" and r not in matched
    ]
    declared = [f"{r}: not in the log" for r in sorted(spec.streams) if r not in found.streams]
    return {
        "schema": REPORT_SCHEMA,
        "drive": spec.drive,
        "policy": policy.digest,
        "reference": {
            "kind": grid.kind,
            "role": grid.role,
            "period_ns": grid.period_ns,
            "frames": len(grid.ref_ns),
            "start_ns": int(grid.ref_ns[0]),
            "end_ns": int(grid.ref_ns[-1]),
        },
        "clips": clips,
        "streams": streams,
        "signals": signal_report,
        "unreadable_messages": found.unreadable,
        "residual_ok": all(stream["residual_ok"] for stream in streams.values()),
        "notes": [*found.notes, *absent, *declared],
    }
