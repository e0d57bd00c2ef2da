"""What kind of error each wrong detection is, and what average precision each kind costs.

After Bolya et al., "TIDE: a general toolbox for identifying object detection errors" (2020). A false positive is, by
its overlap with the objects of its picture (t_f: foreground, t_b: background):

    localisation    t_b <= IoU < t_f with an object of its class
    classification  IoU >= t_f with an object of another class
    duplicate       IoU >= t_f with an object of its class that a better detection has found
    background      IoU <= t_b with every object
    both            what is left: t_b < IoU < t_f with objects of other classes only

Definitions overlap; they are asked in this order, as the authors' tool does. An object is *missed* that no detection
found and that no classification or localisation error aims at. What a kind costs is how far the average precision rises
when all its errors are corrected and nothing else is.
Belongs here: these rules, on boxes of many pictures. Does not belong here: doubt without labels (doubt), files.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.metrics.boxes import Boxes, iou
from av_assets.domain.metrics.matching import average_precision, match

FALSE: Final = ("classification", "localisation", "both", "duplicate", "background")
MISSED: Final = "missed"
KINDS: Final = (*FALSE, MISSED)
CORRECT, IGNORED = -1, -2
"""Values of `Errors.kind` beside the places in FALSE."""
_CLS, _LOC, _BOTH, _DUP, _BKG = range(5)


@dataclass(frozen=True)
class Errors:
    """Detections and objects with what became of them.

    Attributes:
        kind: (n,) place in FALSE, CORRECT or IGNORED, by detection.
        target: (n,) the object that a detection found, doubled or aims at; -1 for both, background and ignored ones.
        ignore: (m,) objects that count neither way.
        missed: (m,) objects that nothing found or aims at.
        covered: (m,) objects that nothing found, and that a classification or localisation error aims at.
    """

    truth: Boxes
    found: Boxes
    num_classes: int
    kind: NDArray[np.int8]
    target: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    missed: NDArray[np.bool_]
    covered: NDArray[np.bool_]

    def counts(self) -> dict[str, int]:
        """Errors by kind, in the order of KINDS."""
        false = {name: int((self.kind == place).sum()) for place, name in enumerate(FALSE)}
        return {**false, MISSED: int(self.missed.sum())}


def classify(
    truth: Boxes,
    found: Boxes,
    ignore: NDArray[np.bool_],
    num_classes: int,
    foreground: float = 0.5,
    background: float = 0.1,
) -> Errors:
    """The kind of every detection and the fate of every object.

    Args:
        ignore: (len(truth),) objects that are neither to be found nor to be missed; what lies on them is ignored too.
        foreground, background: t_f and t_b.
    """
    matches = match(truth, found, ignore, num_classes, foreground)
    kind = np.full(len(found), IGNORED, np.int8)
    target = np.full(len(found), -1, np.int64)
    kind[matches.correct] = CORRECT
    rows_of, objects_of = _by_frame(found.frame), _by_frame(truth.frame)
    for frame, rows in rows_of.items():
        objects = objects_of.get(frame, np.empty(0, np.int64))
        objects = objects[~ignore[objects]]
        overlap = iou(found.xyxy[rows], truth.xyxy[objects])
        same = found.cls[rows][:, None] == truth.cls[objects][None, :]
        aimed = _found_objects(
            found.score[rows], matches.correct[rows], np.where(same, overlap, -1.0), foreground
        )
        target[rows[aimed >= 0]] = objects[aimed[aimed >= 0]]
        for place in np.flatnonzero(~matches.correct[rows] & ~matches.ignored[rows]):
            kind[rows[place]], at = _kind(overlap[place], same[place], foreground, background)
            target[rows[place]] = objects[at] if at >= 0 else -1
    detected, aimed_at = np.zeros(len(truth), bool), np.zeros(len(truth), bool)
    detected[target[kind == CORRECT]] = True
    aimed_at[target[(kind == _CLS) | (kind == _LOC)]] = True
    open_ = ~detected & ~ignore
    return Errors(
        truth, found, num_classes, kind, target, ignore, missed=open_ & ~aimed_at, covered=open_ & aimed_at
    )


def _by_frame(frames: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    order = np.argsort(frames, kind="stable")
    starts = np.flatnonzero(np.diff(frames[order], prepend=np.iinfo(np.int64).min))
    parts = np.split(order, starts[1:]) if len(order) else []
    return {int(frames[part[0]]): part for part in parts}


def _found_objects(
    score: NDArray[np.float64], correct: NDArray[np.bool_], same: NDArray[np.float64], foreground: float
) -> NDArray[np.int64]:
    """(n,) column of the object that each correct detection found, -1 for the others: greedy, as `match` is."""
    aimed = np.full(len(score), -1, np.int64)
    free = np.ones(same.shape[1], bool)
    for row in np.argsort(-score, kind="stable"):
        if correct[row]:
            values = np.where(free, same[row], -1.0)
            best = len(values) - 1 - int(np.argmax(values[::-1]))  # the last of equals, as `match` chooses
            assert values[best] >= foreground
            aimed[row], free[best] = best, False
    return aimed


def _kind(
    overlap: NDArray[np.float64], same: NDArray[np.bool_], foreground: float, background: float
) -> tuple[int, int]:
    """Kind of one false positive, and the column of the object that it aims at, or -1."""
    own, other = np.where(same, overlap, -1.0), np.where(same, -1.0, overlap)
    best_own, best_other = own.max(initial=-1.0), other.max(initial=-1.0)
    if background <= best_own < foreground:
        return _LOC, int(own.argmax())
    if best_other >= foreground:
        return _CLS, int(other.argmax())
    if best_own >= foreground:
        return _DUP, int(own.argmax())
    if max(best_own, best_other) <= background:
        return _BKG, -1
    return _BOTH, -1


def map_after(errors: Errors, fixed: Collection[str] = ()) -> float | None:
    """Mean average precision at t_f with the errors of these kinds corrected; None where there is nothing to find.

    A classification error gets the class, a localisation error the box of the object that it aims at; of several
    detections that then find one object the best stays. The others are taken away. Missed objects are not asked for; a
    class of which none is left to find is worth 1 without a false positive and 0 with one.
    """
    classes = np.unique(errors.truth.cls[~errors.ignore])
    if not len(classes):
        return None
    kind = errors.kind
    cls, correct, keep = errors.found.cls.copy(), kind == CORRECT, kind != IGNORED
    for name in set(fixed) & {"both", "duplicate", "background"}:
        keep &= kind != FALSE.index(name)
    for name in set(fixed) & {"classification", "localisation"}:
        rows = kind == FALSE.index(name)
        cls[rows] = errors.truth.cls[errors.target[rows]]
        correct |= rows
    keep &= ~_second_best(errors, correct)
    asked = ~errors.ignore & ~errors.missed if MISSED in fixed else ~errors.ignore
    return float(np.mean([_ap(errors, cls, correct, keep, asked, c) for c in classes]))


def _second_best(errors: Errors, correct: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) detections whose object a better one of the correct ones finds too."""
    second, taken = np.zeros(len(correct), bool), set[int]()
    rows = np.flatnonzero(correct)
    for row in rows[np.argsort(-errors.found.score[rows], kind="stable")]:
        at = int(errors.target[row])
        second[row] = at in taken
        taken.add(at)
    return second


def _ap(
    errors: Errors,
    cls: NDArray[np.int64],
    correct: NDArray[np.bool_],
    keep: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    wanted: int,
) -> float:
    rows, objects = keep & (cls == wanted), int((asked & (errors.truth.cls == wanted)).sum())
    if objects == 0:
        return float(not rows.any())
    return average_precision(errors.found.score[rows], correct[rows], objects)


def costs(errors: Errors) -> dict[str, float | None]:
    """Kind -> by how much the average precision rises when its errors, and no others, are corrected (dAP)."""
    before = map_after(errors)
    if before is None:
        return dict.fromkeys(KINDS)
    return {name: (map_after(errors, (name,)) or 0.0) - before for name in KINDS}
