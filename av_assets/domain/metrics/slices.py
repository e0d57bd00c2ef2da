"""Metrics by slice: the same numbers over the frames that a slice names, with how much stands behind them.

Belongs here: choosing frames, adding up, confidence intervals. Does not belong here: single metrics,
thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.metrics import calibration
from av_assets.domain.metrics.boxes import Boxes
from av_assets.domain.metrics.boxes3d import Boxes3d
from av_assets.domain.metrics.detection import detection_scores
from av_assets.domain.metrics.matching import Matches, average_precision, match
from av_assets.domain.metrics.segmentation import segmentation_scores
from av_assets.domain.metrics.slices3d import Scores3d, scores3d
from av_assets.policies.evaluation import EvaluationPolicy


@dataclass(frozen=True)
class Outcome:
    """All that was there and all that was found on a set of frames.

    Attributes:
        drives, clips: of each frame; the position is the frame id that boxes carry.
        truth, ignore: objects, and whether each counts (False) or is ignored (True).
        pixels: (frames, 4) counts of the drivable area; rows of zeros where it is not labelled.
        stamps: ref_ns of each frame.
        truth3d, found3d: cuboids that count; None where there is no 3D truth, or the model has no 3D head.
    """

    drives: tuple[str, ...]
    clips: tuple[str, ...]
    truth: Boxes
    ignore: NDArray[np.bool_]
    found: Boxes
    pixels: NDArray[np.int64]
    stamps: tuple[int, ...] = ()
    truth3d: Boxes3d | None = None
    found3d: Boxes3d | None = None

    def frames_of(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Frame ids of a slice whose names are drives or clips."""
        wanted = set(names)
        pairs = zip(self.drives, self.clips, strict=True)
        return np.array([i for i, (d, c) in enumerate(pairs) if d in wanted or c in wanted], np.int64)


class SliceReport(Scores3d):
    """One slice. Numbers are None where nothing can be said; `map50_interval` is a 95 % interval over drives, None with
    fewer than two."""

    drives: int
    frames: int
    objects: int
    objects_by_class: dict[str, int]
    detections: int
    coco: dict[str, float | None]
    ap50_by_class: dict[str, float | None]
    map50: float | None
    map50_interval: tuple[float, float] | None
    miou: float | None
    drivable_iou: float | None
    drivable_frames: int
    ece: float | None
    adaptive_ece: float | None
    brier: float | None


def slice_report(
    outcome: Outcome, names: Sequence[str], classes: Sequence[str], policy: EvaluationPolicy
) -> SliceReport:
    """Metrics over the frames of one slice."""
    frames = outcome.frames_of(names)
    in_truth, in_found = np.isin(outcome.truth.frame, frames), np.isin(outcome.found.frame, frames)
    truth, found, ignore = (
        outcome.truth.where(in_truth),
        outcome.found.where(in_found),
        outcome.ignore[in_truth],
    )
    scores = detection_scores(truth, found, ignore, [int(f) for f in frames], classes)
    matches = match(truth, found, ignore, len(classes), policy.match_iou)
    counted = ~matches.ignored
    score, correct = found.score[counted], matches.correct[counted]
    pixels = outcome.pixels[frames]
    area = segmentation_scores(pixels[pixels.sum(1) > 0])
    drives = [outcome.drives[i] for i in frames]
    return SliceReport(
        drives=len(set(drives)),
        frames=len(frames),
        objects=int((~ignore).sum()),
        objects_by_class={name: int(n) for name, n in zip(classes, matches.num_objects, strict=True)},
        detections=int(counted.sum()),
        coco=scores.numbers,
        ap50_by_class=scores.ap50_by_class,
        map50=scores.map50,
        map50_interval=map50_interval(matches, truth, ignore, outcome.drives, policy),
        miou=area.miou,
        drivable_iou=area.drivable_iou,
        drivable_frames=area.frames,
        ece=calibration.calibration_error(score, correct, policy.calibration_bins),
        adaptive_ece=calibration.adaptive_calibration_error(score, correct, policy.calibration_bins),
        brier=calibration.brier_score(score, correct),
        **dict(_scores3d(outcome, frames, classes, policy)),
    )


def _scores3d(
    outcome: Outcome, frames: NDArray[np.int64], classes: Sequence[str], policy: EvaluationPolicy
) -> Scores3d:
    if outcome.truth3d is None or outcome.found3d is None:
        return Scores3d()
    truth, found = (b.where(np.isin(b.frame, frames)) for b in (outcome.truth3d, outcome.found3d))
    return scores3d(truth, found, outcome.drives, classes, policy)


def map50_interval(
    matches: Matches,
    truth: Boxes,
    ignore: NDArray[np.bool_],
    drives: Sequence[str],
    policy: EvaluationPolicy,
) -> tuple[float, float] | None:
    """95 % percentile interval of mAP at the match IoU when whole drives are drawn with replacement.

    Frames of one drive resemble each other, so drives, not frames, are the independent units.
    """
    drive_of = np.unique(np.asarray(drives), return_inverse=True)[1]
    found_drive, truth_drive = drive_of[matches.found.frame], drive_of[truth.frame[~ignore]]
    present = np.unique(np.r_[found_drive, truth_drive])
    if len(present) < 2:
        return None
    classes = len(matches.num_objects)
    objects = np.zeros((drive_of.max() + 1, classes), np.int64)
    np.add.at(objects, (truth_drive, truth.cls[~ignore]), 1)
    rng = np.random.default_rng(policy.bootstrap_seed)
    values = []
    for _ in range(policy.bootstrap_rounds):
        weight = np.bincount(rng.choice(present, len(present)), minlength=len(objects))
        values.append(_resampled_map(matches, weight[found_drive], weight @ objects))
    low, high = np.percentile([v for v in values if v is not None] or [0.0], [2.5, 97.5])
    return float(low), float(high)


def _resampled_map(
    matches: Matches, times: NDArray[np.int64], num_objects: NDArray[np.int64]
) -> float | None:
    values = []
    for cls in np.flatnonzero(num_objects):
        rows = np.flatnonzero((matches.found.cls == cls) & ~matches.ignored)
        rows = np.repeat(rows, times[rows])
        values.append(
            average_precision(matches.found.score[rows], matches.correct[rows], int(num_objects[cls]))
        )
    return float(np.mean(values)) if values else None
