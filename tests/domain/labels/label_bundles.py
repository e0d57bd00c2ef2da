"""Bundles that human labelling starts from: auto-labels of the label scenes, known truth, and passes over them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from label_scenes import CAR, CONE, DRIVE, START_NS, WALKER, Solid, project, truth_tables, write_clips

from av_assets.domain.labels.exchange.returned import read_returned
from av_assets.domain.labels.people.handing_in import People, collect
from av_assets.domain.labels.people.task_planning import plan_drive
from av_assets.domain.labels.people.verify import verify_drive
from av_assets.mining.constrained_frames import judge_boxes
from av_assets.policies.annotation import AnnotationPolicy

FRAMES, EVERY = 12, 3
FAR_CAR: Solid = (40.0, -3.0, 4.4, 1.8, 1.48, 0.45)
TOO_FAR: Solid = (58.0, 3.0, 4.4, 1.8, 1.48, 0.45)
THINGS = [("vehicle", CAR), ("pedestrian", WALKER), ("cone", CONE), ("vehicle", FAR_CAR)]


def write_auto(folder: Path, off_px: float = 1.5, things: list[tuple[str, Solid]] | None = None) -> Path:
    """Auto-labels of every third frame: all things but the last one, `off_px` too far to the right."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(0, FRAMES, EVERY):
        for number, (cls, solid) in enumerate((THINGS if things is None else things)[:-1]):
            x1, y1, x2, y2 = project(solid)
            box = {"x1": x1 + off_px, "y1": y1, "x2": x2 + off_px, "y2": y2, "score": 0.7}
            key = {"clip_id": f"{DRIVE}/{index // 5:05d}", "ref_ns": START_NS + index * 100_000_000}
            more = {"camera": "camera_front", "source": "lidar", "occlusion": None, "distance_m": solid[0]}
            rows.append(key | box | more | {"cls": cls, "label_id": f"auto-{number:04d}"})
    names = ("clip_id", "ref_ns", "camera", "label_id", "cls", "x1", "y1", "x2", "y2", "score", "source")
    types = [pa.string(), pa.int64(), *[pa.string()] * 3, *[pa.float32()] * 5, pa.string()]
    fields = [*zip(names, types, strict=True), ("occlusion", pa.float32()), ("distance_m", pa.float32())]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), folder / "labels.parquet")
    report = {"camera": "camera_front", "every_kth_frame": EVERY, "labeller_digest": "lidar", "reason": ""}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


class LabelledDrive:
    """A drive with shards, auto-labels and truth in a folder; each pass has a folder of its own."""

    def __init__(self, folder: Path, policy: AnnotationPolicy | None = None) -> None:
        self.folder, self.policy = folder, policy or AnnotationPolicy.load()
        self.clips = write_clips(folder, [None] * FRAMES)
        self.truth = truth_tables([[*THINGS, ("vehicle", TOO_FAR)]] * FRAMES)
        self.auto = write_auto(folder / "auto")

    def plan(self, name: str, seed: int = 5, known: set[str] | None = None) -> tuple[dict[str, Any], Path]:
        out = self.folder / f"{name}-tasks"
        out.mkdir()
        return plan_drive(DRIVE, self.auto, self.clips, self.policy, seed, known, out), out

    def collect(self, name: str, tasks: Path, seed: int = 5, **people: Any) -> tuple[dict[str, Any], Path]:
        out = self.folder / f"{name}-submissions"
        out.mkdir()
        who = People(partial(judge_boxes, self.policy), read_returned, **people)
        return collect(tasks, self.auto, who, self.policy, seed, out), out

    def verify(
        self, name: str, seed: int = 5, truth: dict[str, pa.Table] | None = None
    ) -> tuple[dict[str, Any], Path]:
        """All three passes with simulated people."""
        _, tasks = self.plan(name, seed)
        _, handed = self.collect(name, tasks, seed, truth=self.truth if truth is None else truth)
        out = self.folder / name
        out.mkdir()
        return verify_drive(self.auto, tasks, handed, self.policy, out), out
