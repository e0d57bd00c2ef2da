"""Who looks at which frame, and how several opinions become one: sampling, review, adjudication.

No label is final without somebody else than its author: every frame has an author and a reviewer;
disagreements of two independent annotations go to a third person.
Belongs here: the rules for frames. Does not belong here: how people err (annotators), files (verify).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.labels.agreement import Pair, pair_boxes
from av_assets.domain.labels.annotators import Annotation, DrawnBox, annotate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.policies.annotation import AnnotationPolicy, AnnotatorProfile


@dataclass(frozen=True)
class FrameTask:
    """One frame: who does it, whether twice independently, whether its answer is known (hidden from
    people).
    """

    index: int
    author: AnnotatorProfile
    reviewer: AnnotatorProfile
    twice: bool
    gold: bool


@dataclass(frozen=True)
class FrameResult:
    """The final boxes of a frame and how they came about; `pairs` is empty where there was one annotation
    only.
    """

    boxes: tuple[DrawnBox, ...]
    annotators: tuple[str, ...]
    first: Annotation
    second: Annotation | None
    pairs: tuple[Pair, ...]
    adjudicated: int
    seconds: float


def sample_size(population: int, share: float, margin: float, z: float) -> int:
    """Frames to look at to know an error share within `margin`: z^2 p (1 - p) / e^2, finite correction
    (Cochran).
    """
    if population <= 0:
        return 0
    n = z * z * share * (1 - share) / (margin * margin)
    return min(population, ceil(n / (1 + (n - 1) / population)))


def plan_tasks(
    classes_of_frames: Sequence[frozenset[str]], policy: AnnotationPolicy, rng: np.random.Generator
) -> list[FrameTask]:
    """Hand out frames: people in turn, frames with safety classes twice, of the others a random sample
    twice.
    """
    count = len(classes_of_frames)
    twice = {i for i, classes in enumerate(classes_of_frames) if classes & set(policy.safety_classes)}
    others = [i for i in range(count) if i not in twice]
    n = sample_size(len(others), policy.error_share, policy.error_margin, policy.confidence_z)
    twice |= {others[k] for k in rng.permutation(len(others))[:n]}
    gold = {int(k) for k in rng.permutation(count)[: ceil(policy.gold_share * count)]}
    start = int(rng.integers(len(policy.annotators)))
    tasks = []
    for index in range(count):
        author = policy.annotators[(start + index) % len(policy.annotators)]
        reviewer = policy.annotators[(start + index + 1 + index % 2) % len(policy.annotators)]
        if reviewer == author:  # happens with two people only
            reviewer = policy.annotators[(start + index + 1) % len(policy.annotators)]
        tasks.append(FrameTask(index, author, reviewer, index in twice, index in gold))
    return tasks


def work_on(
    task: FrameTask,
    truth: Sequence[DrawnBox],
    auto: Sequence[DrawnBox],
    size: tuple[int, int],
    policy: AnnotationPolicy,
    rng: np.random.Generator,
) -> FrameResult:
    """Author, reviewer and, where needed, adjudicator on one frame."""
    first = annotate(truth, auto, task.author, size, rng)
    if not task.twice:
        boxes, seconds = _reviewed(first, truth, auto, task.reviewer, size, policy, rng)
        names = (task.author.name, task.reviewer.name)
        return FrameResult(boxes, names, first, None, (), 0, first.seconds + seconds)
    second = annotate(truth, auto, task.reviewer, size, rng)
    pairs = pair_boxes(first.boxes, second.boxes, policy.match_iou)
    agreed = [pair for pair in pairs if _agree(pair, policy)]
    settled = [_middle(a, b) for a, b, _ in agreed if a and b]
    open_pairs = [pair for pair in pairs if not _agree(pair, policy)]
    people: tuple[str, ...] = (task.author.name, task.reviewer.name)
    seconds = first.seconds + second.seconds
    if open_pairs:
        third = annotate(truth, auto, policy.adjudicator, size, rng)
        settled += _adjudicated(open_pairs, third, policy)
        seconds += policy.adjudicator.frame_s + policy.adjudicator.object_s * len(open_pairs)
        people = (*people, policy.adjudicator.name)
    boxes = tuple(_without_doubles(settled))
    return FrameResult(boxes, people, first, second, tuple(pairs), len(open_pairs), seconds)


def _agree(pair: Pair, policy: AnnotationPolicy) -> bool:
    first, second, iou = pair
    return first is not None and second is not None and iou >= policy.agree_iou and first.cls == second.cls


def _middle(a: DrawnBox, b: DrawnBox) -> DrawnBox:
    x1, y1, x2, y2 = ((np.array(a.xyxy) + np.array(b.xyxy)) / 2).tolist()
    return replace(a, xyxy=(x1, y1, x2, y2), auto=a.auto if a.auto >= 0 else b.auto)


def _adjudicated(open_pairs: Sequence[Pair], third: Annotation, policy: AnnotationPolicy) -> list[DrawnBox]:
    """What the third person says about the places in dispute; what they do not see there is dropped."""
    disputed = [first or second for first, second, _ in open_pairs]
    pairs = pair_boxes([box for box in disputed if box], third.boxes, policy.match_iou)
    return [judged for disputed_box, judged, _ in pairs if disputed_box and judged]


def _reviewed(
    first: Annotation,
    truth: Sequence[DrawnBox],
    auto: Sequence[DrawnBox],
    reviewer: AnnotatorProfile,
    size: tuple[int, int],
    policy: AnnotationPolicy,
    rng: np.random.Generator,
) -> tuple[tuple[DrawnBox, ...], float]:
    """The author's boxes after a second look: what the reviewer would do otherwise is mostly noticed and
    put right.
    """
    second = annotate(truth, auto, reviewer, size, rng)
    boxes = []
    for mine, theirs, _ in pair_boxes(first.boxes, second.boxes, policy.match_iou):
        noticed = rng.random() < policy.review_catch_rate
        if mine and theirs:
            boxes.append(theirs if mine.cls != theirs.cls and noticed else mine)
        elif mine and not (mine.object_id < 0 and noticed):
            boxes.append(mine)
        elif theirs and theirs.object_id >= 0 and noticed:
            boxes.append(theirs)
    return tuple(boxes), reviewer.frame_s + 0.25 * reviewer.object_s * len(first.boxes)


def _without_doubles(boxes: Sequence[DrawnBox]) -> list[DrawnBox]:
    """One box per object, where two disputes were settled by the same box."""
    kept: list[DrawnBox] = []
    seen: set[tuple[str, tuple[float, float, float, float]]] = set()
    for box in boxes:
        if (box.cls, box.xyxy) not in seen:
            seen.add((box.cls, box.xyxy))
            kept.append(box)
    return kept
