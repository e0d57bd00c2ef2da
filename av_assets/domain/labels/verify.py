"""Verified labels of one drive: tasks handed out, annotated, reviewed, adjudicated, written with their
evidence.

Belongs here: the pass over a drive and its bundle. Does not belong here: the rules for a frame (review).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.labels.agreement import agreement
from av_assets.domain.labels.clip_frames import LabelFrame, label_frames
from av_assets.domain.labels.quality import gold_scores, label_quality
from av_assets.domain.labels.review import FrameResult, FrameTask, plan_tasks, work_on
from av_assets.domain.labels.schema import CLASSES, VERIFIED_LABELS, write_labels
from av_assets.domain.labels.truth import AutoFrames, TruthFrames
from av_assets.domain.labels.verified_rows import drivable_rows, verified_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.policies.annotation import AnnotationPolicy

RULES_VERSION = "human-review/1"


@dataclass(frozen=True)
class VerifySummary:
    """What came out; `reason` says why nothing did, else it is empty. Precision and recall are those of
    auto-labels.
    """

    frames: int
    labels: int
    objects: dict[str, int]
    labeller_digest: str
    accepted: int = 0
    corrected: int = 0
    added: int = 0
    removed: int = 0
    frames_twice: int = 0
    adjudicated: int = 0
    agreement: float | None = None
    kappa: float | None = None
    kappa_ok: bool | None = None
    mean_iou: float | None = None
    minutes: float = 0.0
    mean_minutes: float = 0.0
    precision: float | None = None
    recall: float | None = None
    by_class: dict[str, Any] = field(default_factory=dict)
    gold: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def labeller_digest(auto_digest: str, policy: AnnotationPolicy) -> str:
    """Names who verified: rules, numbers, and the labeller that they started from."""
    return sha256_json({"rules": RULES_VERSION, "policy": policy.digest, "auto": auto_digest})


def verify_drive(
    auto_dir: Path,
    truth: Mapping[str, pa.Table],
    clips: Sequence[Path],
    policy: AnnotationPolicy,
    seed: int,
    out_dir: Path,
    watch: Stopwatch | None = None,
) -> VerifySummary:
    """Turn the auto-label bundle of a drive into verified labels by simulated people; writes the three files.

    Args:
        auto_dir: folder of an auto-label bundle.
        truth: tables `boxes` and `drivable` of the synthetic rig; without them nothing can be verified.
        clips: clip files of synced_shards, for the camera stamps that truth is matched on.

    The camera and the frames are those that were auto-labelled. No truth, no frame or no auto-label bundle
    that applies gives empty tables and a `reason`.
    """
    with watch("read") if watch else nullcontext():
        auto = AutoFrames.read(auto_dir)
        known = TruthFrames(truth, auto.camera, policy)
        frames = [f for f in label_frames(clips, auto.camera, auto.every_kth_frame) if known.covers(f)]
    digest = labeller_digest(auto.labeller_digest, policy)
    if not frames:
        nothing = dict.fromkeys(CLASSES, 0)
        summary = VerifySummary(
            0, 0, nothing, digest, reason=auto.reason or "no ground truth for these frames"
        )
        write_labels(out_dir, [], [], {**asdict(summary), "rules": RULES_VERSION}, VERIFIED_LABELS)
        return summary
    with watch("compute") if watch else nullcontext():
        tasks, results = _annotate(frames, auto, known, policy, seed)
        rows, removed = verified_rows(frames, results, auto, policy, digest)
        masks = drivable_rows(frames, known, auto.camera)
        summary = _summarise(frames, tasks, results, rows, removed, auto, known, policy, digest)
    with watch("write") if watch else nullcontext():
        write_labels(out_dir, rows, masks, {**asdict(summary), "rules": RULES_VERSION}, VERIFIED_LABELS)
    return summary


def _annotate(
    frames: Sequence[LabelFrame], auto: AutoFrames, known: TruthFrames, policy: AnnotationPolicy, seed: int
) -> tuple[list[FrameTask], list[FrameResult]]:
    rng = np.random.default_rng([seed, 0])
    truth = [known.boxes(f) for f in frames]
    tasks = plan_tasks([frozenset(b.cls for b in boxes) for boxes in truth], policy, rng)
    results = [
        # A generator per frame: one frame more changes nothing in the others.
        work_on(
            task, boxes, auto.boxes(f), known.size, policy, np.random.default_rng([seed, 1, f.ref_ns % 2**62])
        )
        for task, boxes, f in zip(tasks, truth, frames, strict=True)
    ]
    return tasks, results


def _summarise(
    frames: Sequence[LabelFrame],
    tasks: Sequence[FrameTask],
    results: Sequence[FrameResult],
    rows: Sequence[dict[str, Any]],
    removed: int,
    auto: AutoFrames,
    known: TruthFrames,
    policy: AnnotationPolicy,
    digest: str,
) -> VerifySummary:
    twice = agreement(pair for result in results for pair in result.pairs)
    status = Counter(row["status"] for row in rows)
    count = Counter(row["cls"] for row in rows)
    minutes = sum(result.seconds for result in results) / 60
    quality = label_quality([auto.boxes(f) for f in frames], [r.boxes for r in results], policy.match_iou)
    gold: dict[str, list[Any]] = defaultdict(list)
    for task, result, frame in zip(tasks, results, frames, strict=True):
        for annotation in (result.first, result.second):
            if task.gold and annotation is not None:
                gold[annotation.annotator].append((annotation.boxes, known.boxes(frame)))
    return VerifySummary(
        len(frames),
        len(rows),
        {c: count[c] for c in CLASSES},
        digest,
        status["accepted"],
        status["corrected"],
        status["added"],
        removed,
        sum(task.twice for task in tasks),
        sum(result.adjudicated for result in results),
        twice.share,
        twice.kappa,
        None if twice.kappa is None else twice.kappa >= policy.min_kappa,
        twice.mean_iou,
        round(minutes, 3),
        round(minutes / len(frames), 4),
        quality["all"]["precision"],
        quality["all"]["recall"],
        quality,
        {name: gold_scores(pairs, policy.match_iou) for name, pairs in sorted(gold.items())},
    )
