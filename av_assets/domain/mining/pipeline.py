"""Mining from the question to the chosen clips: filters, duplicates, ranking, choice.

    sift    where -> sequence -> text -> training            needs the catalogue alone
    settle  like -> limit -> near_duplicate -> semantic_duplicate -> pool -> quota, budget      needs pictures' figures

Belongs here: the order of the stages and what each writes into the funnel. Does not belong here: how any of them
works; reading anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import AvError
from av_assets.domain.mining import duplicates, ranking
from av_assets.domain.mining.columns import REASONS
from av_assets.domain.mining.funnel import Funnel
from av_assets.domain.mining.selection import choose, likeness_of
from av_assets.domain.mining.where import numbers_of, passes, stopped_by
from av_assets.domain.search.fusion import reciprocal_rank_fusion

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from av_assets.policies.mining import MiningPolicy, MiningSpec

Search = Callable[[str], Sequence[str]]
"""Words or an expression -> ids of the clips that match, best first. May raise AvError."""


@dataclass(frozen=True)
class Sifted:
    """What passed the catalogue's filters. `rows` are the clips that did, `ranked` the orders they came in."""

    spec: MiningSpec
    rows: pa.Table
    funnel: Funnel
    ranked: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Evidence:
    """What is known of the clips that passed; who is missing is not known.

    Attributes:
        vectors: clip -> (D,) unit vector, all of one model; the clip of `like` too.
        hashes: asks for the keyframe hashes of these clips.
        scores: clip -> scores of its automatic labels.
        disagreement: clip -> figure of `ranking.disagreement`.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    hashes: Callable[[Sequence[str]], Mapping[str, Sequence[int]]]
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    disagreement: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Mined:
    """The chosen clips of one spec, best first, and the funnel. `weights` are those in effect."""

    spec: MiningSpec
    chosen: tuple[dict[str, Any], ...]
    funnel: Funnel
    weights: Mapping[str, float]


def sift(
    spec: MiningSpec, rows: pa.Table, text: Search, sequence: Search, training: Mapping[str, str]
) -> Sifted:
    """The filters that need the catalogue alone.

    Args:
        rows: `columns.clip_rows`.
        training: drive -> where training has it, e.g. "golden_slices/2025-06-02, train".
    """
    clips = rows["clip_id"].to_pylist()
    funnel = Funnel(spec.name, list(clips))
    _where(funnel, spec, rows)
    ranked = {}
    for stage, question, search in (("sequence", spec.sequence, sequence), ("text", spec.text, text)):
        if question is not None:
            ranked[stage] = _search(funnel, stage, question, search)
    if spec.exclude_training:
        drive_of = dict(zip(clips, rows["drive"].to_pylist(), strict=True))
        held = {c: {"held_by": training[drive_of[c]]} for c in funnel.left if drive_of[c] in training}
        funnel.remove("training", held)
    left = set(funnel.left)
    mask = np.array([clip in left for clip in clips], np.bool_)
    return Sifted(spec, rows.filter(_boolean(mask)), funnel, ranked)


def settle(sifted: Sifted, evidence: Evidence, policy: MiningPolicy) -> Mined:
    """Duplicates, ranking and choice among what passed."""
    spec, funnel = sifted.spec, sifted.funnel
    ranked = dict(sifted.ranked)
    if spec.like is not None:
        ranked["like"] = _like(funnel, spec.like, evidence, policy.like_nearest)
    left = set(funnel.left)
    lists = [[clip for clip in ranked[name] if clip in left] for name in sorted(ranked)]
    relevant = ranking.relevance(reciprocal_rank_fusion(lists, policy.rrf_k))
    rows = {row["clip_id"]: row for row in sifted.rows.to_pylist() if row["clip_id"] in left}
    _limit(funnel, rows, relevant, policy.max_candidates)
    _drop_duplicates(funnel, rows, evidence, policy)
    weights = (spec.weights or policy.weights).model_dump()
    weights["relevance"] = weights["relevance"] if ranked else 0.0  # nothing was asked that ranks
    parts = _parts(funnel.left, rows, relevant, evidence, policy)
    scored = {clip: ranking.score(parts[clip], weights) for clip in funnel.left}
    order = sorted(funnel.left, key=lambda clip: (-scored[clip][0], clip))
    outside = {
        clip: {"rank": rank, "pool": policy.pool, "score": round(scored[clip][0], 6)}
        for rank, clip in enumerate(order[policy.pool :], start=policy.pool + 1)
    }
    funnel.remove("pool", outside)
    chosen = _choose(
        funnel, order[: policy.pool], sifted, {c: s for c, (s, _) in scored.items()}, evidence, weights
    )
    found = tuple(
        {
            "rank": rank,
            "clip_id": clip,
            "drive": rows[clip]["drive"],
            "score": scored[clip][0],
            **figures,
            **parts[clip],
            "unknown": scored[clip][1],
        }
        for rank, (clip, figures) in enumerate(chosen.items(), start=1)
    )
    return Mined(spec, found, funnel, weights)


def _where(funnel: Funnel, spec: MiningSpec, rows: pa.Table) -> None:
    first = stopped_by(rows, spec.where)
    for column, predicate in spec.where.items():
        stopped = [index for index, name in enumerate(first) if name == column]
        told = rows.select(sorted({"clip_id", "sun_elevation_deg", column, REASONS.get(column, column)}))
        found = told.take(np.array(stopped, np.int64)).to_pylist()
        numbers = {row["clip_id"]: numbers_of(row, column, predicate) for row in found}
        funnel.remove(f"where.{column}", numbers)


def _search(funnel: Funnel, stage: str, question: str, search: Search) -> list[str]:
    """Keep the clips that the search finds; a search that fails finds none, and says why."""
    note = ""
    try:
        found = list(dict.fromkeys(search(question)))
    except AvError as error:
        found, note = [], str(error)
    inside = set(found)
    why = {"asked": question} | ({"reason": note} if note else {"found": len(found)})
    funnel.remove(stage, {clip: why for clip in funnel.left if clip not in inside}, note)
    return found


def _like(funnel: Funnel, like: str, evidence: Evidence, nearest: int) -> list[str]:
    """Keep the clips that are nearest to the vector of `like`, which itself is no answer."""
    wanted = evidence.vectors.get(like)
    if wanted is None:
        note = f"{like} has no vector"
        funnel.remove("like", {clip: {"asked": like, "reason": note} for clip in funnel.left}, note)
        return []
    cosine = {
        c: float(evidence.vectors[c] @ wanted) for c in funnel.left if c in evidence.vectors and c != like
    }
    order = sorted(cosine, key=lambda clip: (-round(cosine[clip], 6), clip))
    numbers: dict[str, dict[str, Any]] = {
        clip: {"asked": like, "reason": "the clip itself" if clip == like else "the clip has no vector"}
        for clip in funnel.left
        if clip not in cosine
    }
    for rank, clip in enumerate(order[nearest:], start=nearest + 1):
        numbers[clip] = {"asked": like, "rank": rank, "nearest": nearest, "cosine": round(cosine[clip], 4)}
    funnel.remove("like", numbers)
    return order[:nearest]


def _limit(
    funnel: Funnel, rows: Mapping[str, Mapping[str, Any]], relevant: Mapping[str, float], most: int
) -> None:
    order = sorted(funnel.left, key=lambda c: (-relevant.get(c, 0.0), -(rows[c]["start_ns"] or 0), c))
    beyond = {clip: {"rank": rank, "limit": most} for rank, clip in enumerate(order[most:], start=most + 1)}
    funnel.remove("limit", beyond)


def _drop_duplicates(
    funnel: Funnel, rows: Mapping[str, Mapping[str, Any]], evidence: Evidence, policy: MiningPolicy
) -> None:
    oldest = sorted(funnel.left, key=lambda clip: (rows[clip]["start_ns"] or 0, clip))
    hashes = evidence.hashes(oldest)
    bits = policy.dhash_max_hamming
    alike = {
        d.clip_id: {"of": d.of, "hamming": int(d.measure), "limit": bits}
        for d in duplicates.by_hash(oldest, hashes, bits)
    }
    without = sum(not hashes.get(clip) for clip in oldest)
    funnel.remove("near_duplicate", alike, f"{without} clips without pictures" if without else "")
    left = set(funnel.left)
    oldest = [clip for clip in oldest if clip in left]
    found = duplicates.by_vector(
        oldest, evidence.vectors, policy.semdedup_eps, policy.semdedup_cell, policy.seed
    )
    limit = 1.0 - policy.semdedup_eps
    without = sum(clip not in evidence.vectors for clip in oldest)
    funnel.remove(
        "semantic_duplicate",
        {d.clip_id: {"of": d.of, "cosine": d.measure, "limit": limit} for d in found},
        f"{without} clips without vectors" if without else "",
    )


def _parts(
    clips: Sequence[str],
    rows: Mapping[str, Mapping[str, Any]],
    relevant: Mapping[str, float],
    evidence: Evidence,
    policy: MiningPolicy,
) -> dict[str, ranking.Parts]:
    """The figures of each clip. Slices are counted among these clips, so that copies that are gone do not count."""
    rare = ranking.rarity({clip: tuple(rows[clip][column] for column in policy.rarity_by) for clip in clips})
    return {
        clip: {
            "relevance": relevant.get(clip),
            "rarity": rare[clip],
            "uncertainty": ranking.uncertainty(
                evidence.scores.get(clip, ()), policy.uncertain_boxes, policy.uncertainty
            ),
            "disagreement": evidence.disagreement.get(clip),
        }
        for clip in clips
    }


def _choose(
    funnel: Funnel,
    order: Sequence[str],
    sifted: Sifted,
    scored: Mapping[str, float],
    evidence: Evidence,
    weights: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """The greedy choice, written into the funnel; chosen clip -> its figures, in the order of choice."""
    spec = sifted.spec
    clips = sorted(order)  # ties go by id
    slices = _slices(spec, sifted.rows, clips)
    made = choose(
        [scored[clip] for clip in clips],
        likeness_of([evidence.vectors.get(clip) for clip in clips]),
        weights["diversity"] / sum(weights.values()) if sum(weights.values()) else 0.0,
        spec.budget,
        slices,
        {name: quota.at_most for name, quota in spec.quotas.items()},
    )
    last = made.picks[-1].gain if made.picks else 0.0
    by_quota, by_budget = {}, {}
    for row, (gain, full) in made.rest.items():
        if full is not None:
            by_quota[clips[row]] = {"slice": full, "at_most": spec.quotas[full].at_most, "gain": gain}
        else:
            by_budget[clips[row]] = {"gain": gain, "last_gain": last, "budget": spec.budget}
    funnel.remove("quota", by_quota)
    funnel.remove("budget", by_budget)
    chosen = {
        clips[pick.row]: {"gain": pick.gain, "diversity": pick.diversity, "slices": sorted(slices[pick.row])}
        for pick in made.picks
    }
    funnel.keep({clip: {"rank": n, "gain": f["gain"]} for n, (clip, f) in enumerate(chosen.items(), start=1)})
    return chosen


def _slices(spec: MiningSpec, rows: pa.Table, clips: Sequence[str]) -> list[frozenset[str]]:
    """The quota slices of each clip."""
    ids = rows["clip_id"].to_pylist()
    inside: dict[str, set[str]] = {}
    for name, quota in spec.quotas.items():
        mask = np.ones(len(ids), np.bool_)
        for column, predicate in quota.where.items():
            mask &= passes(rows, column, predicate)
        inside[name] = {ids[i] for i in np.flatnonzero(mask)}
    return [frozenset(name for name in inside if clip in inside[name]) for clip in clips]


def _boolean(mask: NDArray[np.bool_]) -> pa.Array:
    import pyarrow

    return pyarrow.array(mask)
