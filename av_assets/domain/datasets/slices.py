"""Slices: saved predicates over the tags of members, and whether they hold enough to prove anything.

Belongs here: evaluation of predicates. Does not belong here: where tags come from, the predicates
themselves (policy).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av_assets.domain.datasets.members import MemberInfo
    from av_assets.policies.golden import SlicePredicate


@dataclass(frozen=True)
class Slice:
    """The members of one slice; `thin` says why it proves nothing, or is empty."""

    name: str
    drives: tuple[str, ...]
    objects: int
    thin: str


def matches(tags: Mapping[str, str], predicate: SlicePredicate) -> bool:
    """Whether every named tag has one of the listed values; a tag that is absent matches nothing."""
    return all(tags.get(tag) in values for tag, values in predicate.where.items())


def cut_slices(members: Sequence[MemberInfo], predicates: Mapping[str, SlicePredicate]) -> tuple[Slice, ...]:
    """Every slice over `members` (the test split, normally), by name; drives sorted."""
    return tuple(_cut(name, members, predicates[name]) for name in sorted(predicates))


def _cut(name: str, members: Sequence[MemberInfo], predicate: SlicePredicate) -> Slice:
    inside = [m for m in members if matches(m.tags, predicate)]
    objects = sum(sum(m.objects.values()) for m in inside)
    reasons = []
    if len(inside) < predicate.min_drives:
        reasons.append(f"{len(inside)} of {predicate.min_drives} drives")
    if objects < predicate.min_objects:
        reasons.append(f"{objects} of {predicate.min_objects} objects")
    return Slice(name, tuple(sorted(m.drive for m in inside)), objects, ", ".join(reasons))
