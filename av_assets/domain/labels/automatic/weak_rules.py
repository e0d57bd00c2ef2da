"""Labelling functions: each says of a candidate that it is real, that it is not, or nothing; together they score it.

How often each is right is estimated without labels (Dawid and Skene, "Maximum likelihood estimation of observer
error-rates using the EM algorithm", 1979, by crowd-kit), starting from what the policy believes of it.
Belongs here: the functions and their combination. Does not belong here: thresholds, fusing boxes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from av_assets.domain.labels.automatic.candidates import Candidate
    from av_assets.policies.label_fusion import LabelFusionPolicy

Votes = npt.NDArray[np.int8]
REAL: Final = 1
FALSE: Final = 0
SILENT: Final = -1


@dataclass(frozen=True)
class TrackFacts:
    """What one track looks like as a whole: its frames, and how many of them were observed."""

    frames: int
    observed: int


@dataclass(frozen=True)
class Judgement:
    """Candidates with their final scores, and how each rule fared.

    Attributes:
        how: "dawid_skene", or "beliefs" where there were too few candidates to learn from.
        rules: per rule: votes, coverage (share of candidates it spoke about), conflict (share of its votes that
            another rule contradicts), accuracy (as estimated; as believed under "beliefs").
    """

    candidates: list[Candidate]
    how: str
    rules: dict[str, dict[str, Any]]


def judge(
    candidates: Sequence[Candidate],
    policy: LabelFusionPolicy,
    off_road_m: Sequence[float | None] | None = None,
) -> list[Candidate]:
    """`judgement` without its figures."""
    return judgement(candidates, policy, off_road_m).candidates


def judgement(
    candidates: Sequence[Candidate],
    policy: LabelFusionPolicy,
    off_road_m: Sequence[float | None] | None = None,
) -> Judgement:
    """All candidates of a drive, in their order, with a score that the rules had a say in.

    The score is the policy's mix of the fused score and the posterior that the candidate is real. It is deterministic,
    and the order of the candidates changes no score.

    Args:
        candidates: after tracking.
        off_road_m: per candidate how far it is off the road; None where no edge is known.
    """
    rules = [name for name in RULES if name in policy.weak.priors]
    votes = vote(candidates, policy, off_road_m)
    if not candidates:
        return Judgement([], "beliefs", _figures(rules, votes, _believed(rules, policy)))
    learn = len(candidates) >= policy.weak.min_items and bool((votes != SILENT).any())
    posterior, accuracy = _dawid_skene(votes, rules, policy) if learn else _beliefs(votes, rules, policy)
    share = policy.weak.share
    scored = [
        replace(c, score=round((1 - share) * c.score + share * float(p), 6))
        for c, p in zip(candidates, posterior, strict=True)
    ]
    return Judgement(scored, "dawid_skene" if learn else "beliefs", _figures(rules, votes, accuracy))


def vote(
    candidates: Sequence[Candidate],
    policy: LabelFusionPolicy,
    off_road_m: Sequence[float | None] | None = None,
) -> Votes:
    """(candidates, rules) of REAL, FALSE or SILENT; rules in the order of RULES, those that the policy names."""
    roads = off_road_m if off_road_m is not None else [None] * len(candidates)
    tracks = track_facts(candidates)
    rules = [RULES[name] for name in RULES if name in policy.weak.priors]
    rows = [
        [rule(c, tracks.get(c.track), road, policy) for rule in rules]
        for c, road in zip(candidates, roads, strict=True)
    ]
    return np.array(rows, dtype=np.int8).reshape(len(candidates), len(rules))


def track_facts(candidates: Sequence[Candidate]) -> dict[int, TrackFacts]:
    """Of all tracks; candidates without a track are in none."""
    frames: dict[int, set[int]] = defaultdict(set)
    observed: dict[int, set[int]] = defaultdict(set)
    for c in candidates:
        if c.track >= 0:
            frames[c.track].add(c.ref_ns)
            if c.state == "observed":
                observed[c.track].add(c.ref_ns)
    return {track: TrackFacts(len(seen), len(observed[track])) for track, seen in frames.items()}


def _source(name: str) -> Rule:
    def rule(c: Candidate, track: TrackFacts | None, road: float | None, policy: LabelFusionPolicy) -> int:
        if name in c.blind or c.state == "bridged":
            return SILENT
        if name not in c.sources:
            return FALSE
        return REAL if c.sources[name] >= policy.weak.seen_score else SILENT

    return rule


def _size(c: Candidate, track: TrackFacts | None, road: float | None, policy: LabelFusionPolicy) -> int:
    limits = policy.weak.sizes_m.get(c.cls)  # type: ignore[call-overload]
    if c.cuboid is None or limits is None:
        return SILENT
    sizes = (c.cuboid.length_m, c.cuboid.width_m, c.cuboid.top_m - c.cuboid.bottom_m)
    fits = all(low <= size <= high for size, (low, high) in zip(sizes, limits, strict=True))
    return REAL if fits else FALSE


def _aspect(c: Candidate, track: TrackFacts | None, road: float | None, policy: LabelFusionPolicy) -> int:
    limits = policy.weak.aspect.get(c.cls)  # type: ignore[call-overload]
    if c.xyxy is None or limits is None or c.xyxy[3] <= c.xyxy[1]:
        return SILENT
    aspect = (c.xyxy[2] - c.xyxy[0]) / (c.xyxy[3] - c.xyxy[1])
    return REAL if limits[0] <= aspect <= limits[1] else FALSE


def _points(c: Candidate, track: TrackFacts | None, road: float | None, policy: LabelFusionPolicy) -> int:
    least = policy.weak.min_points.get(c.cls)  # type: ignore[call-overload]
    if c.cuboid is None or least is None or c.state == "bridged" or "lidar" in c.blind:
        return SILENT
    return REAL if c.points >= least else FALSE if c.points * 4 < least else SILENT


def _track(c: Candidate, track: TrackFacts | None, road: float | None, policy: LabelFusionPolicy) -> int:
    if track is None:
        return SILENT
    if track.observed >= policy.weak.long_track:
        return REAL
    return FALSE if track.observed <= policy.weak.short_track else SILENT


def _flicker(c: Candidate, track: TrackFacts | None, road: float | None, policy: LabelFusionPolicy) -> int:
    if track is None or track.frames < policy.weak.long_track:
        return SILENT
    bridged = 1 - track.observed / track.frames
    return FALSE if bridged > policy.weak.flicker_share else REAL


def _road(c: Candidate, track: TrackFacts | None, road: float | None, policy: LabelFusionPolicy) -> int:
    if road is None or c.cls != "vehicle":
        return SILENT
    return FALSE if road > policy.weak.off_road_m else REAL


if TYPE_CHECKING:
    Rule = Callable[[Candidate, TrackFacts | None, float | None, LabelFusionPolicy], int]

RULES: Final[Mapping[str, Rule]] = {
    "lidar": _source("lidar"),
    "camera": _source("camera"),
    "teacher": _source("teacher"),
    "size": _size,
    "aspect": _aspect,
    "points": _points,
    "track": _track,
    "flicker": _flicker,
    "road": _road,
}


def _believed(rules: Sequence[str], policy: LabelFusionPolicy) -> dict[str, float]:
    return {name: policy.weak.priors[name] for name in rules}


def _beliefs(
    votes: Votes, rules: Sequence[str], policy: LabelFusionPolicy
) -> tuple[npt.NDArray[np.float64], dict[str, float]]:
    """Naive Bayes with the policy's accuracies and even odds: 0.5 where every rule is silent."""
    believed = _believed(rules, policy)
    weights = np.array([math.log(a / (1 - a)) for a in believed.values()])
    odds = ((votes == REAL).astype(float) - (votes == FALSE).astype(float)) @ weights
    return 1 / (1 + np.exp(-np.clip(odds, -30, 30))), believed


def _dawid_skene(
    votes: Votes, rules: Sequence[str], policy: LabelFusionPolicy
) -> tuple[npt.NDArray[np.float64], dict[str, float]]:
    """Posterior per candidate; 0.5 for those of whom every rule is silent.

    The policy's beliefs take part as candidates whose truth is known. crowd-kit's own `initial_error` would only be a
    starting point, which EM leaves behind; and its test for the end takes a step that known truths force for the last.
    """
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    # Candidates with the same votes have the same posterior; sorted, their order cannot matter.
    order = np.lexsort(votes.T[::-1])
    known = _known_votes(rules, policy)
    every = np.concatenate([known, votes[order]])
    rows, columns = np.nonzero(every != SILENT)
    data = pd.DataFrame(
        {"task": rows, "worker": [rules[int(c)] for c in columns], "label": every[rows, columns].astype(int)}
    )
    truths = pd.Series(np.arange(len(known)) % 2, index=pd.RangeIndex(len(known)), dtype=int)
    model = DawidSkene(n_iter=policy.weak.iterations, tol=-math.inf)
    model.fit(data, true_labels=truths)
    assert model.probas_ is not None
    assert model.errors_ is not None
    real = model.probas_[REAL]
    real = real[real.index >= len(known)]
    posterior = np.full(len(votes), 0.5)
    posterior[order[real.index.to_numpy() - len(known)]] = real.to_numpy()
    share = float(real.mean()) if len(real) else 0.5
    return posterior, _believed(rules, policy) | _accuracies(model.errors_, share)


def _known_votes(rules: Sequence[str], policy: LabelFusionPolicy) -> Votes:
    """(2 * n, rules) votes on false and real candidates in turn, each rule as often right as is believed of it."""
    each = policy.weak.prior_items // 2
    number = np.arange(each)[:, None]
    right = number < np.rint(np.array([policy.weak.priors[r] for r in rules]) * each)[None, :]
    both = np.stack([np.where(right, FALSE, REAL), np.where(right, REAL, FALSE)], axis=1)
    return both.reshape(2 * each, len(rules)).astype(np.int8)


def _accuracies(errors: pd.DataFrame, real: float) -> dict[str, float]:
    """Share of right votes of each rule under the estimated share of real candidates."""
    chance = {REAL: real, FALSE: 1 - real}
    right: dict[str, float] = defaultdict(float)
    for said, part in errors.groupby(level="label"):
        vote = int(str(said))
        for rule, share in part[vote].droplevel("label").items():
            right[str(rule)] += chance[vote] * float(share)
    return {rule: round(min(1.0, value), 4) for rule, value in sorted(right.items())}


def _figures(rules: Sequence[str], votes: Votes, accuracy: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    any_real, any_false = (votes == REAL).any(axis=1), (votes == FALSE).any(axis=1)
    found = {}
    for number, name in enumerate(rules):
        own = votes[:, number]
        spoke = own != SILENT
        against = ((own == REAL) & any_false) | ((own == FALSE) & any_real)
        count = int(spoke.sum())
        found[name] = {
            "votes": count,
            "coverage": round(count / len(votes), 4) if len(votes) else 0.0,
            "conflict": round(float(against.sum()) / count, 4) if count else None,
            "accuracy": accuracy.get(name) if count else None,
        }
    return found
