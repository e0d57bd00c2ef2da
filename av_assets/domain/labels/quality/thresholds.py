"""Which score is good enough, class by class and slice by slice, as verified labels show it.

The lowest threshold is taken at which the lower bound of precision still reaches the target. Bounds are exact
(Clopper and Pearson 1934) with an effective number of items for those that come in clusters (Korn and Graubard 1998);
many thresholds are tried in a fixed order, so that the confidence holds for the one that is chosen (Angelopoulos and
others, "Learn then test", 2021, fixed sequence testing).
Belongs here: choosing and applying thresholds. Does not belong here: the report on the labeller (labeller_quality).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.matching import iou_matrix
from av_assets.domain.labels.quality.confusion import corners
from av_assets.domain.labels.schema import SCORE_DIGITS
from av_assets.policies.label_fusion import WHOLE_CLASS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from av_assets.domain.labels.automatic.candidates import Candidate
    from av_assets.policies.label_fusion import LabelFusionPolicy, ThresholdRule

Frame = tuple[str, int]
Row = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What verified labels say of one candidate.

    Attributes:
        cluster: name of what it shares its errors with: its drive, or its track within it.
    """

    drive: str
    cluster: str
    cls: str
    slice: str
    score: float
    correct: bool
    overlap: float = 0.0


@dataclass(frozen=True)
class Chosen:
    """The threshold of a class and slice.

    Attributes:
        score: None where none reaches the target.
        items, correct: candidates at least that sure, and those of them that are objects.
        lower_bound: of their precision; None without a threshold.
        why: "reached", "target_not_reached", "too_few_items".
        clusters: of which kind, "drives" or "tracks".
    """

    score: float | None
    items: int
    correct: int
    lower_bound: float | None
    why: str
    clusters: str


def threshold_of(cls: str, slice_: str, policy: LabelFusionPolicy) -> float:
    """Of the slice, else of the whole class, else the default of the class."""
    own = policy.thresholds.get(cls, {})  # type: ignore[call-overload]
    return float(own.get(slice_, own.get(WHOLE_CLASS, policy.default[cls])))  # type: ignore[index]


def reaches(score: float, cls: str, slice_: str, policy: LabelFusionPolicy) -> bool:
    """Whether a score is good enough to be a label.

    Both sides count with the digits that files hold: what was labelled and what a reader of candidates.parquet counts
    as labelled are the same, also where a score is the threshold.
    """
    return round(float(score), SCORE_DIGITS) >= round(threshold_of(cls, slice_, policy), SCORE_DIGITS)


def kept(
    candidates: Sequence[Candidate], slice_of: Callable[[Candidate], str], policy: LabelFusionPolicy
) -> list[Candidate]:
    """Candidates whose score reaches the threshold of their class and slice, in their order."""
    return [c for c in candidates if reaches(c.score, c.cls, slice_of(c), policy)]


def verdicts(
    drive: str,
    candidates: Iterable[Row],
    verified: Iterable[Row],
    frames: Iterable[Frame],
    policy: LabelFusionPolicy,
) -> list[Verdict]:
    """Candidates in the picture against the verified labels of the same frames.

    Args:
        candidates: rows of candidates.parquet. verified: rows of labels.parquet of verified_labels.
        frames: (clip_id, ref_ns) of all frames that were verified, also of those without objects.

    Within frame and class the surest candidate takes the free object that it overlaps most. So a threshold never
    changes the verdict on a candidate above it.
    """
    found, objects = _by_frame(candidates), _by_frame(verified)
    return [
        verdict
        for frame in sorted(set(frames))
        for cls in policy.default
        for verdict in _judged(drive, found.get((frame, cls), []), objects.get((frame, cls), []), policy)
    ]


def _by_frame(rows: Iterable[Row]) -> dict[tuple[Frame, str], list[Row]]:
    found: dict[tuple[Frame, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["x1"] is not None:
            found[(row["clip_id"], row["ref_ns"]), row["cls"]].append(row)
    return found


def _judged(
    drive: str, found: Sequence[Row], objects: Sequence[Row], policy: LabelFusionPolicy
) -> list[Verdict]:
    ordered = sorted(found, key=lambda r: (-r["score"], r["x1"], r["y1"], r["x2"], r["y2"]))
    overlap = iou_matrix(corners(ordered), corners(objects))
    result = []
    for number, row in enumerate(ordered):
        best = int(np.argmax(overlap[number])) if len(objects) else -1
        iou = float(overlap[number, best]) if best >= 0 else 0.0
        hit = best >= 0 and iou >= policy.choosing.match_iou[row["cls"]]
        if hit:
            overlap[:, best] = -1.0
        track = row.get("track", -1)
        cluster = f"{drive}/{track}" if track is not None and track >= 0 else f"{drive}@{row['ref_ns']}"
        result.append(
            Verdict(
                drive,
                cluster,
                row["cls"],
                row["slice"],
                float(row["score"]),
                hit,
                max(iou, 0.0) if hit else 0.0,
            )
        )
    return result


def choose_thresholds(judged: Sequence[Verdict], policy: LabelFusionPolicy) -> dict[str, dict[str, Chosen]]:
    """class -> slice -> threshold; the slice "all" is the whole class, and what slices without one fall back to."""
    result: dict[str, dict[str, Chosen]] = {}
    for cls in policy.default:
        own = [v for v in judged if v.cls == cls]
        slices = {WHOLE_CLASS: own} | {
            name: [v for v in own if v.slice == name] for name in sorted({v.slice for v in own})
        }
        target = policy.choosing.target_precision[cls]
        result[cls] = {name: _choose(items, target, policy.choosing) for name, items in slices.items()}
    return result


def as_thresholds(chosen: Mapping[str, Mapping[str, Chosen]]) -> dict[str, dict[str, float]]:
    """What of it goes into a policy: those that were reached.

    A slice of too few drives was bounded by its tracks, which says nothing of how drives differ: it may ask for more
    than its class does, not for less.
    """
    return {
        cls: {
            name: one.score
            for name, one in slices.items()
            if one.score is not None and not _too_bold(one, slices.get(WHOLE_CLASS))
        }
        for cls, slices in chosen.items()
    }


def _too_bold(one: Chosen, whole: Chosen | None) -> bool:
    if one.score is None or whole is None or whole.score is None:
        return False
    return one.clusters == "tracks" and one.score < whole.score


def _choose(items: Sequence[Verdict], target: float, rule: ThresholdRule) -> Chosen:
    ordered = sorted(items, key=lambda v: -v.score)
    kind, cluster = clusters_of(ordered, rule)
    if len(items) < rule.min_items:
        return Chosen(None, len(items), sum(v.correct for v in items), None, "too_few_items", kind)
    score = np.array([v.score for v in ordered])
    correct = np.array([v.correct for v in ordered])
    sizes = _tried(score, rule)
    best = _fixed_sequence(correct, cluster, sizes, target, rule)
    if best is None:
        return Chosen(None, len(items), int(correct.sum()), None, "target_not_reached", kind)
    size, bound = best
    return Chosen(float(score[size - 1]), size, int(correct[:size].sum()), round(bound, 6), "reached", kind)


def clusters_of(items: Sequence[Verdict], rule: ThresholdRule) -> tuple[str, npt.NDArray[np.int64]]:
    """What items share their errors within, "drives", or "tracks" where drives are too few; and (n,) which one."""
    by_drive = len({v.drive for v in items}) >= rule.min_drives
    names = np.array([v.drive if by_drive else v.cluster for v in items], np.str_)
    return "drives" if by_drive else "tracks", np.unique(names, return_inverse=True)[1]


def _tried(score: npt.NDArray[np.float64], rule: ThresholdRule) -> list[int]:
    """Numbers of candidates at the thresholds that are tried, rising; equal scores stay together."""
    wanted = np.linspace(min(rule.min_items, len(score)), len(score), rule.steps)
    ends = np.searchsorted(-score, -score[np.rint(wanted).astype(int) - 1], side="right")
    return sorted({int(end) for end in ends})


def _fixed_sequence(
    correct: npt.NDArray[np.bool_],
    cluster: npt.NDArray[np.int64],
    sizes: Sequence[int],
    target: float,
    rule: ThresholdRule,
) -> tuple[int, float] | None:
    """(size, bound) of the lowest threshold that holds: from each start downwards until one fails."""
    starts = sorted({int(k) for k in np.linspace(0, len(sizes) - 1, rule.starts + 1)[:-1]})
    error = (1 - rule.confidence) / len(starts)
    best: tuple[int, float] | None = None
    for start in starts:
        for size in sizes[start:]:
            bound = clustered_lower_bound(correct[:size], cluster[:size], 1 - error, rule.assumed_correlation)
            if bound < target:
                break
            best = (size, bound) if best is None or size > best[0] else best
    return best


def lower_bound(correct: float, items: float, confidence: float) -> float:
    """One-sided lower bound of a share by Clopper and Pearson; numbers may be fractions (effective numbers)."""
    from scipy.stats import beta

    if correct <= 0:
        return 0.0
    return float(beta.ppf(1 - confidence, correct, items - correct + 1))


def interval(correct: int, items: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Two-sided interval by Clopper and Pearson; None without items."""
    if items == 0:
        return None
    each = (1 + confidence) / 2
    return lower_bound(correct, items, each), 1 - lower_bound(items - correct, items, each)


def clustered_lower_bound(
    correct: npt.NDArray[np.bool_],
    cluster: npt.NDArray[np.int64],
    confidence: float,
    assumed_correlation: float = 0.0,
) -> float:
    """`lower_bound` of items that share errors within clusters.

    The number of items is divided by the design effect: that of the data (variance of the ratio between clusters), or
    1 + (m - 1) * `assumed_correlation` with m items per cluster, whichever is larger; and by the squared ratio of
    t quantiles, since the variance is known from few clusters only (Korn and Graubard 1998).
    """
    from scipy.stats import t

    items, clusters = len(correct), len(np.unique(cluster))
    share = float(correct.mean()) if items else 0.0
    if clusters < 2:
        return lower_bound(share, 1.0, confidence) if items else 0.0
    numbers = np.bincount(cluster)
    hits = np.bincount(cluster, weights=correct)
    typical = float((numbers**2).sum()) / items
    effect = max(1.0, 1 + (typical - 1) * assumed_correlation)
    if 0 < share < 1:
        between = clusters / (clusters - 1) * float(((hits - share * numbers) ** 2).sum()) / items**2
        effect = max(effect, between / (share * (1 - share) / items))
    quantiles = t.ppf(confidence, max(items - 1, 1)) / t.ppf(confidence, clusters - 1)
    effective = items / effect * min(1.0, float(quantiles) ** 2)
    return lower_bound(share * effective, effective, confidence)
