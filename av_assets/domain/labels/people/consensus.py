"""Several people's boxes of one frame become one set of boxes, or a dispute: by vote, whoever the people are.

A box is supported by everybody who drew one of its class that overlaps it by `agree_iou`. More than half of the people
make it final; of boxes for one thing the best supported is taken, and its corners are the mean of its supporters'.
Half of the people are a dispute, fewer are outvoted. The order of people has no say, and one more person who draws
exactly what is final removes nothing of it.
Belongs here: boxes of one frame. Does not belong here: states and people (decisions), agreement figures (agreement).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.matching import iou_matrix, match_boxes
from av_assets.domain.labels.people.annotators import DrawnBox, coordinates

if TYPE_CHECKING:
    from av_assets.policies.annotation import AnnotationPolicy

Floats = npt.NDArray[np.float64]
Opinions = Sequence[Sequence[DrawnBox]]


@dataclass(frozen=True)
class Vote:
    """What came of a vote: final boxes, boxes of a dispute (half of the people want them), boxes of a minority."""

    agreed: tuple[DrawnBox, ...]
    tied: tuple[DrawnBox, ...]
    outvoted: tuple[DrawnBox, ...]

    @property
    def open(self) -> tuple[DrawnBox, ...]:
        return self.tied + self.outvoted


def vote(opinions: Opinions, agree_iou: float) -> Vote:
    """The vote of people on one frame; each opinion holds all boxes of one person."""
    people = len(opinions)
    boxes, owner = _flat(opinions)
    if not boxes:
        return Vote((), (), ())
    same = np.array([[a.cls == b.cls for b in boxes] for a in boxes])
    overlap = iou_matrix(coordinates(boxes), coordinates(boxes)) * same
    best = np.column_stack([overlap[:, owner == p].max(axis=1, initial=0.0) for p in range(people)])
    supports = (best >= agree_iou).sum(axis=1)
    rank = sorted(range(len(boxes)), key=lambda i: (-supports[i], -round(float(best[i].sum()), 9), i))
    chosen: list[int] = []
    rest: list[int] = []
    for i in rank:
        if any(overlap[i, j] >= agree_iou for j in chosen):
            continue  # the same thing, and somebody drew it better
        (chosen if 2 * supports[i] > people else rest).append(i)
    agreed = _mean_boxes(boxes, overlap, owner, chosen, agree_iou)
    tied = tuple(boxes[i] for i in rest if 2 * supports[i] == people)
    return Vote(agreed, tied, tuple(boxes[i] for i in rest if 2 * supports[i] < people))


def places(boxes: Sequence[DrawnBox], match_iou: float) -> int:
    """How many places boxes in dispute lie at: boxes that overlap are one dispute, whatever their class."""
    found: list[DrawnBox] = []
    for box in boxes:
        near = iou_matrix([box.xyxy], coordinates(found))
        if not (near >= match_iou).any():
            found.append(box)
    return len(found)


def settle(opinions: Opinions, judge: Sequence[DrawnBox], policy: AnnotationPolicy) -> tuple[DrawnBox, ...]:
    """Final boxes after a third person: what most agreed on, and elsewhere what `judge` drew where somebody drew.

    What only the judge sees is not final, since nobody seconded it; what they do not draw in a place without a
    majority is dropped.
    """
    held = vote(opinions, policy.agree_iou)
    pairs = match_boxes(coordinates(held.agreed), coordinates(judge), policy.match_iou)
    known = {j for i, j, _ in pairs if held.agreed[i].cls == judge[j].cls}
    left = _unique([box for j, box in enumerate(judge) if j not in known])
    near = iou_matrix(coordinates(left), coordinates(held.open)) >= policy.match_iou
    settled = [box for box, row in zip(left, near, strict=True) if row.any()]
    free = [
        box
        for box in settled
        if not any(
            box.cls == other.cls and iou_matrix([box.xyxy], [other.xyxy])[0, 0] >= policy.agree_iou
            for other in held.agreed
        )
    ]
    return held.agreed + tuple(free)


def _flat(opinions: Opinions) -> tuple[list[DrawnBox], npt.NDArray[np.int64]]:
    """All boxes with the number of their person, in an order that depends on the boxes alone."""
    pairs = sorted(
        ((box, p) for p, boxes in enumerate(opinions) for box in boxes), key=lambda pair: _key(pair[0])
    )
    return [box for box, _ in pairs], np.array([p for _, p in pairs], dtype=np.int64)


def _key(box: DrawnBox) -> tuple[str, tuple[float, ...], int, str]:
    return box.cls, box.xyxy, box.object_id, box.label_id or ""


def _unique(boxes: Sequence[DrawnBox]) -> list[DrawnBox]:
    return list({(box.cls, box.xyxy): box for box in boxes}.values())


def _mean_boxes(
    boxes: Sequence[DrawnBox],
    overlap: Floats,
    owner: npt.NDArray[np.int64],
    chosen: Sequence[int],
    agree_iou: float,
) -> tuple[DrawnBox, ...]:
    """The chosen boxes with the mean corners of their supporters, where that neither leaves nor meets another box."""
    merged = [_merged(boxes, overlap, owner, i, agree_iou) for i in chosen]
    before = coordinates([boxes[i] for i in chosen])
    after = coordinates(merged)
    near = iou_matrix(after, before)
    kept = np.diag(near) >= agree_iou if len(chosen) else np.zeros(0, bool)
    cls = np.array([box.cls for box in merged])
    others = (cls[:, None] == cls[None, :]) & ~np.eye(len(chosen), dtype=bool)
    meets = (np.maximum(near, np.maximum(near.T, iou_matrix(after, after))) >= agree_iou) & others
    use = kept & ~meets.any(axis=1) if len(chosen) else kept
    return tuple(
        box if use[k] else replace(box, xyxy=boxes[i].xyxy)
        for k, (i, box) in enumerate(zip(chosen, merged, strict=True))
    )


def _merged(
    boxes: Sequence[DrawnBox], overlap: Floats, owner: npt.NDArray[np.int64], i: int, agree_iou: float
) -> DrawnBox:
    """Box `i` with the mean corners of the best box of each supporter, and what they know of the thing."""
    supporters = []
    for person in sorted(set(owner.tolist())):
        own = np.flatnonzero(owner == person)
        j = int(own[int(np.argmax(overlap[i, own]))])
        if overlap[i, j] >= agree_iou:
            supporters.append(j)
    held = sorted((boxes[j] for j in supporters), key=_key)
    x1, y1, x2, y2 = coordinates(held).mean(axis=0).tolist()
    objects = Counter(box.object_id for box in held if box.object_id >= 0)
    return replace(
        boxes[i],
        xyxy=(x1, y1, x2, y2),
        object_id=min(objects, key=lambda o: (-objects[o], o)) if objects else -1,
        label_id=next((b.label_id for b in held if b.label_id), None),
        occlusion=next((b.occlusion for b in held if b.occlusion is not None), None),
        distance_m=next((b.distance_m for b in held if b.distance_m is not None), None),
    )
