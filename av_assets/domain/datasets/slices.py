"""Slices: saved predicates over members and their frames, and whether they hold enough to prove anything.

Belongs here: evaluation of predicates and counting. Does not belong here: where tags and columns come from, the
predicates themselves (policy).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.datasets.frames import frame_columns
from av_assets.domain.datasets.members import SPLITS
from av_assets.domain.datasets.predicates import compile_predicate, passing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from av_assets.domain.datasets.members import MemberInfo, Split
    from av_assets.policies.golden import GoldenPolicy, SlicePredicate

Counts = dict[str, int]


@dataclass(frozen=True)
class Slice:
    """One slice over the test split; `thin` says why it proves nothing, or is empty.

    Attributes:
        drives: test drives with a frame in it.
        of_frames: whether it takes single frames and not whole drives.
        counts: split -> drives, frames and objects in it.
    """

    name: str
    drives: tuple[str, ...]
    objects: int
    thin: str
    of_frames: bool = False
    frames: int = 0
    counts: Mapping[str, Counts] = field(default_factory=dict)


def matches(tags: Mapping[str, str], predicate: SlicePredicate) -> bool:
    """Whether every named tag has one of the listed values; a tag that is absent matches nothing."""
    return all(tags.get(tag) in values for tag, values in predicate.where.items())


def cut_slices(
    members: Sequence[MemberInfo], splits: Mapping[str, Split], frames: pa.Table, policy: GoldenPolicy
) -> tuple[tuple[Slice, ...], list[list[str]]]:
    """Every slice of the policy by name, and the names of the slices of each row of `frames`.

    Args:
        frames: rows of `frame_rows`; those of drives that are no members belong to no slice.

    Raises:
        DatasetError: bad_predicate, unknown_column.
    """
    tags = {member.drive: member.tags for member in members}
    drives = np.asarray(frames["drive"].to_pylist(), dtype=object)
    names: list[list[str]] = [[] for _ in range(frames.num_rows)]
    found = []
    for name in sorted(policy.slices):
        predicate = policy.slices[name]
        inside = {drive for drive, held in tags.items() if matches(held, predicate)}
        mask = np.fromiter((d in inside for d in drives), np.bool_, len(drives))
        mask &= passing(frames, compile_predicate(predicate.frames, frame_columns(policy.classes)))
        for row in np.flatnonzero(mask):
            names[row].append(name)
        found.append(_slice(name, predicate, drives, mask, frames["boxes"].to_numpy(), splits))
    return tuple(found), names


def _slice(
    name: str,
    predicate: SlicePredicate,
    drives: NDArray[np.object_],
    mask: NDArray[np.bool_],
    boxes: NDArray[np.int32],
    splits: Mapping[str, Split],
) -> Slice:
    counts: dict[str, Counts] = {}
    test: set[str] = set()
    for split in SPLITS:
        mine = mask & np.fromiter((splits.get(d) == split for d in drives), np.bool_, len(drives))
        inside = set(drives[mine].tolist())
        test = inside if split == "test" else test
        counts[split] = {"drives": len(inside), "frames": int(mine.sum()), "objects": int(boxes[mine].sum())}
    thin = [
        f"{counts['test'][what]} of {least} {what}"
        for what, least in (("drives", predicate.min_drives), ("objects", predicate.min_objects))
        if counts["test"][what] < least
    ]
    return Slice(
        name,
        tuple(sorted(test)),
        counts["test"]["objects"],
        ", ".join(thin),
        bool(predicate.frames),
        counts["test"]["frames"],
        counts,
    )
