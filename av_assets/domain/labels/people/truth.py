"""Auto-labels and ground truth of a drive, by frame, in the form in which annotators see them.

Belongs here: lookup by frame and the labelling filter. Does not belong here: annotating.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow.parquet as pq

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.people.annotators import DrawnBox
from av_assets.domain.labels.schema import CLASSES, LABELS_FILE, REPORT_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa

    from av_assets.policies.annotation import AnnotationPolicy


class Moment(Protocol):
    """A frame or task: its reference stamp and the exposure of its camera."""

    @property
    def ref_ns(self) -> int: ...
    @property
    def camera_ns(self) -> int: ...


def _box(row: Mapping[str, Any], object_id: int) -> DrawnBox:
    xyxy = (float(row["x1"]), float(row["y1"]), float(row["x2"]), float(row["y2"]))
    return DrawnBox(row["cls"], xyxy, object_id, row["occlusion"], row["distance_m"], row.get("label_id"))


@dataclass(frozen=True)
class AutoFrames:
    """The auto-labels of a drive by reference frame; `rows` in file order."""

    camera: str
    every_kth_frame: int
    labeller_digest: str
    reason: str
    rows: Mapping[int, list[dict[str, Any]]]

    @classmethod
    def read(cls, folder: Path) -> AutoFrames:
        """Read an auto-label bundle.

        Raises:
            LabelError: no report, or one that does not say camera, frames and labeller.
        """
        path = folder / REPORT_FILE
        try:
            report = json.loads(path.read_text("utf-8"))
            rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
            for row in pq.read_table(folder / LABELS_FILE).to_pylist():
                rows[row["ref_ns"]].append(row)
            every = int(report["every_kth_frame"])
            return cls(report["camera"], every, report["labeller_digest"], report["reason"], dict(rows))
        except (OSError, ValueError, KeyError) as error:
            remedy = "rematerialize auto_labels of the drive"
            raise LabelError(
                "not an auto-label bundle", code="bad_auto_labels", file=path, remedy=remedy
            ) from error

    def of(self, frame: Moment) -> list[dict[str, Any]]:
        return self.rows.get(frame.ref_ns, [])

    def boxes(self, frame: Moment) -> list[DrawnBox]:
        return [_box(row, -1) for row in self.of(frame)]


class TruthFrames:
    """Ground truth of one camera, found by camera stamp within the policy's tolerance."""

    def __init__(self, truth: Mapping[str, pa.Table], camera: str, policy: AnnotationPolicy) -> None:
        self.size = (0, 0)
        self._tolerance_ns = round(policy.truth_tolerance_ms * 1e6)
        self._masks: dict[int, dict[str, Any]] = {}
        self._boxes: dict[int, list[DrawnBox]] = defaultdict(list)
        # Frames without objects have no boxes, but every frame has a mask: masks tell what is known.
        for row in truth["drivable"].to_pylist() if "drivable" in truth else []:
            if row["role"] == camera:
                self._masks[row["sensor_ns"]] = row
                self.size = (row["width"], row["height"])
        for row in truth["boxes"].to_pylist() if "boxes" in truth else []:
            if row["role"] == camera and _is_labelled(row, policy):
                self._boxes[row["sensor_ns"]].append(_box(row, row["object_id"]))
        self._stamps = np.array(sorted(self._masks), dtype=np.int64)

    def _stamp(self, frame: Moment) -> int | None:
        if len(self._stamps) == 0:
            return None
        place = int(np.searchsorted(self._stamps, frame.camera_ns))
        near = self._stamps[max(place - 1, 0) : place + 1]
        best = int(near[np.argmin(np.abs(near - frame.camera_ns))])
        return best if abs(best - frame.camera_ns) <= self._tolerance_ns else None

    def covers(self, frame: Moment) -> bool:
        return self._stamp(frame) is not None

    def boxes(self, frame: Moment) -> list[DrawnBox]:
        """What is to be labelled in the frame; empty where nothing is known."""
        stamp = self._stamp(frame)
        return [] if stamp is None else self._boxes.get(stamp, [])

    def mask(self, frame: Moment) -> bytes | None:
        """PNG of the drivable area."""
        stamp = self._stamp(frame)
        return None if stamp is None else bytes(self._masks[stamp]["mask"])


def _is_labelled(row: Mapping[str, Any], policy: AnnotationPolicy) -> bool:
    return bool(
        row["cls"] in CLASSES
        and row["y2"] - row["y1"] >= policy.min_height_px
        and row["occlusion"] <= policy.max_occlusion
        and row["distance_m"] <= policy.max_distance_m
    )
