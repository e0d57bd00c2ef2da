"""A drive becomes clips: one pass leaves stamps and signals on disk, then segment after segment is filled.

Memory holds the samples of one segment's signals and the payloads of one clip. The scan and every segment are
kept once finished, so an interrupted drive goes on where it stood, and its files do not tell of it.
Belongs here: the order of work. Does not belong here: matching, formats, numbers of the policy.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import SyncError
from av_assets.domain.evidence.segments import FolderSegments
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.sync.clip_maker import ACCOUNT_FILE, ClipMaker, Sources
from av_assets.domain.sync.frames import CameraFrames
from av_assets.domain.sync.plan import Plan, plan_drive
from av_assets.domain.sync.report import drive_report
from av_assets.domain.sync.resample import Resampler
from av_assets.domain.sync.residual_plot import residual_png
from av_assets.domain.sync.scan import Scan, scan_log
from av_assets.domain.sync.stamps import refuse_late
from av_assets.domain.sync.streams import Survey, survey
from av_assets.policies.clocks import ClockPolicy

if TYPE_CHECKING:
    from av_assets.domain.evidence.segments import Segments
    from av_assets.domain.geometry.ledger import CalibrationLedger
    from av_assets.domain.logs.drive_spec import DriveSpec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.policies.sync import SyncPolicy

SCAN_SEGMENT = "scan"


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
    segments: Segments | None = None,
    clocks: ClockPolicy | None = None,
    ledger: CalibrationLedger | None = None,
) -> SyncSummary:
    """Write clips/, calibration.json, calibration_in_log.json, sync_report.json and residuals.png of one drive.

    Args:
        redacted_dir: folder of the `<role>/<NNNNN>.parquet` parts of redaction, the only source of pictures;
            None: no camera.
        drive_dir: folder that a DBC path in `spec` is relative to; None: beside the log.
        segments: where finished work is kept: `scan`, then one per policy.segment_s; None: nowhere.
        clocks: how the clocks of topics are judged and repaired; None: the shipped policy.
        ledger: calibrations of the fleet, for sensors that the log does not calibrate; None: nothing is known.

    A log without a stream of a sensor gives no clips and a note. Parts of `watch`: read, decode, compute,
    write; writing a clip overlaps with reading the next one.

    Raises:
        SyncError: empty_span (no message at all), bad_dbc, bad_redacted_clip, raw_image_topic, out_of_order and
            signal_boundary (where the policy says `error`), clip_too_large.
    """
    watch, clocks = watch or Stopwatch(), clocks or ClockPolicy.load()
    if not reader.message_count:
        raise SyncError("the log holds no message", code="empty_span", drive=spec.drive)
    out_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if segments is None:
            kept = stack.enter_context(tempfile.TemporaryDirectory(prefix=".segments-", dir=out_dir))
            segments = FolderSegments(Path(kept))
        with watch("read"):
            found = survey(reader, spec, ledger)
            cameras = _open_cameras(redacted_dir, found, stack)
        scanned = segments.once(SCAN_SEGMENT, partial(scan_log, reader, found, policy, drive_dir, watch))
        with watch("compute"):
            scan = Scan(scanned, found, spec, policy, clocks)
            for group in scan.signals.groups:
                refuse_late(group.topic, group.late, policy)
            plan = plan_drive(reader, found, scan, cameras, policy, clocks)
            resampler = Resampler(scan.signals, policy)
        sources = Sources(spec.drive, reader, found, cameras, scan.signals)
        accounts = _segments(segments, sources, plan, resampler, policy, watch, out_dir) if plan else []
        report = drive_report(spec, found, scan, plan, resampler, accounts, policy)
        with watch("write"):
            found.calibration.save(out_dir / "calibration.json")
            found.in_log.save(out_dir / "calibration_in_log.json")
            text = json.dumps(report, indent=1, sort_keys=True, allow_nan=False)
            (out_dir / "sync_report.json").write_text(text + "\n", "utf-8")
            (out_dir / "residuals.png").write_bytes(residual_png(report))
    return SyncSummary(report["rows"]["written"], report["clips"], bool(report["residual_ok"]), report)


def _open_cameras(redacted_dir: Path | None, found: Survey, stack: ExitStack) -> dict[str, CameraFrames]:
    cameras = {}
    for role, stream in found.streams.items():
        if redacted_dir is not None and stream.kind == "camera":
            frames = CameraFrames(redacted_dir, role)
            stack.callback(frames.close)
            if len(frames.sensor_ns):
                cameras[role] = frames
    return cameras


def _segments(
    segments: Segments, sources: Sources, plan: Plan, resampler: Resampler, policy: SyncPolicy,
    watch: Stopwatch, out_dir: Path,
) -> list[dict[str, Any]]:  # fmt: skip
    """Make what is missing, put the clips of all segments into out_dir, and give their accounts."""
    maker = ClipMaker(sources, plan, resampler, policy, watch)
    accounts = []
    for number in plan.segments:
        folder = segments.once(f"{number:05d}", partial(maker.make, number))
        accounts.append(json.loads((folder / ACCOUNT_FILE).read_text("utf-8")))
        with watch("write"):
            for clip in sorted((folder / "clips").glob("*.parquet")):
                _lay_out(clip, out_dir / "clips" / clip.name)
    return accounts


def _lay_out(source: Path, target: Path) -> None:
    """The same bytes under another name: a hard link where the file system has them, else a copy."""
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
