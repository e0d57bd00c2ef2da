"""Redaction of a drive: every camera frame is looked at, hidden where needed, and only then written.

A drive is made part by part: one part is one window of log time of one camera, and a segment that is never made twice.
Belongs here: the flow from a log to the files of the bundle. Does not belong here: the work on one window (stream),
where segments are kept.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import RedactionError
from av_assets.domain.evidence.digests import canonical_json, sha256_file
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.privacy.contact_sheet import contact_sheet, spread
from av_assets.domain.privacy.frames import ClipWriter, redacted_parts
from av_assets.domain.privacy.modes import check_detector
from av_assets.domain.privacy.places import private_intervals
from av_assets.domain.privacy.report import (
    BOX_SCHEMA,
    REPORT_FILE,
    FileRecord,
    RedactionSummary,
    StreamCounts,
)
from av_assets.domain.privacy.stream import WindowRedactor
from av_assets.domain.privacy.windows import MessageSource, Window, camera_stream, messages_of, windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from av_assets.domain.evidence.segments import Segments
    from av_assets.domain.logs.drive_spec import StreamSpec
    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.privacy.detectors import Detector
    from av_assets.domain.privacy.places import Interval
    from av_assets.domain.privacy.stream import Released
    from av_assets.policies.redaction import RedactionPolicy

__all__ = ["BOXES_FILE", "REPORT_FILE", "SHEET_FILE", "MessageSource", "redact_drive"]
BOXES_FILE: Final = "boxes.parquet"
SHEET_FILE: Final = "contact_sheet.png"
_PART, _COUNTS = "part.parquet", "counts.json"


def redact_drive(
    reader: MessageSource,
    cameras: Mapping[str, StreamSpec],
    detector: Detector,
    policy: RedactionPolicy,
    out_dir: Path,
    segments: Segments,
    watch: Stopwatch | None = None,
    policies: Mapping[str, Mapping[str, str]] | None = None,
) -> RedactionSummary:
    """Redact all cameras (role -> stream), part by part, and write the bundle into `out_dir`.

    Files: `<role>/<NNNNN>.parquet`, `boxes.parquet`, `redaction_report.json`, `contact_sheet.png`. A part is a pure
    function of log, policy and models: the bundle does not depend on which segments were there before. Without a
    camera nothing is written and the summary's note says so.

    Args:
        policies: further policies for the report, as name -> {version, digest}: those that made the detector.

    Raises:
        RedactionError: `no_frame_released`, frames came in and not one went out; `no_detector` and
            `strict_needs_detector`, before any frame is read.
    """
    named = {policy.name: {"version": policy.version, "digest": policy.digest}, **(policies or {})}
    if not cameras:
        note = "drive has no camera"
        return RedactionSummary({}, dict(detector.models), policy.mode, policy.cover, named, note=note)
    check_detector(detector.kinds, policy)
    watch = watch or Stopwatch()
    private = private_intervals(reader, policy)
    maker = _Maker(reader, detector, policy, private, watch)
    made = {role: list(maker.segments(role, spec, segments)) for role, spec in sorted(cameras.items())}
    counts, files = _assembled(made, out_dir, watch)
    _refuse_nothing(counts)
    with watch("write"):
        files += _sheet(sorted(cameras), policy, out_dir)
        summary = RedactionSummary(
            counts, dict(detector.models), policy.mode, policy.cover, named, files, private
        )
        (out_dir / REPORT_FILE).write_bytes(summary.to_json())
    return summary


class _Maker:
    """Makes the segments of one drive, or takes those that are there."""

    def __init__(
        self,
        reader: MessageSource,
        detector: Detector,
        policy: RedactionPolicy,
        private: Sequence[Interval],
        watch: Stopwatch,
    ) -> None:
        self._reader, self._detector, self._policy = reader, detector, policy
        self._private, self._watch = private, watch

    def segments(self, role: str, spec: StreamSpec, segments: Segments) -> Iterator[Path]:
        """Folders with the part, its boxes and its counts, in order of log time."""
        stream = camera_stream(self._reader, spec.topic, spec.rate_hz)
        if stream is None:
            return
        for number, window in enumerate(windows(self._reader, stream, self._policy)):

            def make(folder: Path, number: int = number, window: Window = window) -> None:
                messages = _timed(messages_of(self._reader, stream, window), self._watch)
                self._make(folder, role, number, window, messages)

            yield segments.once(f"{role}/{number:05d}", make)

    def _make(
        self, folder: Path, role: str, number: int, window: Window, messages: Iterator[RawMessage]
    ) -> None:
        redactor = WindowRedactor(self._detector, self._policy, window, self._private, self._watch)
        boxes: list[dict[str, object]] = []
        with ClipWriter(folder / _PART) as writer:
            for released in redactor.run(messages):
                boxes += _boxes(role, number, released)
                with self._watch("write"):
                    writer.write(released.row)
        boxes.sort(key=lambda b: (b["sensor_ns"], b["kind"], b["x1"], b["y1"]))
        pq.write_table(pa.Table.from_pylist(boxes, schema=BOX_SCHEMA), folder / BOXES_FILE)
        part = folder / _PART
        record = {"sha256": sha256_file(part), "bytes": part.stat().st_size, "rows": writer.rows}
        counts = redactor.counts.to_dict()
        (folder / _COUNTS).write_bytes(canonical_json({"part": record, "counts": counts}))


def _timed(messages: Iterator[RawMessage], watch: Stopwatch) -> Iterator[RawMessage]:
    while True:
        with watch("read"):
            raw = next(messages, None)
        if raw is None:
            return
        yield raw


def _boxes(role: str, part: int, released: Released) -> list[dict[str, object]]:
    return [
        {
            "role": role,
            "sensor_ns": released.row.sensor_ns,
            "kind": region.kind,
            "score": region.score,
            **dict(zip(("x1", "y1", "x2", "y2"), map(float, region.box), strict=True)),
            "found": region.found,
            "part": part,
            "track": region.track,
        }
        for region in released.hidden
    ]


def _assembled(
    made: Mapping[str, Sequence[Path]], out_dir: Path, watch: Stopwatch
) -> tuple[dict[str, StreamCounts], list[FileRecord]]:
    """Parts linked into the bundle, boxes of all parts in one file (one part in memory), counts by role."""
    counts: dict[str, StreamCounts] = {}
    files: list[FileRecord] = []
    boxes = out_dir / BOXES_FILE
    with watch("write"), pq.ParquetWriter(boxes, BOX_SCHEMA) as writer:
        for role, folders in made.items():
            counts[role] = StreamCounts()
            for number, folder in enumerate(folders):
                path = f"{role}/{number:05d}.parquet"
                (out_dir / role).mkdir(exist_ok=True)
                _link(folder / _PART, out_dir / path)
                told = json.loads((folder / _COUNTS).read_bytes())
                counts[role] += StreamCounts.from_dict(told["counts"])
                files.append(FileRecord(path, **told["part"]))
                writer.write_table(pq.read_table(folder / BOXES_FILE, schema=BOX_SCHEMA))
    return counts, [*files, _record(boxes, pq.read_metadata(boxes).num_rows)]


def _link(source: Path, target: Path) -> None:
    """The same bytes under a second name, or a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _record(path: Path, rows: int = 0) -> FileRecord:
    return FileRecord(path.name, sha256_file(path), path.stat().st_size, rows)


def _refuse_nothing(counts: Mapping[str, StreamCounts]) -> None:
    total = StreamCounts.of(counts.values())
    if total.frames_in and not total.released:
        reasons = ", ".join(f"{code}: {n}" for code, n in sorted(total.dropped.items()))
        raise RedactionError(
            f"none of {total.frames_in} frames released ({reasons})", code="no_frame_released"
        )


def _sheet(roles: Sequence[str], policy: RedactionPolicy, out_dir: Path) -> list[FileRecord]:
    parts = {role: redacted_parts(out_dir, role) for role in roles}
    frames = spread(parts, policy.contact_sheet_frames)
    if not frames:
        return []
    sheet = out_dir / SHEET_FILE
    sheet.write_bytes(contact_sheet(frames))
    return [_record(sheet)]
