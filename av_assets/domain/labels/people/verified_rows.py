"""Final boxes become rows: status against the auto-label, one label id per object, masks as people draw them.

Belongs here: that. Does not belong here: deciding boxes (decisions), files (label_files).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.labels.matching import match_boxes
from av_assets.domain.labels.people.annotators import DrawnBox, coordinates
from av_assets.domain.labels.sensing.drivable import decode_mask, encode_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.labels.people.decisions import FrameDecision
    from av_assets.domain.labels.people.tasks import LabelTask
    from av_assets.domain.labels.people.truth import AutoFrames, TruthFrames
    from av_assets.policies.annotation import AnnotationPolicy

SOURCE = RULE = "human"
POLYGON_PX = 1.0
LEAST_AREA_PX = 12.0


def verified_rows(
    tasks: Sequence[LabelTask],
    frames: Sequence[FrameDecision],
    auto: AutoFrames,
    policy: AnnotationPolicy,
    digest: str,
) -> tuple[list[dict[str, Any]], list[str], int]:
    """Rows of labels.parquet of final frames, the auto-label that each was met with, how many of those were removed.

    The second has one entry per row: its label id, or "" where nothing was met.
    """
    rows: list[dict[str, Any]] = []
    removed = 0
    objects: list[tuple[int, int, str]] = []
    for task, frame in zip(tasks, frames, strict=True):
        given = auto.boxes(task)
        pairs = match_boxes(coordinates(frame.boxes), coordinates(given), policy.match_iou)
        matches = {i: (j, iou) for i, j, iou in pairs}
        removed += len(given) - len(matches)
        for index, box in enumerate(frame.boxes):
            column, iou = matches.get(index, (-1, 0.0))
            status = "added" if column < 0 else "corrected"
            if iou >= policy.accept_iou and given[column].cls == box.cls:
                status = "accepted"
            met = given[column].label_id if column >= 0 else ""
            objects.append((task.ref_ns, box.object_id, met or ""))
            rows.append(_row(task, box, status, "+".join(frame.people), digest))
    for row, name in zip(rows, _names(objects), strict=True):
        row["label_id"] = name
    return rows, [name for _, _, name in objects], removed


def _row(task: LabelTask, box: DrawnBox, status: str, annotator: str, digest: str) -> dict[str, Any]:
    corners = dict(zip(("x1", "y1", "x2", "y2"), (round(v, 2) for v in box.xyxy), strict=True))
    return {
        "clip_id": task.clip_id,
        "ref_ns": task.ref_ns,
        "camera": task.camera,
        "cls": box.cls,
        **corners,
        "score": 1.0,
        "source": SOURCE,
        "occlusion": box.occlusion,
        "distance_m": box.distance_m,
        "annotator": annotator,
        "status": status,
        "labeller_digest": digest,
        "task_id": task.task_id,
        "rule": RULE,
    }


def _names(objects: Sequence[tuple[int, int, str]]) -> list[str]:
    """One id per object over the drive: the auto track that it was met with most often, if no object claims it more.

    `objects` holds (frame, object id, auto label id or "") per row. Real people know no objects: their boxes have the
    name of the auto track that they were met with, or one of their own where there is none or it is taken.
    """
    votes: Counter[tuple[int, str]] = Counter((o, name) for _, o, name in objects if o >= 0 and name)
    names: dict[int, str] = {}
    for (thing, name), _ in sorted(votes.items(), key=lambda item: (-item[1], item[0])):
        if thing not in names and name not in names.values():
            names[thing] = name
    result, singles = [], 0
    taken = {(frame, names.get(o, f"added-{o:04d}")) for frame, o, _ in objects if o >= 0}
    for frame, thing, met in objects:
        if thing >= 0:
            result.append(names.get(thing, f"added-{thing:04d}"))
        elif met and (frame, met) not in taken:
            taken.add((frame, met))
            result.append(met)
        else:
            singles += 1
            result.append(f"single-{singles:04d}")
    return result


def drivable_rows(frames: Sequence[LabelTask], known: TruthFrames, camera: str) -> list[dict[str, Any]]:
    """Drivable masks as people draw them: as polygons with corners a pixel off."""
    rows = []
    for frame in frames:
        data = known.mask(frame)
        if data is not None:
            mask = as_polygons(decode_mask(data))
            rows.append(
                {
                    "clip_id": frame.clip_id,
                    "ref_ns": frame.ref_ns,
                    "camera": camera,
                    "width": mask.shape[1],
                    "height": mask.shape[0],
                    "mask": encode_mask(mask),
                    "score": 1.0,
                }
            )
    return rows


def as_polygons(mask: np.ndarray) -> np.ndarray:
    """The mask (H, W) redrawn from simplified outlines, holes included; specks vanish."""
    import cv2

    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = [cv2.approxPolyDP(o, POLYGON_PX, True) for o in outlines if cv2.contourArea(o) >= LEAST_AREA_PX]
    result = np.zeros_like(mask)
    cv2.fillPoly(result, drawn, (255,))  # even-odd: an outline inside another one is a hole
    return result
