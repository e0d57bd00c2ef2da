"""What each precision loses against float32 on every slice, and which of them may be used.

Belongs here: the measurement and the decision. Does not belong here: making precisions, thresholds of a release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.metrics.boxes import Boxes
from av_assets.domain.metrics.matching import match, mean_average_precision
from av_assets.domain.models.golden import GoldenSpec, Labels
from av_assets.domain.models.runtime import FP32, OnnxPerception
from av_assets.domain.models.session import stack
from av_assets.domain.packaging.frames import Frame
from av_assets.policies.evaluation import EvaluationPolicy
from av_assets.policies.packaging import PackagingPolicy

ALL: Final = "all"
BATCH: Final = 8


@dataclass(frozen=True)
class SliceScore:
    """mAP at IoU 0.5 (None: nothing to find) of one precision on one slice."""

    frames: int
    objects: int
    map50: float | None


Scores = Mapping[str, SliceScore]


def slices_of(spec: GoldenSpec, frames: Sequence[Frame]) -> dict[str, NDArray[np.bool_]]:
    """Which frames each slice holds: all, the dataset's own slices (drives or clips), and each tag of the drives."""
    keys = [frame.key for frame in frames]
    found = {ALL: np.ones(len(keys), bool)}
    for name, members in spec.slices.items():
        wanted = set(members)
        found.setdefault(name, np.array([key[0] in wanted or key[1] in wanted for key in keys], bool))
    for member in spec.members:
        for tag, value in member.tags.items():
            held = found.setdefault(f"{tag}={value}", np.zeros(len(keys), bool))
            held |= np.array([key[0] == member.drive for key in keys], bool)
    return {name: held for name, held in sorted(found.items()) if held.any()}


def score(
    runtime: OnnxPerception,
    frames: Sequence[Frame],
    slices: Mapping[str, NDArray[np.bool_]],
    evaluation: EvaluationPolicy,
) -> dict[str, SliceScore]:
    """mAP of one precision on each slice; small and hidden objects are ignored as in evaluation reports."""
    found = _found(runtime, frames, evaluation)
    truth = Boxes.concat([Boxes.of_frame(i, f.labels.boxes, f.labels.classes) for i, f in enumerate(frames)])
    ignore = np.concatenate([_ignored(f.labels, evaluation) for f in frames])
    scores = {}
    for name, held in slices.items():
        in_truth = held[truth.frame]
        matches = match(
            truth.where(in_truth),
            found.where(held[found.frame]),
            ignore[in_truth],
            len(runtime.classes),
            evaluation.match_iou,
        )
        objects = int((~ignore[in_truth]).sum())
        scores[name] = SliceScore(int(held.sum()), objects, mean_average_precision(matches))
    return scores


def _found(runtime: OnnxPerception, frames: Sequence[Frame], evaluation: EvaluationPolicy) -> Boxes:
    parts = []
    for start in range(0, len(frames), BATCH):
        batch = frames[start : start + BATCH]
        out = runtime.run(stack([frame.inputs for frame in batch]), ("boxes", "scores", "classes"))
        for row, frame in enumerate(batch):
            seen = runtime.detections(out, row, frame.shape)
            boxes = Boxes.of_frame(start + row, seen.boxes, seen.classes, seen.scores)
            parts.append(boxes.where(boxes.score >= evaluation.score_floor))
    return Boxes.concat(parts)


def _ignored(labels: Labels, evaluation: EvaluationPolicy) -> NDArray[np.bool_]:
    short_px = (labels.boxes[:, 2:] - labels.boxes[:, :2]).min(axis=1, initial=np.inf)
    return np.asarray((short_px < evaluation.min_box_px) | (labels.occlusion > evaluation.max_occlusion))


def losses(reference: Scores, other: Scores, policy: PackagingPolicy) -> dict[str, float]:
    """How much mAP `other` loses (negative: gains) on each slice that has enough to say."""
    found = {}
    for name, was in reference.items():
        now = other[name].map50
        enough = was.frames >= policy.min_slice_frames and was.objects >= policy.min_slice_objects
        if enough and was.map50 is not None and now is not None:
            found[name] = was.map50 - now
    return found


def refusal(lost: Mapping[str, float], limit: float) -> str:
    """Why a precision may not be used; empty where it may."""
    if not lost:
        return "no slice has enough frames and objects to say what it loses"
    worst = max(lost, key=lambda name: (lost[name], name))
    if lost[worst] <= limit:
        return ""
    return f"{worst}: mAP falls by {lost[worst]:.4f}, {limit:.4f} are allowed"


def gate_report(
    scores: Mapping[str, Scores],
    policy: PackagingPolicy,
    sizes: Mapping[str, int],
    attempts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """precision_report.json: mAP, loss and decision per precision and slice."""
    reference = scores[FP32]
    limits = policy.max_loss.model_dump()
    lost = {name: losses(reference, other, policy) for name, other in scores.items() if name != FP32}
    refused = {name: why for name, found in lost.items() if (why := refusal(found, limits[name]))}
    return {
        "metric": "mAP at IoU 0.5 on val and test frames",
        "limits": limits,
        "bytes": dict(sizes),
        "slices": {
            name: {
                "frames": was.frames,
                "objects": was.objects,
                "decides": any(name in found for found in lost.values()),
                "map50": {precision: scores[precision][name].map50 for precision in scores},
                "loss": {precision: found.get(name) for precision, found in lost.items()},
            }
            for name, was in reference.items()
        },
        "int8_attempts": list(attempts),
        "usable": [name for name in scores if name not in refused],
        "refused": refused,
    }
