"""What several sources saw in one frame becomes one list of candidates.

Weighted boxes fusion (Solovyev, Wang and Gabruseva, "Weighted boxes fusion", 2021), with one change: a source that
could not have seen a thing does not count among those that missed it.
Belongs here: one frame. Does not belong here: detecting, time (tracking), what is good enough (thresholds).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.labels.automatic.candidates import Candidate, Corners
from av_assets.domain.labels.matching import iou_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av_assets.domain.labels.automatic.candidates import PictureDetection, PictureDetector
    from av_assets.policies.label_fusion import LabelFusionPolicy

LIDAR: Final = "lidar"


@dataclass(frozen=True)
class Sighting:
    """One box of one source; `origin` is the lidar's candidate behind it."""

    source: str
    cls: str
    xyxy: Corners
    score: float
    origin: Candidate | None = None


@dataclass(frozen=True)
class FusedBox:
    """Boxes that are one thing: the weighted mean of their corners and the sightings, best first."""

    xyxy: Corners
    sightings: tuple[Sighting, ...]


def fuse(
    lidar: Sequence[Candidate] | None,
    seen: Mapping[str, Sequence[PictureDetection]],
    detectors: Sequence[PictureDetector],
    size: tuple[int, int],
    policy: LabelFusionPolicy,
    frame: tuple[str, int] = ("", 0),
) -> list[Candidate]:
    """Candidates of one frame, best first; the order of the inputs changes nothing.

    Args:
        lidar: what the lidar saw, each with its cuboid, its score and its box in the picture; None without a sweep.
        seen: source -> what its detector saw; a detector that is not named did not look at this frame.
        detectors: all detectors, for the classes that they can tell.
        size: width and height of the picture in pixels.
        frame: clip_id and ref_ns of what the lidar did not see.

    A thing that the lidar saw stays, and keeps its cuboid and class; others say how far they agree. What only a
    detector saw is a candidate where the policy lets that source speak alone.
    """
    classes = {d.source: d.classes for d in detectors if d.source in seen}
    blind = _Blindness(classes, lidar is not None, size, policy)
    things = list(lidar or ())
    sightings = [
        Sighting(LIDAR, c.cls, c.xyxy, c.sources.get(LIDAR, c.score), c) for c in things if c.xyxy is not None
    ]
    sightings += [
        Sighting(source, d.cls, d.xyxy, d.score)
        for source, found in seen.items()
        if source in policy.sources
        for d in found
        if d.score >= policy.sources[source].min_score and d.cls in policy.overlap
    ]
    fused = [
        _candidate(one, blind, policy, frame)
        for cls in sorted({s.cls for s in sightings})
        for one in weighted_boxes([s for s in sightings if s.cls == cls], policy)
    ]
    outside = [_outside(c, classes, policy) for c in things if c.xyxy is None]
    kept = [c for c in (*fused, *outside) if _may_stand(c, policy)]
    return sorted(kept, key=lambda c: (-c.score, c.cls, c.xyxy or (), c.cuboid.x_m if c.cuboid else 0.0))


def weighted_boxes(sightings: Sequence[Sighting], policy: LabelFusionPolicy) -> list[FusedBox]:
    """Sightings of one class -> things, by descending weighted score.

    Each sighting joins the thing whose fused box it overlaps most, from the policy's overlap on; a thing takes one
    sighting of a source, so that two cars behind each other stay two.
    """
    clusters: list[list[Sighting]] = []
    boxes: list[Corners] = []
    for one in sorted(sightings, key=lambda s: (-_pull(s, policy), s.source, s.xyxy, -s.score)):
        place = _place(one, clusters, boxes, policy)
        if place is None:
            clusters.append([one])
            boxes.append(one.xyxy)
        else:
            clusters[place].append(one)
            boxes[place] = _mean_box(clusters[place], policy)
    return [FusedBox(box, tuple(members)) for box, members in zip(boxes, clusters, strict=True)]


def _pull(one: Sighting, policy: LabelFusionPolicy) -> float:
    return policy.sources[one.source].score_weight * one.score


def _place(
    one: Sighting, clusters: Sequence[Sequence[Sighting]], boxes: Sequence[Corners], policy: LabelFusionPolicy
) -> int | None:
    if not clusters:
        return None
    overlap = iou_matrix([one.xyxy], boxes)[0]
    taken = [any(s.source == one.source for s in members) for members in clusters]
    overlap[np.array(taken)] = -1.0
    best = int(np.argmax(overlap))
    return best if overlap[best] >= policy.overlap[one.cls] else None  # type: ignore[index]


def _mean_box(members: Sequence[Sighting], policy: LabelFusionPolicy) -> Corners:
    """Corners weighted by weight times score; those of the best where nothing else has a weight."""
    weights = np.array([policy.sources[s.source].box_weight * s.score for s in members])
    if (weights > 0).sum() <= 1:  # exactly the same corners, without rounding
        return members[int(np.argmax(weights))].xyxy
    x1, y1, x2, y2 = (weights @ np.array([s.xyxy for s in members]) / weights.sum()).tolist()
    return x1, y1, x2, y2


@dataclass(frozen=True)
class _Blindness:
    """Who could have seen a box of a class in this frame."""

    classes: Mapping[str, frozenset[str]]
    swept: bool
    size: tuple[int, int]
    policy: LabelFusionPolicy

    def __call__(self, cls: str, xyxy: Corners) -> frozenset[str]:
        """Sources that must abstain."""
        share = (xyxy[3] - xyxy[1]) / self.size[1]
        return frozenset(
            source
            for source, rule in self.policy.sources.items()
            if not self._looks(source, cls) or share < rule.least_height.get(cls, 0.0)  # type: ignore[call-overload]
        )

    def _looks(self, source: str, cls: str) -> bool:
        return self.swept if source == LIDAR else cls in self.classes.get(source, frozenset())


def _candidate(
    one: FusedBox, blind: _Blindness, policy: LabelFusionPolicy, frame: tuple[str, int]
) -> Candidate:
    best = one.sightings[0]
    sources = {s.source: s.score for s in sorted(one.sightings, key=lambda s: s.source)}
    unable = blind(best.cls, one.xyxy) - sources.keys()
    score = fused_score(sources, unable, policy)
    origin = next((s.origin for s in one.sightings if s.origin is not None), None)
    if origin is not None:
        return replace(origin, xyxy=one.xyxy, score=score, sources=sources, blind=unable)
    return Candidate(*frame, best.cls, score, one.xyxy, None, 0, sources, unable)


def _outside(thing: Candidate, classes: Mapping[str, frozenset[str]], policy: LabelFusionPolicy) -> Candidate:
    """What the lidar saw beside the picture: no other source could."""
    sources = {LIDAR: thing.sources.get(LIDAR, thing.score)}
    unable = frozenset(policy.sources) - {LIDAR}
    return replace(thing, score=fused_score(sources, unable, policy), sources=sources, blind=unable)


def fused_score(sources: Mapping[str, float], unable: frozenset[str], policy: LabelFusionPolicy) -> float:
    """Weighted mean of the scores of all sources that could see it; those that missed it count as 0."""
    weights = {name: rule.score_weight for name, rule in policy.sources.items() if name not in unable}
    total = sum(weights.values())
    if total <= 0:
        return 0.0
    return min(1.0, sum(weights.get(name, 0.0) * score for name, score in sources.items()) / total)


def _may_stand(one: Candidate, policy: LabelFusionPolicy) -> bool:
    return len(one.sources) > 1 or any(policy.sources[name].alone for name in one.sources)
