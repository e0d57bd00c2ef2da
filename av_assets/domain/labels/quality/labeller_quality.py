"""How good the auto-labeller is, measured on verified labels, and which thresholds would make it good enough.

Thresholds are chosen on one half of the drives and judged on the other; a salted hash says which drive is in which.
Belongs here: the report. Does not belong here: how a threshold is chosen (thresholds), how labels are verified, reading
bundles.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.quality.confusion import confusion, corners
from av_assets.domain.labels.quality.thresholds import (
    Chosen,
    Frame,
    Row,
    Verdict,
    as_thresholds,
    choose_thresholds,
    clustered_lower_bound,
    clusters_of,
    interval,
    reaches,
    verdicts,
)
from av_assets.domain.labels.schema import CLASSES
from av_assets.domain.metrics.calibration import reliability_bins
from av_assets.domain.metrics.matching import average_precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from av_assets.policies.label_fusion import LabelFusionPolicy

CHOOSE: Final = "choose"
JUDGE: Final = "judge"
UNKNOWN: Final = "unknown"


def half_of(drive: str, salt: str) -> str:
    """CHOOSE or JUDGE; the same drive is always in the same half."""
    return (CHOOSE, JUDGE)[hashlib.sha256(f"{salt}/{drive}".encode()).digest()[0] & 1]


@dataclass(frozen=True)
class JudgedDrive:
    """What verified labels say of one drive.

    Attributes:
        objects: (class, slice) -> verified objects; "unknown" in clips without any candidate.
        truth, found: rows of the verified frames, found ones before any threshold.
    """

    drive: str
    frames: tuple[Frame, ...]
    verdicts: tuple[Verdict, ...]
    objects: Mapping[tuple[str, str], int]
    truth: Sequence[Row] = field(repr=False)
    found: Sequence[Row] = field(repr=False)

    @classmethod
    def of(
        cls,
        drive: str,
        candidates: Iterable[Row],
        verified: Iterable[Row],
        frames: Iterable[Frame],
        policy: LabelFusionPolicy,
    ) -> JudgedDrive:
        """From rows of candidates.parquet and of verified labels; what is not in `frames` is left out."""
        known = set(frames)
        found = [r for r in candidates if (r["clip_id"], r["ref_ns"]) in known and r["x1"] is not None]
        truth = [r for r in verified if (r["clip_id"], r["ref_ns"]) in known]
        slices = {r["clip_id"]: r["slice"] for r in found}  # a slice holds for a whole clip
        objects = Counter((r["cls"], slices.get(r["clip_id"], UNKNOWN)) for r in truth)
        judged = verdicts(drive, found, truth, known, policy)
        return cls(drive, tuple(sorted(known)), tuple(judged), dict(objects), truth, found)


def labeller_report(drives: Sequence[JudgedDrive], policy: LabelFusionPolicy) -> dict[str, Any]:
    """Quality under the policy's thresholds and under newly chosen ones, both on the judging half.

    Keys: drives, chosen_on, judged_on (names), thresholds (class -> slice -> how it was chosen), active and proposed
    (`quality`), reason (why there is no proposal, else empty).
    """
    halves: dict[str, list[JudgedDrive]] = {CHOOSE: [], JUDGE: []}
    for drive in sorted(drives, key=lambda d: d.drive):
        halves[half_of(drive.drive, policy.choosing.salt)].append(drive)
    chosen = choose_thresholds([v for d in halves[CHOOSE] for v in d.verdicts], policy)
    proposed = with_thresholds(policy, chosen)
    return {
        "drives": len(drives),
        "frames": sum(len(d.frames) for d in drives),
        "chosen_on": [d.drive for d in halves[CHOOSE]],
        "judged_on": [d.drive for d in halves[JUDGE]],
        "policy": policy.version,
        "policy_digest": policy.digest,
        "target": dict(policy.choosing.target_precision),
        "thresholds": {cls: {n: asdict(c) for n, c in slices.items()} for cls, slices in chosen.items()},
        "active": quality(halves[JUDGE], policy),
        "proposed": quality(halves[JUDGE], proposed),
        "reason": _why_no_proposal(drives, policy, proposed),
    }


def with_thresholds(
    policy: LabelFusionPolicy, chosen: Mapping[str, Mapping[str, Chosen]]
) -> LabelFusionPolicy:
    """The policy with what was chosen; a class of which nothing was keeps its thresholds. Version: one minor more."""
    found = {cls: slices for cls, slices in as_thresholds(chosen).items() if slices}
    merged = {cls: found.get(cls, dict(policy.thresholds.get(cls, {}))) for cls in policy.default}
    major, minor, _ = policy.version.split("-")[0].split(".")
    changed = {"version": f"{major}.{int(minor) + 1}.0", "thresholds": merged}
    return type(policy).model_validate(policy.model_dump(mode="json") | changed)


def _why_no_proposal(
    drives: Sequence[JudgedDrive], policy: LabelFusionPolicy, proposed: LabelFusionPolicy
) -> str:
    if not drives:
        return "no drive has labels that people verified"
    if proposed.thresholds == {cls: dict(policy.thresholds.get(cls, {})) for cls in policy.default}:
        return "no other threshold was found"
    return ""


def quality(drives: Sequence[JudgedDrive], policy: LabelFusionPolicy) -> dict[str, Any]:
    """Per class, per class and slice, over all: counts, precision, recall, intervals, AP50, ECE, median IoU.

    Shares come with n and an exact interval (two-sided 95 %), precision also with the clustered one-sided lower bound
    that the target is held against. Null where nothing was counted. AP50 and ECE are of all candidates, the rest is of
    those that reach the threshold.
    """
    judged = [v for d in drives for v in d.verdicts]
    objects: Counter[tuple[str, str]] = Counter()
    for drive in drives:
        objects.update(drive.objects)
    per_class = {
        cls: _scores([v for v in judged if v.cls == cls], sum(n for (c, _), n in objects.items() if c == cls), policy)
        for cls in CLASSES
    }  # fmt: skip
    slices = {
        f"{cls}/{name}": _scores(
            [v for v in judged if (v.cls, v.slice) == (cls, name)], objects[cls, name], policy
        )
        for cls, name in sorted({(v.cls, v.slice) for v in judged} | set(objects))
    }
    for cls, scores in per_class.items():
        scores["target"] = policy.choosing.target_precision[cls]  # type: ignore[index]
        scores["verdict"] = _verdict(scores, policy)
    return {
        "frames": sum(len(d.frames) for d in drives),
        "all": _scores(judged, sum(objects.values()), policy),
        "classes": per_class,
        "slices": slices,
        "confusion": {"classes": [*CLASSES, "none"], "matrix": _confusion(drives, policy)},
        "reliability": _bins(judged, policy),
        "tracks": {d.drive: _tracks(d, policy) for d in drives},
    }


def _scores(judged: Sequence[Verdict], objects: int, policy: LabelFusionPolicy) -> dict[str, Any]:
    """Of some candidates and the objects that they might have found."""
    taken = [v for v in judged if reaches(v.score, v.cls, v.slice, policy)]
    hits = sum(v.correct for v in taken)
    score = np.array([v.score for v in judged], np.float64)
    correct = np.array([v.correct for v in judged], bool)
    overlaps = [v.overlap for v in taken if v.correct]
    return {
        "candidates": len(judged),
        "found": len(taken),
        "objects": objects,
        "correct": hits,
        "precision": _share(hits, len(taken)),
        "precision_interval": interval(hits, len(taken)),
        "precision_lower_bound": _bound(taken, policy),
        "recall": _share(hits, objects),
        "recall_interval": interval(min(hits, objects), objects),
        "median_iou": round(float(np.median(overlaps)), 4) if overlaps else None,
        "ap50": round(average_precision(score, correct, objects), 4) if objects and len(judged) else None,
        "ece": expected_calibration_error(score, correct, policy.choosing.bins),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _bound(taken: Sequence[Verdict], policy: LabelFusionPolicy) -> float | None:
    if not taken:
        return None
    rule = policy.choosing
    _, cluster = clusters_of(taken, rule)
    correct = np.array([v.correct for v in taken])
    return round(clustered_lower_bound(correct, cluster, rule.confidence, rule.assumed_correlation), 4)


def expected_calibration_error(
    score: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], bins: int
) -> float | None:
    """Mean distance of score and share correct over equal bins (Guo et al. 2017); None without scores."""
    if not len(score):
        return None
    filled = [b for b in reliability_bins(score, correct, bins) if b["count"]]
    gaps = sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in filled)
    return round(float(gaps) / len(score), 4)


def _bins(judged: Sequence[Verdict], policy: LabelFusionPolicy) -> list[dict[str, Any]]:
    score = np.array([v.score for v in judged], np.float64)
    return reliability_bins(score, np.array([v.correct for v in judged], bool), policy.choosing.bins)


def _verdict(scores: Mapping[str, Any], policy: LabelFusionPolicy) -> str:
    """reached: the bound holds; likely: the point does; missed: it does not; insufficient: too few to say."""
    if scores["found"] < policy.choosing.min_items:
        return "insufficient"
    if scores["precision_lower_bound"] >= scores["target"]:
        return "reached"
    return "likely" if scores["precision"] >= scores["target"] else "missed"


def _labels(drive: JudgedDrive, policy: LabelFusionPolicy) -> list[Row]:
    return [r for r in drive.found if reaches(r["score"], r["cls"], r["slice"], policy)]


def _confusion(drives: Sequence[JudgedDrive], policy: LabelFusionPolicy) -> list[list[int]]:
    total = np.zeros((len(CLASSES) + 1, len(CLASSES) + 1), np.int64)
    for drive in drives:
        total += confusion(drive.truth, _labels(drive, policy), CLASSES)
    return [[int(n) for n in row] for row in total]


def _tracks(drive: JudgedDrive, policy: LabelFusionPolicy) -> dict[str, Any]:
    """IDF1, MOTA and HOTA of the labels; identities are those that verified labels give."""
    from av_assets.domain.metrics.tracks import track_scores

    truth = _by_time(drive, drive.truth, "label_id")
    return dict(track_scores(truth, _by_time(drive, _labels(drive, policy), "track")))


def _by_time(drive: JudgedDrive, rows: Iterable[Row], name: str) -> list[list[tuple[str, list[float]]]]:
    """Per frame id and corners; a name that stands twice in a frame counts with its surest box."""
    held: dict[Frame, dict[str, Row]] = {frame: {} for frame in drive.frames}
    for row in sorted(rows, key=lambda r: -r["score"]):
        held[row["clip_id"], row["ref_ns"]].setdefault(f"{row['cls']}/{row[name]}", row)
    return [[(key, corners([row])[0].tolist()) for key, row in held[f].items()] for f in drive.frames]
