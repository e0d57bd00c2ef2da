"""What each precision loses against float32 on every slice, in the picture and in space, and which may be used.

Belongs here: the measurement and the decision. Does not belong here: making precisions, thresholds of a release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.metrics.boxes import Boxes
from av_assets.domain.metrics.boxes3d import Boxes3d
from av_assets.domain.metrics.judged3d import Frame3d, judged
from av_assets.domain.metrics.matching import match, mean_average_precision
from av_assets.domain.metrics.nuscenes import ClassRule, map3d, rules_of
from av_assets.domain.models.golden import GoldenSpec, Labels
from av_assets.domain.models.runtime import FP32, OUTPUTS_3D, Detections, OnnxPerception
from av_assets.domain.models.session import stack
from av_assets.domain.packaging.frames import Frame
from av_assets.policies.evaluation import EvaluationPolicy
from av_assets.policies.packaging import PackagingPolicy

ALL: Final = "all"
BATCH: Final = 8
IN_SPACE: Final = " in space"
"""Behind the name of a slice where its mAP of cuboids is meant."""


@dataclass(frozen=True)
class SliceScore:
    """mAP at IoU 0.5, and of cuboids by nuScenes' distances, of one precision on one slice; None: nothing to find."""

    frames: int
    objects: int
    map50: float | None
    objects3d: int = 0
    map3d: float | None = None


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
    """Scores of one precision on each slice, by the rules of evaluation reports."""
    seen = _seen(runtime, frames)
    found = _found(seen, evaluation)
    truth3d, found3d, rules = _in_space(runtime, frames, seen, evaluation)
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
        inside, told = truth3d.where(held[truth3d.frame]), found3d.where(held[found3d.frame])
        scores[name] = SliceScore(
            int(held.sum()), objects, mean_average_precision(matches), len(inside), map3d(inside, told, rules)
        )
    return scores


def _seen(runtime: OnnxPerception, frames: Sequence[Frame]) -> list[Detections]:
    seen = []
    wanted = [name for name in runtime.outputs if name != "drivable"]
    for start in range(0, len(frames), BATCH):
        batch = frames[start : start + BATCH]
        out = runtime.run(stack([frame.inputs for frame in batch]), wanted)
        seen += [runtime.detections(out, row, frame.shape) for row, frame in enumerate(batch)]
    return seen


def _found(seen: Sequence[Detections], evaluation: EvaluationPolicy) -> Boxes:
    found = Boxes.concat([Boxes.of_frame(i, s.boxes, s.classes, s.scores) for i, s in enumerate(seen)])
    return found.where(found.score >= evaluation.score_floor)


def _in_space(
    runtime: OnnxPerception, frames: Sequence[Frame], seen: Sequence[Detections], evaluation: EvaluationPolicy
) -> tuple[Boxes3d, Boxes3d, Sequence[ClassRule]]:
    """Truth and detections that count; both empty where the network has no such head, or the dataset no such truth."""
    rules = rules_of(runtime.classes, evaluation.nuscenes_classes)
    pairs: list[Frame3d | None] = [None] * len(frames)
    if OUTPUTS_3D[0] in runtime.outputs:
        for i, (frame, found) in enumerate(zip(frames, seen, strict=True)):
            if frame.cuboids is not None:
                kept = found.scores3d >= evaluation.score_floor
                cuboids = found.boxes3d[kept], found.scores3d[kept], found.classes3d[kept]
                pairs[i] = Frame3d(frame.cuboids, frame.labels, frame.view, *cuboids)
    return *judged(pairs, rules), rules


def _ignored(labels: Labels, evaluation: EvaluationPolicy) -> NDArray[np.bool_]:
    short_px = (labels.boxes[:, 2:] - labels.boxes[:, :2]).min(axis=1, initial=np.inf)
    return np.asarray((short_px < evaluation.min_box_px) | (labels.occlusion > evaluation.max_occlusion))


def losses(reference: Scores, other: Scores, policy: PackagingPolicy) -> dict[str, float]:
    """How much mAP `other` loses (negative: gains) on each slice that has enough to say; see `IN_SPACE`."""
    found = {}
    for name, was in reference.items():
        now = other[name]
        for what, before, after, objects in (
            (name, was.map50, now.map50, was.objects),
            (name + IN_SPACE, was.map3d, now.map3d, was.objects3d),
        ):
            enough = was.frames >= policy.min_slice_frames and objects >= policy.min_slice_objects
            if enough and before is not None and after is not None:
                found[what] = before - after
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
        "metric": "mAP at IoU 0.5, and of cuboids by nuScenes' distances, on val and test frames",
        "limits": limits,
        "bytes": dict(sizes),
        "slices": {
            name: {
                "frames": was.frames,
                "objects": was.objects,
                "objects3d": was.objects3d,
                "decides": any({name, name + IN_SPACE} & found.keys() for found in lost.values()),
                "map50": {precision: scores[precision][name].map50 for precision in scores},
                "map3d": {precision: scores[precision][name].map3d for precision in scores},
                "loss": {precision: found.get(name) for precision, found in lost.items()},
                "loss3d": {precision: found.get(name + IN_SPACE) for precision, found in lost.items()},
            }
            for name, was in reference.items()
        },
        "int8_attempts": list(attempts),
        "usable": [name for name in scores if name not in refused],
        "refused": refused,
    }
