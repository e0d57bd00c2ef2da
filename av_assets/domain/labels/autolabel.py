"""Auto-labels of one drive: the lidar proposes boxes and drivable area for the front camera.

Belongs here: the pass over a drive and its bundle. Does not belong here: each step (lidar_objects,
drivable, tracking), what people make of it (review).
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.geometry.transforms import apply
from av_assets.domain.labels.clip_frames import LabelFrame, has_role, label_frames
from av_assets.domain.labels.drivable import (
    close_behind_cones,
    drivable_mask,
    encode_mask,
    off_road_m,
    road_edges,
)
from av_assets.domain.labels.ground import ground_plane
from av_assets.domain.labels.lidar_objects import LidarObject, find_objects
from av_assets.domain.labels.schema import AUTO_LABELS, CLASSES, write_labels
from av_assets.domain.labels.tracking import Tracker
from av_assets.domain.labels.views import View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.policies.autolabels import AutolabelPolicy

RULES_VERSION = "lidar-rules/1"
DRIVABLE_SCORE = 0.8


@dataclass(frozen=True)
class AutolabelSummary:
    """What was labelled; `reason` says why nothing was, else it is empty."""

    frames: int
    labels: int
    drivable: int
    tracks: int
    objects: dict[str, int]
    labeller_digest: str
    reason: str = ""
    mean_score: dict[str, float] = field(default_factory=dict)


def labeller_digest(policy: AutolabelPolicy) -> str:
    """Names the labeller: its rules and its numbers. It changes when any of them does."""
    return sha256_json({"rules": RULES_VERSION, "policy": policy.digest})


def auto_label_drive(
    clips: Sequence[Path],
    calibration: Mapping[str, Any],
    policy: AutolabelPolicy,
    out_dir: Path,
    watch: Stopwatch | None = None,
) -> AutolabelSummary:
    """Label the clips of a drive; writes labels.parquet, drivable.parquet and report.json into `out_dir`.

    Args:
        clips: clip files of synced_shards.
        calibration: content of calibration.json.

    A drive without the camera, the lidar or their calibration gives empty tables and a `reason`.
    """
    reason = _why_not(clips, calibration, policy)
    rows: list[dict[str, Any]] = []
    masks: list[dict[str, Any]] = []
    frames = 0
    if not reason:
        labeller = _Labeller(calibration, policy)
        for frame in label_frames(clips, policy.camera, policy.every_kth_frame, policy.lidar):
            frames += 1
            with watch("compute") if watch else nullcontext():
                labels, mask = labeller.label(frame)
            rows += labels
            masks += [mask] if mask is not None else []
    summary = _summarise(frames, rows, masks, policy, reason)
    with watch("write") if watch else nullcontext():
        write_labels(out_dir, rows, masks, _report(summary, policy), AUTO_LABELS)
    return summary


def _report(summary: AutolabelSummary, policy: AutolabelPolicy) -> dict[str, Any]:
    where = {"camera": policy.camera, "lidar": policy.lidar, "every_kth_frame": policy.every_kth_frame}
    return {**asdict(summary), **where, "rules": RULES_VERSION, "policy": policy.digest}


def _why_not(clips: Sequence[Path], calibration: Mapping[str, Any], policy: AutolabelPolicy) -> str:
    if policy.camera not in calibration.get("cameras", {}):
        return f"no calibration of {policy.camera}"
    if policy.lidar not in calibration.get("lidars", {}):
        return f"no calibration of {policy.lidar}"
    for role in (policy.camera, policy.lidar):
        if not has_role(clips, role):
            return f"no {role} in the drive"
    return ""


class _Labeller:
    """Holds calibration and tracks while a drive passes by."""

    def __init__(self, calibration: Mapping[str, Any], policy: AutolabelPolicy) -> None:
        self.policy = policy
        self.view = View.of(calibration["cameras"][policy.camera])
        lidar = calibration["lidars"][policy.lidar]["ego_SE3_lidar"]
        self.mounting = np.asarray(lidar, dtype=np.float64).reshape(4, 4)
        self.tracker = Tracker(policy)
        self.digest = labeller_digest(policy)

    def label(self, frame: LabelFrame) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        if frame.points is None or len(frame.points) == 0:
            return [], None
        points = frame.points.astype(np.float64)
        points = points[np.isfinite(points).all(axis=1)]
        points[:, :3] = apply(self.mounting, points[:, :3])
        plane = ground_plane(points, self.policy.ground_tolerance_m)
        objects = find_objects(points, plane, self.mounting[:2, 3], self.policy)
        edges = road_edges(points, plane, self.policy)
        if edges is not None:
            most = self.policy.off_road_margin_m
            objects = [o for o in objects if o.cls != "vehicle" or off_road_m(edges, o.box) < most]
        numbers = self.tracker.update(objects, frame.ref_ns * 1e-9)
        rows = [self._row(frame, o, n) for o, n in zip(objects, numbers, strict=True)]
        return [row for row in rows if row is not None], self._mask(frame, edges, plane, objects)

    def _row(self, frame: LabelFrame, thing: LidarObject, number: int) -> dict[str, Any] | None:
        box = self.view.picture_box(thing.box, self.policy.min_inside_share)
        if box is None or min(box[2] - box[0], box[3] - box[1]) < self.policy.min_box_px:
            return None
        corners = dict(zip(("x1", "y1", "x2", "y2"), (round(v, 2) for v in box), strict=True))
        return {
            **self._key(frame),
            **corners,
            "label_id": f"auto-{number:04d}",
            "cls": thing.cls,
            "score": round(thing.score, 4),
            "source": RULES_VERSION,
            "occlusion": None,
            "distance_m": round(self.view.distance_m(thing.box), 2),
        }

    def _mask(
        self,
        frame: LabelFrame,
        edges: tuple[np.ndarray, np.ndarray] | None,
        plane: np.ndarray,
        objects: list[LidarObject],
    ) -> dict[str, Any] | None:
        if edges is None:
            return None
        edges = close_behind_cones(edges, [o for o in objects if o.cls == "cone"], self.policy)
        mask = drivable_mask(edges, plane, objects, self.view, self.policy.road_reach_m)
        size = {"width": self.view.width, "height": self.view.height}
        return {**self._key(frame), **size, "mask": encode_mask(mask), "score": DRIVABLE_SCORE}

    def _key(self, frame: LabelFrame) -> dict[str, Any]:
        return {"clip_id": frame.clip_id, "ref_ns": frame.ref_ns, "camera": self.policy.camera}


def _summarise(
    frames: int,
    rows: Sequence[dict[str, Any]],
    masks: Sequence[dict[str, Any]],
    policy: AutolabelPolicy,
    reason: str,
) -> AutolabelSummary:
    count = Counter(row["cls"] for row in rows)
    scores = {c: [row["score"] for row in rows if row["cls"] == c] for c in CLASSES}
    return AutolabelSummary(
        frames,
        len(rows),
        len(masks),
        len({row["label_id"] for row in rows}),
        {c: count[c] for c in CLASSES},
        labeller_digest(policy),
        reason,
        {c: round(float(np.mean(values)), 4) for c, values in scores.items() if values},
    )
