"""Redaction of a drive: every camera frame is looked at, hidden where needed, and only then written.

Belongs here: the flow from a log to the files of the bundle. Does not belong here: the work on one stream.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import RedactionError
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.privacy.contact_sheet import contact_sheet, spread
from av_assets.domain.privacy.frames import ClipRow, ClipWriter
from av_assets.domain.privacy.report import BOX_SCHEMA, RedactionSummary
from av_assets.domain.privacy.stream import StreamRedactor, redact_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from av_assets.domain.logs.blocks import RawMessage
    from av_assets.domain.logs.drive_spec import StreamSpec
    from av_assets.domain.privacy.detectors import Detector
    from av_assets.domain.privacy.tracks import Region
    from av_assets.policies.redaction import RedactionPolicy

__all__ = ["MessageSource", "redact_drive", "redact_stream"]


class MessageSource(Protocol):
    """The part of the log reader that redaction uses."""

    def messages(self, topics: Sequence[str]) -> Iterator[RawMessage]: ...


def redact_drive(
    reader: MessageSource,
    cameras: Mapping[str, StreamSpec],
    detectors: Sequence[Detector],
    policy: RedactionPolicy,
    out_dir: Path,
    watch: Stopwatch | None = None,
) -> RedactionSummary:
    """Redact all cameras (role -> stream) in one pass over the log and write the bundle into `out_dir`.

    Files: `<role>.parquet`, `boxes.parquet`, `redaction_report.json`, `contact_sheet.png`. Without a camera
    nothing is written and the summary's note says so.

    Raises:
        RedactionError: `no_frame_released`, frames came in and not one went out; `no_detector`.
    """
    models = {d.kind: d.model_digest for d in detectors}
    if not cameras:
        return RedactionSummary({}, models, policy.version, policy.digest, note="drive has no camera")
    if not detectors:
        raise RedactionError("no detector given", code="no_detector", remedy="fetch the pretrained weights")
    watch = watch or Stopwatch()
    streams = _Streams(cameras, detectors, policy, out_dir, watch)
    streams.run(reader)
    summary = RedactionSummary(streams.counts, models, policy.version, policy.digest)
    if summary.frames_in and not summary.released:
        reasons = ", ".join(f"{code}: {n}" for code, n in sorted(summary.dropped.items()))
        raise RedactionError(
            f"none of {summary.frames_in} frames released ({reasons})", code="no_frame_released"
        )
    with watch("write"):
        (out_dir / "redaction_report.json").write_text(summary.to_json(), "utf-8")
        paths = {role: out_dir / f"{role}.parquet" for role in sorted(cameras)}
        if frames := spread(paths, policy.contact_sheet_frames):
            (out_dir / "contact_sheet.png").write_bytes(contact_sheet(frames))
    return summary


class _Streams:
    """The cameras of one drive with their writers."""

    def __init__(
        self, cameras: Mapping[str, StreamSpec], detectors: Sequence[Detector], policy: RedactionPolicy,
        out_dir: Path, watch: Stopwatch,
    ) -> None:  # fmt: skip
        self._out_dir, self._watch = out_dir, watch
        self._roles = {spec.topic: role for role, spec in sorted(cameras.items())}
        self._redactors = {
            role: StreamRedactor(detectors, policy, spec.rate_hz, watch)
            for role, spec in sorted(cameras.items())
        }
        self.counts = {role: redactor.counts for role, redactor in self._redactors.items()}
        self._boxes: list[dict[str, object]] = []

    def run(self, reader: MessageSource) -> None:
        with ExitStack() as stack:
            writers = {
                r: stack.enter_context(ClipWriter(self._out_dir / f"{r}.parquet")) for r in self._redactors
            }
            for raw in self._timed(reader.messages(sorted(self._roles))):
                role = self._roles[raw.topic]
                self._write(role, writers[role], self._redactors[role].push(raw))
            for role, redactor in self._redactors.items():
                self._write(role, writers[role], redactor.finish())
        order = sorted(self._boxes, key=lambda b: (b["role"], b["sensor_ns"], b["kind"], b["x1"], b["y1"]))
        pq.write_table(pa.Table.from_pylist(order, schema=BOX_SCHEMA), self._out_dir / "boxes.parquet")

    def _timed(self, messages: Iterator[RawMessage]) -> Iterator[RawMessage]:
        while True:
            with self._watch("read"):
                raw = next(messages, None)
            if raw is None:
                return
            yield raw

    def _write(self, role: str, writer: ClipWriter, released: Iterator[tuple[ClipRow, list[Region]]]) -> None:
        for row, regions in released:
            with self._watch("write"):
                writer.write(row)
            for region in regions:
                sides = dict(zip(("x1", "y1", "x2", "y2"), map(float, region.box), strict=True))
                self._boxes.append(
                    {
                        "role": role,
                        "sensor_ns": row.sensor_ns,
                        "kind": region.kind,
                        "score": region.score,
                        **sides,
                    }
                )
