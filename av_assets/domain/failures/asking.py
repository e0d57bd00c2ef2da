"""What to label next, so that a bucket of failures gets smaller: one mining spec per bucket.

Belongs here: that translation. Does not belong here: finding buckets, running specs (domain/mining).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from av_assets.domain.failures.buckets import LOOSE, Bucket
from av_assets.domain.mining.columns import COLUMNS
from av_assets.policies.mining import MiningSpec, Predicate

if TYPE_CHECKING:
    from av_assets.policies.failures import FailurePolicy

MOST_WHERE = 2
"""Conditions of one spec: each more of them leaves out clips that would have been good."""


def specs_of(buckets: Sequence[Bucket], release: str, policy: FailurePolicy) -> list[MiningSpec]:
    """One spec per bucket, in their order, at most `max_specs`; loose clips have nothing in common to ask for."""
    asked = [one for one in buckets if one.name != LOOSE and (_where(one) or one.middle)]
    return [_spec(one, release, policy) for one in asked[: policy.max_specs]]


def _spec(bucket: Bucket, release: str, policy: FailurePolicy) -> MiningSpec:
    main = min(bucket.kinds, key=lambda kind: (-bucket.kinds[kind], kind))
    telling = ", ".join(f"{t.tag} {t.lift:.1f}x" for t in bucket.tags[:4]) or "nothing but their looks"
    why = f"{len(bucket.clips)} clips on which {release} fails alike, mostly {main}: {telling}"
    return MiningSpec(
        name=f"fails-{bucket.name}",
        why=why[:500],
        where=_where(bucket),
        like=bucket.middle,
        budget=policy.spec_budget,
    )


def _where(bucket: Bucket) -> dict[str, Predicate]:
    """The most telling tags that are columns of the catalogue, one per column."""
    found: dict[str, Predicate] = {}
    for one in bucket.tags:
        column, _, value = one.tag.partition(":")
        if column in COLUMNS and column not in found and len(found) < MOST_WHERE:
            found[column] = Predicate(any_of=(value,))
    return found
