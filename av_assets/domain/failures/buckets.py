"""Failing clips that look alike and fail alike, as named buckets.

Clustering is HDBSCAN (Campello, Moulavi and Sander 2013): it needs no number of clusters, and it leaves alone what
is like nothing else.
Belongs here: the vectors that are clustered, the clusters, their names. Does not belong here: what to ask next.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.failures.cases import ALL_KINDS, OF_FAILURE, Case

if TYPE_CHECKING:
    from av_assets.policies.failures import Clustering, FailurePolicy, Naming

LOOSE: Final = "loose"
"""Name of the bucket of failing clips that are like no others, or that have no vector."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TagLift:
    """A tag of a bucket: share of its clips that have it, and that share over the one elsewhere."""

    tag: str
    share: float
    lift: float


@dataclass(frozen=True)
class Bucket:
    """Failing clips that belong together, by clip id.

    Attributes:
        middle: the clip whose vector is nearest to all others'; None where the clips have none.
        tags: those that tell the bucket from the rest, the most telling first.
    """

    name: str
    clips: tuple[str, ...]
    kinds: Mapping[str, int]
    middle: str | None
    tags: tuple[TagLift, ...]

    def to_json(self) -> dict[str, Any]:
        tags = [{"tag": t.tag, "share": round(t.share, 4), "lift": round(t.lift, 4)} for t in self.tags]
        kinds = {kind: self.kinds[kind] for kind in ALL_KINDS if self.kinds.get(kind)}
        return {
            "name": self.name,
            "clips": list(self.clips),
            "kinds": kinds,
            "middle": self.middle,
            "tags": tags,
        }


def buckets_of(
    cases: Mapping[str, Case],
    vectors: Mapping[str, NDArray[np.float32]],
    tags: Mapping[str, Collection[str]],
    policy: FailurePolicy,
) -> list[Bucket]:
    """All failing clips, each in one bucket; the largest first, the loose ones last.

    Args:
        vectors: clip -> picture vector, of one model, for the clips that have one.
        tags: clip -> what the catalogue knows of it, of all clips that the model looked at.
    """
    clips = sorted(cases)
    held = [clip for clip in clips if clip in vectors]
    space = _space([cases[c] for c in held], [vectors[c] for c in held], policy.clustering)
    labels = _clusters(space, policy.clustering)
    groups = [np.flatnonzero(labels == label) for label in range(labels.max(initial=-1) + 1)]
    groups.sort(key=lambda rows: (-len(rows), held[rows[0]]))
    found: list[Bucket] = []
    for rows in groups:
        members = tuple(held[row] for row in rows)
        telling = _telling(members, cases, tags, policy.naming)
        name = _unique(_name(members, cases, telling, policy.naming), {one.name for one in found})
        found.append(Bucket(name, members, _kinds(members, cases), members[_middle(space[rows])], telling))
    rest = tuple(clip for clip in clips if not any(clip in one.clips for one in found))
    if rest:
        found.append(
            Bucket(LOOSE, rest, _kinds(rest, cases), None, _telling(rest, cases, tags, policy.naming))
        )
    return found


def _space(cases: Sequence[Case], vectors: Sequence[NDArray[np.float32]], rules: Clustering) -> Floats:
    """(n, d): how clips look, as unit vectors on their main axes, beside how they fail, as shares of their failures."""
    if not cases:
        return np.empty((0, 1))
    looks = np.stack(vectors).astype(np.float64)
    looks /= np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-12)
    centred = looks - looks.mean(axis=0)
    left, weights, _ = np.linalg.svd(centred, full_matrices=False)
    looks = (left * weights)[:, : rules.dimensions]
    fails = np.array([[case.kinds[kind] for kind in ALL_KINDS] for case in cases], np.float64)
    fails /= np.maximum(fails.sum(axis=1, keepdims=True), 1.0)
    return np.hstack([looks, rules.failure_weight * fails])


def _clusters(space: Floats, rules: Clustering) -> NDArray[np.int64]:
    """(n,) number of the cluster, -1 for none."""
    from sklearn.cluster import HDBSCAN

    if len(space) < max(rules.min_cluster_size, rules.min_samples):
        return np.full(len(space), -1)
    fitted = HDBSCAN(
        min_cluster_size=rules.min_cluster_size,
        min_samples=rules.min_samples,
        copy=True,
    ).fit(space)
    return np.asarray(fitted.labels_, np.int64)


def _middle(space: Floats) -> int:
    return int(np.linalg.norm(space[:, None] - space[None], axis=2).sum(axis=1).argmin())


def _kinds(clips: Collection[str], cases: Mapping[str, Case]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for clip in clips:
        counted.update(cases[clip].kinds)
    return dict(counted)


def _telling(
    clips: Collection[str], cases: Mapping[str, Case], tags: Mapping[str, Collection[str]], rules: Naming
) -> tuple[TagLift, ...]:
    """Tags by lift. Tags of failures are compared with the other failing clips, the others with all clips."""
    own = {clip: cases[clip].own_tags() for clip in cases}
    inside = Counter(tag for clip in clips for tag in {*own[clip], *tags.get(clip, ())})
    failing = Counter(tag for held in own.values() for tag in held)
    everywhere = Counter(tag for held in tags.values() for tag in set(held))
    found = []
    for tag, count in inside.items():
        of_failure = tag.partition(":")[0] in OF_FAILURE
        base = failing[tag] / len(cases) if of_failure else everywhere[tag] / len(tags)
        share = count / len(clips)
        found.append(TagLift(tag, share, share / base))
    kept = [one for one in found if one.share >= rules.min_share and one.lift >= rules.min_lift]
    return tuple(sorted(kept, key=lambda one: (-one.lift, -one.share, one.tag)))


def _name(
    clips: Collection[str], cases: Mapping[str, Case], telling: Sequence[TagLift], rules: Naming
) -> str:
    """The most frequent kind of failure, then the most telling other tags."""
    kinds = _kinds(clips, cases)
    main = min(kinds, key=lambda kind: (-kinds[kind], kind))
    tags = [
        one.tag for one in telling if not one.tag.startswith("kind:") and not one.tag.endswith(":unknown")
    ]
    words = [main, *(tag.partition(":")[2] for tag in tags[: rules.tags])]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")[:80]


def _unique(name: str, taken: Collection[str]) -> str:
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(one for one in names if one not in taken and one != LOOSE)
