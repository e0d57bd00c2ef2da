"""A drive becomes clips: pass one plans from stamps, pass two streams payloads into their rows.

Payloads in memory are those of the clips that are still incomplete: one clip, for a log in time order.
Belongs here: the order of work. Does not belong here: matching, formats, numbers of the policy.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.sync.frames import CameraFrames
from av_assets.domain.sync.grid import NS_PER_S, Ns, ReferenceGrid
from av_assets.domain.sync.payloads import PayloadStreamer
from av_assets.domain.sync.plan import MatchedStream, plan_drive
from av_assets.domain.sync.report import residual_png, stream_report
from av_assets.domain.sync.resample import resample_signals
from av_assets.domain.sync.shards import (
    clip_path,
    clip_table,
    points_column,
    signals_column,
    struct_column,
    tracks_column,
    write_clip,
)
from av_assets.domain.sync.streams import PAYLOAD_KINDS, Survey, survey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.logs.drive_spec import DriveSpec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.policies.sync import SyncPolicy

REPORT_SCHEMA = 1


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
            grid, matched = plan_drive(reader, found, cameras, policy)
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
        streams[role] = {
            "topic": s.topic,
            "kind": s.kind,
            "unreadable": unreadable.get(role, 0),
            "azimuth_phase_ns": s.azimuth_ns,
            **figures,
        }
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
