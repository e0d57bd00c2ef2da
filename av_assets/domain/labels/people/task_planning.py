"""The pass over a drive that plans its label tasks: pictures from the shards, proposals from the auto-labels.

Belongs here: reading, and writing the bundle. Does not belong here: the plan itself (tasks).
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from av_assets.domain.labels.people.priority import FrameValue, frame_values
from av_assets.domain.labels.people.tasks import PlannedFrame, plan_tasks, task_id_of, write_tasks
from av_assets.domain.labels.people.truth import AutoFrames
from av_assets.domain.labels.schema import CANDIDATES_FILE
from av_assets.domain.labels.sensing.clip_frames import LabelFrame, label_frames
from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.policies.annotation import AnnotationPolicy


def plan_drive(
    drive: str,
    auto_dir: Path,
    clips: Sequence[Path],
    policy: AnnotationPolicy,
    seed: int,
    known: Collection[str] | None,
    out_dir: Path,
    watch: Stopwatch | None = None,
) -> dict[str, Any]:
    """Plan the label tasks of a drive; writes tasks.parquet and plan.json into `out_dir`, returns the plan.

    Args:
        auto_dir: folder of an auto-label bundle.
        clips: clip files of synced_shards.
        known: see `plan_tasks`.

    Raises:
        LabelError: bad_auto_labels.
    """
    with watch("read") if watch else nullcontext():
        auto = AutoFrames.read(auto_dir)
        frames = list(_pictures(clips, auto))
        candidates = _candidates(auto_dir)
    with watch("compute") if watch else nullcontext():
        planned = _planned(drive, frames, auto, candidates, policy)
        tasks, plan = plan_tasks(planned, policy, np.random.default_rng([seed, 0]), known)
        plan["drive"], plan["camera"] = drive, auto.camera
        plan["uncertainty_from"] = "candidates" if candidates is not None else "the auto-labels' own scores"
        plan["reason"] = "" if tasks else auto.reason or "no clip has a picture of the camera"
        write_tasks(out_dir, tasks, plan)
    return plan


def _planned(
    drive: str,
    frames: Sequence[tuple[LabelFrame, RedactedFrame]],
    auto: AutoFrames,
    candidates: dict[int, list[dict[str, Any]]] | None,
    policy: AnnotationPolicy,
) -> list[PlannedFrame]:
    found = candidates if candidates is not None else auto.rows
    rows = [[r for r in found.get(f.ref_ns, []) if _would_be_labelled(r, policy)] for f, _ in frames]
    boxes = [auto.boxes(f) for f, _ in frames]
    values: list[FrameValue] = frame_values(rows, boxes, policy.match_iou)
    planned = []
    for (frame, picture), seen, given, value in zip(frames, rows, boxes, values, strict=True):
        width, height = picture_size(picture)
        likely = {r["cls"] for r in seen if r["score"] >= policy.least_candidate_score}
        planned.append(
            PlannedFrame(
                task_id_of(drive, auto.camera, frame.ref_ns),
                frame.clip_id,
                frame.ref_ns,
                auto.camera,
                frame.camera_ns,
                width,
                height,
                hashlib.sha256(picture.data).hexdigest(),
                frozenset(likely | {box.cls for box in given}),
                len(given),
                value,
            )
        )
    return planned


def _would_be_labelled(row: Mapping[str, Any], policy: AnnotationPolicy) -> bool:
    """Whether a candidate, if it is there, passes the labelling rules as far as the machine can tell."""
    if row["x1"] is None or row["y2"] - row["y1"] < policy.min_height_px:
        return False
    return bool(row["distance_m"] is None or row["distance_m"] <= policy.max_distance_m)


def _pictures(clips: Sequence[Path], auto: AutoFrames) -> Iterator[tuple[LabelFrame, RedactedFrame]]:
    """Frames to label with their pictures; one clip in memory at a time."""
    for path in sorted(clips):
        wanted = {f.ref_ns: f for f in label_frames([path], auto.camera, auto.every_kth_frame)}
        if not wanted:
            continue
        table = pq.read_table(path, columns=["ref_ns", auto.camera])
        table = table.filter(np.isin(table["ref_ns"].to_numpy(), list(wanted)))
        for ref_ns, picture in zip(
            table["ref_ns"].to_pylist(), frames_from_shard(table, auto.camera), strict=True
        ):
            if picture is not None:
                yield wanted[ref_ns], picture


def picture_size(frame: RedactedFrame) -> tuple[int, int]:
    """Width and height; of JPEG and PNG the header is enough."""
    from PIL import Image

    if frame.encoding in ("jpeg", "png"):
        with Image.open(io.BytesIO(frame.data)) as picture:
            return int(picture.width), int(picture.height)
    height, width = frame.pixels().shape[:2]
    return width, height


def _candidates(folder: Path) -> dict[int, list[dict[str, Any]]] | None:
    """Rows of candidates.parquet by reference frame; None where the labeller wrote none."""
    path = folder / CANDIDATES_FILE
    if not path.is_file():
        return None
    names = ["ref_ns", "cls", "x1", "y1", "x2", "y2", "score", "slice", "distance_m"]
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in pq.read_table(path, columns=names).to_pylist():
        rows[row["ref_ns"]].append(row)
    return dict(rows)
