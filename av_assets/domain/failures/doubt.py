"""Signs of failure that need no labels: unsure scores, quarrels with other labellers, boxes that flicker.

Belongs here: these figures, by frame or by clip. Does not belong here: errors against labels (tide), thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.labels.tracks.motion import box_place
from av_assets.domain.labels.tracks.tracking import Detection, Tracker
from av_assets.domain.metrics.boxes import iou
from av_assets.domain.mining.ranking import uncertainty

K = TypeVar("K")

if TYPE_CHECKING:
    from av_assets.policies.failures import FlickerRules


@dataclass(frozen=True)
class Seen:
    """What the model saw in one frame: boxes (n, 4) px, scores (n,), classes (n,) index."""

    ref_ns: int
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]

    def sure(self, least: float) -> Seen:
        keep = self.scores >= least
        return Seen(self.ref_ns, self.boxes[keep], self.scores[keep], self.classes[keep])


def doubt(scores: Sequence[float] | NDArray[np.float32], worst: int) -> float | None:
    """Entropy in bits of the `worst` most uncertain scores, their mean; None without a box."""
    return uncertainty([float(s) for s in scores], worst, "entropy")


def quarrel(
    seen: Seen, boxes: NDArray[np.float64], classes: NDArray[np.int64], min_iou: float
) -> float | None:
    """Share of the objects that model and other labels do not both have, with one class; None where neither has any.

    Pairs are chosen by falling overlap, each box once.

    Args:
        boxes: (m, 4) px of the other labels. classes: (m,) in the model's numbering; -1 is a class that it lacks.
    """
    n, m = len(seen.boxes), len(boxes)
    if not n + m:
        return None
    table = iou(seen.boxes.astype(np.float64), np.asarray(boxes, np.float64).reshape(-1, 4))
    table = np.where(seen.classes[:, None] == np.asarray(classes)[None, :], table, 0.0)
    pairs = 0
    while table.size and table.max() >= min_iou:
        row, column = np.unravel_index(int(table.argmax()), table.shape)
        table[row, :], table[:, column] = 0.0, 0.0
        pairs += 1
    return 1.0 - pairs / (n + m - pairs)


@dataclass(frozen=True)
class Flicker:
    """Breaks of the tracks of one clip: frames without the object between two that have it, counted once per gap.

    Attributes:
        at_ns: reference time of the first frame without its object; None without a break.
    """

    breaks: int
    object_s: float
    at_ns: int | None = None

    @property
    def per_object_s(self) -> float | None:
        """Breaks per second that an object was tracked; None where nothing was tracked for any time."""
        return self.breaks / self.object_s if self.object_s > 0 else None


def flicker(frames: Sequence[Seen], names: Sequence[str], rules: FlickerRules) -> Flicker:
    """Follow the model's boxes through the frames of a clip, in time order, and count where a track breaks off.

    A track that goes on after at least one frame of the clip without it has broken once; so a box that vanishes for
    good is no break, since things do leave the picture.

    Args:
        names: classes by index.
    """
    tracker, start = Tracker(rules.tracks), frames[0].ref_ns if frames else 0
    times = [(frame.ref_ns - start) / 1e9 for frame in frames]
    for number, frame in enumerate(frames):
        tracker.update(number, times[number], _detections(frame, names, rules))
    gaps, object_s = [], 0.0
    for track in tracker.tracks:
        at = [frame for frame, _ in track.hits]
        gaps += [before + 1 for before, after in pairwise(at) if after - before > 1]
        object_s += times[at[-1]] - times[at[0]]
    return Flicker(len(gaps), object_s, frames[min(gaps)].ref_ns if gaps else None)


def _detections(frame: Seen, names: Sequence[str], rules: FlickerRules) -> list[Detection]:
    found = []
    for box, score, cls in zip(frame.boxes, frame.scores, frame.classes, strict=True):
        if score < rules.tracks.doubtful_score:
            continue
        place = box_place(tuple(float(v) for v in box))  # type: ignore[arg-type]
        unit, motion = max(float(place[3]), 1.0), rules.motion
        found.append(
            Detection(
                names[int(cls)], float(score), place, np.eye(4) * (motion.noise * unit) ** 2,
                np.full(4, motion.speed_per_s * unit), np.full(4, motion.accel_per_s2 * unit),
            )
        )  # fmt: skip
    return found


def standing_out(values: Mapping[K, float | None], share: float, least: float) -> set[K]:
    """Keys of the values that belong to the highest `share` of the known ones and reach `least`; ties stay together."""
    known = {key: value for key, value in values.items() if value is not None}
    if not known:
        return set()
    bound = max(float(np.quantile(list(known.values()), 1.0 - share, method="higher")), least)
    return {key for key, value in known.items() if value >= bound}
