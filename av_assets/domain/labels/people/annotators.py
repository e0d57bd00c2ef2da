"""Simulated people who draw boxes: they start from auto-labels, err as their profile says, and take time.

They stand in where no annotation service is connected, so that the whole loop runs and its checks have
something to find. Belongs here: one person, one frame. Does not belong here: who gets which frame (drawing),
agreement (consensus). They see what people see: the picture (here: truth), pre-annotations, the work that they review.
Never whether a task's answer is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.matching import match_boxes
from av_assets.domain.labels.schema import CLASSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.policies.annotation import AnnotatorProfile

Floats = npt.NDArray[np.float64]
SMALL_PX = 20.0
HIDDEN = 0.4


@dataclass(frozen=True)
class DrawnBox:
    """A box in a picture: x1, y1, x2, y2 in pixels; `object_id` links boxes of one object over time.

    Only simulated people know objects: auto-labels, wrong boxes and boxes of real people have the object id -1.
    `label_id` is the pre-annotation that it came from, or of which it is.
    """

    cls: str
    xyxy: tuple[float, float, float, float]
    object_id: int = -1
    occlusion: float | None = None
    distance_m: float | None = None
    label_id: str | None = None

    @property
    def height_px(self) -> float:
        return self.xyxy[3] - self.xyxy[1]


@dataclass(frozen=True)
class Annotation:
    """What one person made of one frame."""

    annotator: str
    boxes: tuple[DrawnBox, ...]
    seconds: float


def coordinates(boxes: Sequence[DrawnBox]) -> Floats:
    """(N, 4)."""
    return np.array([box.xyxy for box in boxes], dtype=np.float64).reshape(-1, 4)


def annotate(
    truth: Sequence[DrawnBox],
    auto: Sequence[DrawnBox],
    profile: AnnotatorProfile,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Annotation:
    """Annotate one frame as `profile` would; the same generator state gives the same boxes.

    Args:
        truth: what is to be seen and passes the labelling rules.
        auto: pre-annotations.
        size: width and height of the picture.
    """
    best = {
        row: (column, iou) for row, column, iou in match_boxes(coordinates(truth), coordinates(auto), 0.3)
    }
    boxes, seconds = [], profile.frame_s
    for row, thing in enumerate(truth):
        # Draws happen for every object, so that one object more or less does not change the errors at others.
        luck, confusion, other, noise = (
            rng.random(),
            rng.random(),
            rng.integers(1, len(CLASSES)),
            rng.normal(size=4),
        )
        if luck < profile.miss_rate * _difficulty(thing):
            continue
        column, iou = best.get(row, (-1, 0.0))
        kept = iou >= profile.trusts_iou and auto[column].cls == thing.cls
        seconds += profile.object_s * (0.25 if kept else 1.0)
        xyxy = auto[column].xyxy if kept else _drawn(thing.xyxy, profile, size, noise)
        cls = thing.cls
        if confusion < profile.confusion_rate:
            cls = CLASSES[(CLASSES.index(cls) + int(other)) % len(CLASSES)]
        came_from = auto[column].label_id if column >= 0 else None
        boxes.append(replace(thing, cls=cls, xyxy=xyxy, label_id=came_from))
    used = {column for column, _ in best.values()}
    for column, wrong in enumerate(auto):
        if column not in used:
            seconds += 0.25 * profile.object_s
            if rng.random() < profile.false_rate:
                boxes.append(wrong)
    return Annotation(profile.name, tuple(boxes), seconds)


def look_over(
    first: Sequence[DrawnBox],
    truth: Sequence[DrawnBox],
    auto: Sequence[DrawnBox],
    profile: AnnotatorProfile,
    size: tuple[int, int],
    catch_rate: float,
    match_iou: float,
    rng: np.random.Generator,
) -> Annotation:
    """Review the boxes of somebody else: what the reviewer would do otherwise is mostly noticed and put right.

    Args:
        first: the author's boxes.
        catch_rate: share of differences that the reviewer notices.
    """
    own = list(annotate(truth, auto, profile, size, rng).boxes)
    pairs = match_boxes(coordinates(first), coordinates(own), match_iou)
    other = {row: own[column] for row, column, _ in pairs}
    seen = {column for _, column, _ in pairs}
    boxes = []
    for row, mine in enumerate(first):
        noticed, theirs = rng.random() < catch_rate, other.get(row)
        if theirs is not None:
            boxes.append(theirs if mine.cls != theirs.cls and noticed else mine)
        elif not (mine.object_id < 0 and noticed):
            boxes.append(mine)
    for column, theirs in enumerate(own):
        if column not in seen and rng.random() < catch_rate and theirs.object_id >= 0:
            boxes.append(theirs)
    return Annotation(profile.name, tuple(boxes), profile.frame_s + 0.25 * profile.object_s * len(first))


def _difficulty(thing: DrawnBox) -> float:
    return 1.0 + (thing.height_px < SMALL_PX) + ((thing.occlusion or 0.0) > HIDDEN)


def _drawn(
    xyxy: tuple[float, float, float, float], profile: AnnotatorProfile, size: tuple[int, int], noise: Floats
) -> tuple[float, float, float, float]:
    """The box with bias and jitter, clipped to the picture, never empty."""
    low, high = np.array(xyxy[:2]), np.array(xyxy[2:])
    side = high - low
    spread = profile.jitter_px + profile.jitter_share * side
    # Nobody draws an edge further off than three spreads without seeing it.
    off = np.clip(noise, -3, 3).reshape(2, 2) * spread
    low, high = low - profile.bias_share * side / 2 + off[0], high + profile.bias_share * side / 2 + off[1]
    limit = np.array(size, dtype=np.float64)
    low = np.clip(low, 0, limit - 1)
    high = np.clip(np.maximum(high, low + 1), 0, limit)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
