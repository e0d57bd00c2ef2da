"""What a bundle says about every labelled frame of the test split, as a table that outlives the evaluation.

Belongs here: running the model over a split, keeping the answers, joining them with the labels. Does not
belong here: metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import DatasetError
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.metrics.boxes import Boxes
from av_assets.domain.metrics.boxes3d import WIDTH, Boxes3d
from av_assets.domain.metrics.judged3d import Frame3d, judged
from av_assets.domain.metrics.nuscenes import rules_of
from av_assets.domain.metrics.segmentation import pixel_counts
from av_assets.domain.metrics.slices import Outcome
from av_assets.domain.models.golden import (
    GoldenSpec,
    Labels,
    Scene,
    read_cuboids,
    read_labels,
    read_scenes,
    read_view,
)
from av_assets.domain.models.runtime import Detections, OnnxPerception
from av_assets.policies.evaluation import EvaluationPolicy

BATCH: Final = 8
SCHEMA: Final = pa.schema(
    [
        pa.field("drive", pa.string()),
        pa.field("ref_ns", pa.int64()),
        pa.field("boxes", pa.list_(pa.float32())),  # x1 y1 x2 y2 of all boxes, camera px
        pa.field("scores", pa.list_(pa.float32())),
        pa.field("classes", pa.list_(pa.int64())),
        # x y z l w h yaw vx vy of all cuboids, ego frame; null where the network has no 3D head
        pa.field("boxes3d", pa.list_(pa.float32())),
        pa.field("scores3d", pa.list_(pa.float32())),
        pa.field("classes3d", pa.list_(pa.int64())),
        pa.field("pixels", pa.list_(pa.int64())),  # tn fp fn tp of the drivable area; null where not labelled
    ]
)


def split_scenes(root: Path, spec: GoldenSpec) -> Iterator[Scene]:
    """Labelled frames of the test split, drive by drive."""
    return (scene for drive in spec.drives("test") for scene in read_scenes(root, drive, spec))


def predictions(
    model: OnnxPerception, root: Path, spec: GoldenSpec, path: Path, key: dict[bytes, bytes], watch: Stopwatch
) -> pa.Table:
    """The table at `path` if it was made with the same `key`, else a new one, written there.

    Raises:
        DatasetError: the test split has no labelled frame with a picture.
    """
    if path.exists():
        kept = pq.read_table(path)
        if kept.schema.metadata == key:
            return kept
    rows: list[dict[str, Any]] = []
    scenes = split_scenes(root, spec)
    while True:
        with watch("read"):
            batch = tuple(islice(scenes, BATCH))
        if not batch:
            break
        with watch("compute"):
            rows += _predict(model, batch)
    if not rows:
        raise DatasetError("test split has no labelled frame", code="empty_split", file=root)
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(key))
    pq.write_table(table, path)
    return table


def _predict(model: OnnxPerception, scenes: tuple[Scene, ...]) -> list[dict[str, Any]]:
    # One drive may end and another begin within a batch, and with it the calibration.
    rows = []
    for drive in dict.fromkeys(s.drive for s in scenes):
        part = [s for s in scenes if s.drive == drive]
        found = answers(model, part)
        solid = "boxes3d" in model.outputs
        rows += [_row(scene, detections, solid) for scene, detections in zip(part, found, strict=True)]
    return rows


def answers(model: OnnxPerception, scenes: Sequence[Scene]) -> list[Detections]:
    """What the model says to scenes of one drive, with all of their sensors."""
    frames, points = [s.frame for s in scenes], [s.points_ego for s in scenes]
    return model.predict(frames, points, scenes[0].view, [s.tracks for s in scenes])


def _row(scene: Scene, found: Detections, solid: bool) -> dict[str, Any]:
    mask = scene.labels.drivable()
    return {
        "drive": scene.drive,
        "ref_ns": scene.labels.ref_ns,
        "boxes": found.boxes.ravel(),
        "scores": found.scores,
        "classes": found.classes,
        "boxes3d": found.boxes3d.ravel() if solid else None,
        "scores3d": found.scores3d if solid else None,
        "classes3d": found.classes3d if solid else None,
        "pixels": pixel_counts(mask, found.drivable) if mask is not None and found.drivable.size else None,
    }


def outcome_of(table: pa.Table, root: Path, spec: GoldenSpec, policy: EvaluationPolicy) -> Outcome:
    """Predictions joined with the labels of the same frames; frame ids are row numbers."""
    labels = {
        (drive, item.ref_ns): item for drive in spec.drives("test") for item in read_labels(root, drive, spec)
    }
    solid = _Solids(root, spec, policy)
    truth, found, ignore, drives, clips, pixels = [], [], [], [], [], []
    for index, row in enumerate(table.to_pylist()):
        item = labels[row["drive"], row["ref_ns"]]
        boxes = Boxes.of_frame(index, row["boxes"], row["classes"], row["scores"])
        found.append(boxes.where(boxes.score >= policy.score_floor))
        truth.append(Boxes.of_frame(index, item.boxes, item.classes))
        ignore.append(_ignored(item, policy))
        drives.append(row["drive"])
        clips.append(item.clip_id)
        pixels.append(row["pixels"] or [0, 0, 0, 0])
        solid.add(row, item)
    truth3d, found3d = solid.judged()
    return Outcome(
        drives=tuple(drives),
        clips=tuple(clips),
        truth=Boxes.concat(truth),
        ignore=np.concatenate(ignore),
        found=Boxes.concat(found),
        pixels=np.array(pixels, np.int64),
        stamps=tuple(table["ref_ns"].to_pylist()),
        truth3d=truth3d,
        found3d=found3d,
    )


class _Solids:
    """Frames with 3D truth, one after the other, with what was found in them."""

    def __init__(self, root: Path, spec: GoldenSpec, policy: EvaluationPolicy) -> None:
        self._spec, self._policy, self._frames = spec, policy, list[Frame3d | None]()
        drives = spec.drives("test")
        self._cuboids = {drive: read_cuboids(root, drive, spec) for drive in drives}
        self._views = {drive: read_view(root, drive, spec) for drive in drives}

    def add(self, row: dict[str, Any], item: Labels) -> None:
        cuboids = self._cuboids[row["drive"]].get((item.clip_id, item.ref_ns))
        if cuboids is None or row["boxes3d"] is None:
            self._frames.append(None)
            return
        boxes = np.array(row["boxes3d"], np.float32).reshape(-1, WIDTH)
        scores, classes = np.array(row["scores3d"], np.float32), np.array(row["classes3d"], np.int64)
        kept = scores >= self._policy.score_floor
        view = self._views[row["drive"]]
        self._frames.append(Frame3d(cuboids, item, view, boxes[kept], scores[kept], classes[kept]))

    def judged(self) -> tuple[Boxes3d, Boxes3d] | tuple[None, None]:
        if all(frame is None for frame in self._frames):
            return None, None
        return judged(self._frames, rules_of(self._spec.classes, self._policy.nuscenes_classes))


def _ignored(item: Labels, policy: EvaluationPolicy) -> np.ndarray:
    short_px = (item.boxes[:, 2:] - item.boxes[:, :2]).min(axis=1, initial=np.inf)
    return np.asarray((short_px < policy.min_box_px) | (item.occlusion > policy.max_occlusion))
