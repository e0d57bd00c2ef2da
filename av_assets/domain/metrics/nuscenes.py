"""Detection in 3D as nuScenes defines it: average precision by distance of centres, errors of what was found, NDS.

Caesar et al., nuScenes: a multimodal dataset for autonomous driving, CVPR 2020, section 3.1; numbers as in the
development kit's `detection_cvpr_2019`, which the tests hold equal. Precision is interpolated at 101 recalls; recalls
and precisions up to 0.1 do not count. Attributes (parked, sitting, ...) are not labelled here: by the definition the
attribute error of what has none is 1, so that NDS reaches 0.9 at most.
Belongs here: these numbers. Does not belong here: which cuboids count (`judged3d`), slices, thresholds that decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import DatasetError
from av_assets.domain.metrics.boxes3d import (
    Boxes3d,
    aligned_iou,
    centre_distances,
    turns,
    velocity_errors,
)

Floats = NDArray[np.float64]
DISTANCES_M: Final = (0.5, 1.0, 2.0, 4.0)
ERROR_DISTANCE_M: Final = 2.0
RECALL_POINTS: Final = np.linspace(0, 1, 101)
FIRST_POINT: Final = 11  # recalls above 0.1
MIN_PRECISION: Final = 0.1
MAP_WEIGHT: Final = 5.0
MAX_PER_FRAME: Final = 500
ERRORS: Final = ("ate_m", "ase", "aoe_rad", "ave_mps", "aae")
_STATIC: Final = frozenset({"ave_mps", "aae"})
_ROUND: Final = _STATIC | {"aoe_rad"}


class ClassRule(NamedTuple):
    """How one class is judged: up to which distance, after which turn it looks the same, which errors it has not."""

    range_m: float
    period_rad: float = 2 * np.pi
    without: frozenset[str] = frozenset()


RULES: Final[Mapping[str, ClassRule]] = {
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), ClassRule(50.0)),
    **dict.fromkeys(("pedestrian", "motorcycle", "bicycle"), ClassRule(40.0)),
    "traffic_cone": ClassRule(30.0, without=_ROUND),
    "barrier": ClassRule(30.0, np.pi, _STATIC),
}


def rules_of(classes: Sequence[str], nuscenes_names: Mapping[str, str]) -> tuple[ClassRule, ...]:
    """The rule of each class by its nuScenes name.

    Raises:
        DatasetError: class_without_rule.
    """
    if unknown := [name for name in classes if nuscenes_names.get(name) not in RULES]:
        raise DatasetError(
            f"no nuScenes class for {', '.join(unknown)}",
            code="class_without_rule",
            remedy="name it in nuscenes_classes of the evaluation policy",
        )
    return tuple(RULES[nuscenes_names[name]] for name in classes)


@dataclass(frozen=True)
class ClassMatches:
    """What became of the k detections of one class, best first.

    Attributes:
        score, frame: (k,). hit: (4, k) bool, found an object within each of DISTANCES_M.
        errors: (k, 5) of ERRORS against the object within 2 m; NaN where there is none or it is unknown.
        objects: (n,) int64, the frame of each object that was to be found.
    """

    score: Floats
    frame: NDArray[np.int64]
    hit: NDArray[np.bool_]
    errors: Floats
    objects: NDArray[np.int64]

    def resampled(self, times: NDArray[np.int64]) -> ClassMatches:
        """As if frame f had been there `times[f]` times."""
        rows = np.repeat(np.arange(len(self.score)), times[self.frame])
        objects = np.repeat(self.objects, times[self.objects])
        return ClassMatches(self.score[rows], self.frame[rows], self.hit[:, rows], self.errors[rows], objects)


class Curve(NamedTuple):
    """At RECALL_POINTS: precision, and the score at which that recall is reached (0 where it never is)."""

    precision: Floats
    score: Floats


@dataclass(frozen=True)
class NuscenesScores:
    """AP by class and distance of DISTANCES_M, and errors by class in the order of ERRORS: NaN where not defined."""

    ap: Floats
    errors: Floats

    @property
    def mean_ap(self) -> float:
        return float(self.ap.mean())

    @property
    def mean_errors(self) -> dict[str, float | None]:
        """Over the classes that have the error; None where no class has."""
        known = ~np.isnan(self.errors)
        sums = np.where(known, self.errors, 0.0).sum(0)
        return {
            name: float(sums[i] / known[:, i].sum()) if known[:, i].any() else None
            for i, name in enumerate(ERRORS)
        }

    @property
    def nds(self) -> float | None:
        """The nuScenes detection score; None where an error is defined for no class."""
        return detection_score(self.mean_ap, self.mean_errors)


def detection_score(mean_ap: float, errors: Mapping[str, float | None]) -> float | None:
    """NDS = (5 mAP + sum of max(0, 1 - error)) / 10; None where an error is not known."""
    known = [error for name in ERRORS if (error := errors[name]) is not None]
    if len(known) < len(ERRORS):
        return None
    return (MAP_WEIGHT * mean_ap + sum(max(0.0, 1.0 - e) for e in known)) / (MAP_WEIGHT + len(ERRORS))


def match_classes(truth: Boxes3d, found: Boxes3d, rules: Sequence[ClassRule]) -> tuple[ClassMatches, ...]:
    """Matches of each class: greedy by score, each detection takes the nearest object of its frame that is free."""
    return tuple(
        _match(truth.where(truth.cls == cls), found.where(found.cls == cls), rule)
        for cls, rule in enumerate(rules)
    )


def _match(truth: Boxes3d, found: Boxes3d, rule: ClassRule) -> ClassMatches:
    # Equal scores: the later one first, as the development kit sorts.
    found = found.where(np.argsort(found.score, kind="stable")[::-1])
    taken, rows_of = np.full((len(DISTANCES_M), len(found)), -1), _by_frame(found)
    for frame, objects in _by_frame(truth).items():
        rows = rows_of.get(frame, np.empty(0, np.int64))
        apart = centre_distances(found.box[rows], truth.box[objects])
        near = apart.min(1, initial=np.inf) < DISTANCES_M[-1]
        for index, limit_m in enumerate(DISTANCES_M):
            for row, column in _greedy(apart[near], limit_m):
                taken[index, rows[near][row]] = objects[column]
    hit = taken >= 0
    at = DISTANCES_M.index(ERROR_DISTANCE_M)
    errors = np.full((len(found), len(ERRORS)), np.nan)
    errors[hit[at]] = _errors(truth.box[taken[at, hit[at]]], found.box[hit[at]], rule)
    return ClassMatches(found.score, found.frame, hit, errors, truth.frame)


def _by_frame(boxes: Boxes3d) -> dict[int, NDArray[np.int64]]:
    """Frame -> its rows, in their order."""
    if not len(boxes):
        return {}
    order = np.argsort(boxes.frame, kind="stable")
    frames, starts = np.unique(boxes.frame[order], return_index=True)
    return dict(zip(frames.tolist(), np.split(order, starts[1:]), strict=True))


def _greedy(apart: Floats, limit_m: float) -> list[tuple[int, int]]:
    """(row, column) of an (n, m) table of distances: each row in turn takes the nearest free column below the limit."""
    free, pairs = apart.copy(), []
    for row in range(len(free)):
        column = int(np.argmin(free[row]))
        if free[row, column] < limit_m:
            pairs.append((row, column))
            free[:, column] = np.inf
    return pairs


def _errors(truth: Floats, found: Floats, rule: ClassRule) -> Floats:
    apart = found[:, :2] - truth[:, :2]
    return np.column_stack(
        [
            np.sqrt((apart * apart).sum(1)),
            1 - aligned_iou(truth, found),
            turns(truth, found, rule.period_rad),
            velocity_errors(truth, found),
            np.full(len(truth), np.nan),  # nobody labels attributes
        ]
    )


def curve_of(matches: ClassMatches, distance: int) -> Curve | None:
    """The curve within DISTANCES_M[distance]; None where there is nothing to find or nothing was found."""
    hit = matches.hit[distance]
    if not len(matches.objects) or not hit.any():
        return None
    hits = np.cumsum(hit)
    recall, precision = hits / len(matches.objects), hits / np.arange(1, len(hits) + 1)
    return Curve(
        np.interp(RECALL_POINTS, recall, precision, right=0),
        np.interp(RECALL_POINTS, recall, matches.score, right=0),
    )


def average_precision(curve: Curve | None) -> float:
    """Mean over recalls above 0.1 of the precision above 0.1, scaled to 0..1; 0 without a curve."""
    if curve is None:
        return 0.0
    return float(np.maximum(curve.precision[FIRST_POINT:] - MIN_PRECISION, 0).mean() / (1 - MIN_PRECISION))


def _mean_errors(matches: ClassMatches, rule: ClassRule) -> Floats:
    """(5,) means over recalls above 0.1 of the mean error so far; 1 where that recall is never reached."""
    at = DISTANCES_M.index(ERROR_DISTANCE_M)
    curve, result = curve_of(matches, at), np.ones(len(ERRORS))
    last = -1 if curve is None else int(np.flatnonzero(curve.score)[-1]) if curve.score.any() else 0
    if curve is not None and last >= FIRST_POINT:
        hit = matches.hit[at]
        for i in range(len(ERRORS)):
            so_far = _mean_so_far(matches.errors[hit, i])
            at_recall = np.interp(curve.score[::-1], matches.score[hit][::-1], so_far[::-1])[::-1]
            result[i] = at_recall[FIRST_POINT : last + 1].mean()
    return np.where([name in rule.without for name in ERRORS], np.nan, result)


def _mean_so_far(values: Floats) -> Floats:
    """Of the values that are known; 1 everywhere where none is, 0 before the first."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    sums, counts = np.cumsum(np.where(known, values, 0.0)), np.cumsum(known)
    return np.asarray(np.divide(sums, counts, out=np.zeros(len(values)), where=counts > 0), np.float64)


def nuscenes_scores(matches: Sequence[ClassMatches], rules: Sequence[ClassRule]) -> NuscenesScores:
    """Scores of classes; one without objects or without a match has AP 0 and errors of 1."""
    return NuscenesScores(
        class_aps(matches),
        np.array([_mean_errors(m, r) for m, r in zip(matches, rules, strict=True)]).reshape(-1, len(ERRORS)),
    )


def class_aps(matches: Sequence[ClassMatches]) -> Floats:
    """(classes, 4) average precision within each of DISTANCES_M."""
    found = [[average_precision(curve_of(m, d)) for d in range(len(DISTANCES_M))] for m in matches]
    return np.array(found).reshape(-1, len(DISTANCES_M))


def map3d(truth: Boxes3d, found: Boxes3d, rules: Sequence[ClassRule]) -> float | None:
    """Mean average precision over the classes that have objects; None where there is nothing to find.

    Both sides as `judged3d` gives them. The definition counts a class without objects as 0, which would say of a
    slice without cones that its cones are missed.
    """
    matches = [m for m in match_classes(truth, found, rules) if len(m.objects)]
    return float(class_aps(matches).mean()) if matches else None
