"""From what a model saw, and what people and other labellers say of it, to failures.

Belongs here: which frames count, and joining the kinds of failures. Does not belong here: each kind (tide, doubt),
clips and buckets (cases, buckets), reading files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import ModelError
from av_assets.domain.failures.cases import Frame, distance_tag
from av_assets.domain.failures.doubt import Seen, doubt, flicker, quarrel, standing_out
from av_assets.domain.failures.tide import FALSE, KINDS, Errors, classify, costs, map_after
from av_assets.domain.metrics.boxes import Boxes

if TYPE_CHECKING:
    from av_assets.policies.failures import FailurePolicy

Labels = Sequence[Mapping[str, Any]]
Failure = tuple[str, int, str, int, Sequence[str]]
"""clip_id, ref_ns, kind, how often, further tags."""
_CORNERS: Final = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class DriveEvidence:
    """One drive.

    Attributes:
        seen: what the model saw, by frame; frames that it could not see are not in it.
        trained: frames that the training manifest holds: what a model does there says nothing.
        labelled: objects of the frames that people are done with (cls, x1..y2, occlusion, distance_m).
        others: boxes of the frames that other labellers looked at (cls, x1..y2).
    """

    drive: str
    seen: Mapping[Frame, Seen]
    trained: frozenset[Frame] = frozenset()
    labelled: Mapping[Frame, Labels] = field(default_factory=dict)
    others: Mapping[Frame, Labels] = field(default_factory=dict)


@dataclass
class Findings:
    """What fails in a pool of drives.

    Attributes:
        failures: all of them, of sure detections where detections are concerned.
        looked_at: clip -> frames of it that count.
        trained: frames that were left out. labelled: frames that were compared with people's labels.
        errors: of all detections; None without labelled frames. sure: of the sure ones.
        rows: every error of a sure detection, and every missed object; `hard` where it is one of a frame that fails.
        units: piece of driving, as long as the policy says -> whether a frame in it fails.
        bounds: kind of doubt -> how many figures are known, and how many stand out.
    """

    failures: list[Failure] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)
    trained: int = 0
    labelled: int = 0
    errors: Errors | None = None
    sure: Errors | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    units: dict[tuple[str, int], bool] = field(default_factory=dict)
    bounds: dict[str, dict[str, int]] = field(default_factory=dict)

    def kinds(self) -> dict[str, dict[str, Any]]:
        """Kind -> errors among all detections, among the sure ones, and what it costs (dAP, 0..1)."""
        if self.errors is None or self.sure is None:
            return {}
        every, sure, cost = self.errors.counts(), self.sure.counts(), costs(self.errors)
        return {kind: {"all": every[kind], "sure": sure[kind], "dap": _rounded(cost[kind])} for kind in KINDS}

    def map50(self) -> float | None:
        return None if self.errors is None else _rounded(map_after(self.errors))


def find_failures(drives: Iterable[DriveEvidence], classes: Sequence[str], policy: FailurePolicy) -> Findings:
    """All failures of the frames that the model did not learn from.

    Raises:
        ModelError: class_mismatch, people's labels name a class that the model does not know.
    """
    found, truth, seen, keys = Findings(), [], [], list[Frame]()
    rows_of: list[Mapping[str, Any]] = []
    doubts: dict[str, dict[Any, float | None]] = {"uncertain": {}, "disagreeing": {}, "flickering": {}}
    breaks: dict[str, tuple[int, int]] = {}
    for drive in drives:
        counted = {frame: one for frame, one in sorted(drive.seen.items()) if frame not in drive.trained}
        found.trained += len(drive.seen) - len(counted)
        for clip, frames in Counter(clip for clip, _ in counted).items():
            found.looked_at[clip] = frames
        found.units |= {(clip, _unit(ref_ns, policy)): False for clip, ref_ns in counted}
        _doubts(drive, counted, classes, policy, doubts, breaks)
        for frame in sorted(counted.keys() & drive.labelled.keys()):
            rows = _known(drive.labelled[frame], classes, drive.drive)
            truth.append(_truth(len(keys), rows, classes))
            one = counted[frame]
            seen.append(Boxes.of_frame(len(keys), one.boxes, one.classes, one.scores))
            rows_of += rows
            keys.append(frame)
    found.labelled = len(keys)
    if keys:
        _compare(found, Boxes.concat(truth), Boxes.concat(seen), rows_of, keys, classes, policy)
    _stand_out(found, doubts, breaks, policy)
    for clip, ref_ns, *_ in found.failures:
        found.units[clip, _unit(ref_ns, policy)] = True
    return found


def _unit(ref_ns: int, policy: FailurePolicy) -> int:
    return int(ref_ns // (policy.slice_unit_s * 1e9))


def _doubts(
    drive: DriveEvidence,
    counted: Mapping[Frame, Seen],
    classes: Sequence[str],
    policy: FailurePolicy,
    doubts: dict[str, dict[Any, float | None]],
    breaks: dict[str, tuple[int, int]],
) -> None:
    by_clip: dict[str, list[Seen]] = defaultdict(list)
    for (clip, ref_ns), one in counted.items():
        by_clip[clip].append(one)
        doubts["uncertain"][clip, ref_ns] = doubt(
            one.sure(policy.uncertain_score).scores, policy.uncertain_boxes
        )
        if (others := drive.others.get((clip, ref_ns))) is not None:
            boxes = np.array([[row[name] for name in _CORNERS] for row in others], np.float64).reshape(-1, 4)
            numbers = np.array([_number(row["cls"], classes) for row in others], np.int64)
            sure = one.sure(policy.sure_score)
            doubts["disagreeing"][clip, ref_ns] = quarrel(sure, boxes, numbers, policy.disagreement_iou)
    # Between frames that are left out everything would seem to come and go.
    for clip in by_clip.keys() - {clip for clip, _ in drive.trained}:
        seen = flicker(by_clip[clip], classes, policy.flicker)
        doubts["flickering"][clip] = seen.per_object_s
        if seen.at_ns is not None:
            breaks[clip] = (seen.breaks, seen.at_ns)


def _stand_out(
    found: Findings,
    doubts: Mapping[str, Mapping[Any, float | None]],
    breaks: Mapping[str, tuple[int, int]],
    policy: FailurePolicy,
) -> None:
    for kind, values in doubts.items():
        bound = getattr(policy, kind)
        chosen = standing_out(values, bound.share, bound.least)
        known = sum(value is not None for value in values.values())
        found.bounds[kind] = {"known": known, "standing_out": len(chosen)}
        for key in sorted(chosen):
            if kind != "flickering":
                found.failures.append((*key, kind, 1, ()))
            elif key in breaks:
                count, at_ns = breaks[key]
                found.failures.append((key, at_ns, kind, count, ()))


def _compare(
    found: Findings,
    truth: Boxes,
    seen: Boxes,
    labels: Sequence[Mapping[str, Any]],
    keys: Sequence[Frame],
    classes: Sequence[str],
    policy: FailurePolicy,
) -> None:
    ignore, bounds = _ignored(truth, labels, policy), (policy.foreground_iou, policy.background_iou)
    found.errors, found.sure = (
        classify(truth, seen.where(seen.score >= least), ignore, len(classes), *bounds)
        for least in (policy.score_floor, policy.sure_score)
    )
    found.rows = list(_error_rows(found.sure, labels, keys, classes))
    erring = Counter[Frame](dict.fromkeys(keys, 0))
    erring.update((row["clip_id"], row["ref_ns"]) for row in found.rows)
    hard = standing_out(erring, policy.erring.share, policy.erring.least)
    found.bounds["erring"] = {"known": len(keys), "standing_out": len(hard)}
    for row in found.rows:
        row["hard"] = (row["clip_id"], row["ref_ns"]) in hard
        if row["hard"]:
            about = (f"class:{row['cls']}", distance_tag(row["distance_m"], policy.bands_m))
            found.failures.append((row["clip_id"], row["ref_ns"], row["kind"], 1, about))


def _error_rows(
    errors: Errors, labels: Sequence[Mapping[str, Any]], keys: Sequence[Frame], classes: Sequence[str]
) -> Iterable[dict[str, Any]]:
    """One row per error; cls is the object's where the error aims at one, else the detection's."""
    for index in np.flatnonzero(errors.kind >= 0).tolist():
        at = int(errors.target[index])
        label = labels[at] if at >= 0 else {}
        said = classes[int(errors.found.cls[index])]
        yield _error_row(
            keys[int(errors.found.frame[index])], FALSE[errors.kind[index]], errors.found.xyxy[index],
            label.get("cls", said), said, float(errors.found.score[index]), label.get("distance_m"),
        )  # fmt: skip
    for index in np.flatnonzero(errors.missed).tolist():
        label = labels[index]
        yield _error_row(
            keys[int(errors.truth.frame[index])], KINDS[-1], errors.truth.xyxy[index], label["cls"], None, None,
            label.get("distance_m"),
        )  # fmt: skip


def _error_row(
    frame: Frame,
    kind: str,
    box: NDArray[np.float64],
    cls: str,
    predicted: str | None,
    score: float | None,
    distance_m: float | None,
) -> dict[str, Any]:
    corners = dict(zip(_CORNERS, (float(v) for v in box), strict=True))
    named = {"clip_id": frame[0], "ref_ns": frame[1], "kind": kind, "cls": cls, "predicted_cls": predicted}
    return {**named, "score": score, **corners, "distance_m": distance_m}


def _truth(frame: int, rows: Labels, classes: Sequence[str]) -> Boxes:
    corners = [[row[name] for name in _CORNERS] for row in rows]
    return Boxes.of_frame(frame, corners, [classes.index(row["cls"]) for row in rows])


def _known(rows: Labels, classes: Sequence[str], drive: str) -> list[Mapping[str, Any]]:
    if foreign := sorted({row["cls"] for row in rows} - set(classes)):
        raise ModelError(
            f"people label {', '.join(foreign)}, and the model knows {', '.join(classes)} only",
            code="class_mismatch",
            drive=drive,
            remedy="put a model into production that learnt these classes",
        )
    return list(rows)


def _number(cls: str, classes: Sequence[str]) -> int:
    return classes.index(cls) if cls in classes else -1


def _ignored(truth: Boxes, labels: Sequence[Mapping[str, Any]], policy: FailurePolicy) -> NDArray[np.bool_]:
    """As the evaluation does it: too small, or hidden too far."""
    short_px = (truth.xyxy[:, 2:] - truth.xyxy[:, :2]).min(axis=1, initial=np.inf)
    hidden = np.array([row.get("occlusion") or 0.0 for row in labels]) > policy.max_occlusion
    return np.asarray((short_px < policy.min_box_px) | hidden)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
