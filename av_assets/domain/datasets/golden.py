"""The plan of a golden dataset: who is in, in which split, on which slices.

Belongs here: planning and `dataset.json`. Does not belong here: linking shards, publishing, reading tables, finding
leaks. The `version` of dataset.json is a digest of the member digests and the spec: the same members give the same one
in any order and in any week. The version by which a frozen dataset is named is the content digest of its bundle.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.catalog.emptiness import explain_empty, sentence
from av_assets.domain.datasets.frames import frame_columns
from av_assets.domain.datasets.members import SPLITS, MemberInfo, Split
from av_assets.domain.datasets.predicates import compile_predicate, passing
from av_assets.domain.datasets.slices import Slice, cut_slices
from av_assets.domain.datasets.splits import split_key, split_of
from av_assets.domain.errors import DatasetError
from av_assets.domain.evidence.digests import sha256_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from av_assets.policies.golden import GoldenPolicy

SCHEMA = 2
DATASET_FILE = "dataset.json"
_WEEK = re.compile(r"^\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class GoldenPlan:
    """A dataset that is ready to be frozen; members sorted by drive, slices over the test split.

    Attributes:
        frames: rows of `frame_rows` that are frozen.
        slices_of: names of the slices of each of them.
        left_out: drive -> why it is no member.
    """

    week: str
    version: str
    policy: GoldenPolicy
    members: tuple[MemberInfo, ...]
    splits: dict[str, Split]
    slices: tuple[Slice, ...]
    left_out: dict[str, str]
    frames: pa.Table
    slices_of: list[list[str]]

    def of(self, split: Split) -> tuple[MemberInfo, ...]:
        return tuple(m for m in self.members if self.splits[m.drive] == split)

    def to_json(self) -> dict[str, Any]:
        """The content of `dataset.json`. `slices` are of whole drives, `frame_slices` of single frames (index)."""
        return {
            "schema": SCHEMA,
            "week": self.week,
            "version": self.version,
            "classes": list(self.policy.classes),
            "camera": self.policy.camera,
            "spec": _spec(self.policy),
            "members": [_member(m, self.splits[m.drive]) for m in self.members],
            "slices": {s.name: list(s.drives) for s in self.slices if not s.of_frames},
            "frame_slices": {s.name: list(s.drives) for s in self.slices if s.of_frames},
            "slice_counts": {s.name: dict(s.counts) for s in self.slices},
            "thin_slices": {s.name: s.thin for s in self.slices if s.thin},
            "counts": {split: _counts(self.of(split)) for split in SPLITS},
            "left_out": self.left_out,
        }


def plan_golden(
    members: Sequence[MemberInfo],
    week: str,
    policy: GoldenPolicy,
    frames: pa.Table,
    dropped: Mapping[str, str] | None = None,
) -> GoldenPlan:
    """Plan the dataset of one week (its Monday, YYYY-MM-DD) from all drives that have verified labels.

    Drives without a key to split by, or with fewer labelled frames than the policy asks, are left out, with the reason.

    Args:
        frames: rows of `frame_rows` of the members' frames that may be frozen.
        dropped: drives that were taken out before, and why.

    Raises:
        DatasetError: bad_week, duplicate_drive, too_few_drives, no_train_drives, no_test_drives, bad_predicate,
            unknown_column.
    """
    if not _WEEK.match(week):
        raise DatasetError(f"{week!r} is not a date", code="bad_week", remedy="name the Monday, YYYY-MM-DD")
    twice = [drive for drive, n in Counter(m.drive for m in members).items() if n > 1]
    if twice:
        raise DatasetError("a drive is given twice", code="duplicate_drive", drive=min(twice))
    left_out = {m.drive: why for m in members if (why := _why_out(m, policy))} | dict(dropped or {})
    kept = sorted((m for m in members if m.drive not in left_out), key=lambda m: m.drive)
    splits = split_members(kept, policy)
    _require_enough(splits, policy)
    frozen = frames.filter(np.isin(np.asarray(frames["drive"].to_pylist(), dtype=object), sorted(splits)))
    slices, names = cut_slices(kept, splits, frozen, policy)
    version = dataset_version(kept, policy)
    out = dict(sorted(left_out.items()))
    return GoldenPlan(week, version, policy, tuple(kept), splits, slices, out, frozen, names)


def split_members(members: Sequence[MemberInfo], policy: GoldenPolicy) -> dict[str, Split]:
    """drive -> its split; drives without a key to split by are not in it."""
    keys = {m.drive: split_key(m, policy) for m in members}
    return {drive: split_of(key, policy) for drive, key in keys.items() if key is not None}


def select_frames(frames: pa.Table, policy: GoldenPolicy) -> pa.Table:
    """Rows that the policy's `only` lets in.

    Raises:
        DatasetError: selects_nothing, with the condition that emptied it; bad_predicate, unknown_column.
    """
    predicate = compile_predicate(policy.only, frame_columns(policy.classes))
    kept = frames.filter(passing(frames, predicate))
    if frames.num_rows and not kept.num_rows:
        rows = explain_empty(predicate.parts, lambda parts: int(passing(frames, predicate, parts).sum()))
        raise DatasetError(
            f"none of {frames.num_rows:,} labelled frames meets {policy.only!r}: {sentence(rows)}",
            code="selects_nothing",
            remedy="change `only` of golden.yaml",
        )
    return kept


def dataset_version(members: Sequence[MemberInfo], policy: GoldenPolicy) -> str:
    """sha256 over the sorted (drive, shards digest, labels digest, tags, left out) of the members and the spec.

    The week is not part of it: a week that brings nothing new has the version of the week before.
    """
    rows = [
        [m.drive, m.synced_shards, m.verified_labels, dict(m.tags), dict(m.left_out)]
        for m in sorted(members, key=lambda m: m.drive)
    ]
    return sha256_json({"schema": SCHEMA, "spec": _spec(policy), "members": rows})


def write_dataset_json(plan: GoldenPlan, out_dir: Path) -> Path:
    """Write `dataset.json` (sorted keys, LF) into `out_dir` and return its path."""
    path = out_dir / DATASET_FILE
    path.write_text(json.dumps(plan.to_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    return path


def _why_out(member: MemberInfo, policy: GoldenPolicy) -> str:
    if member.frames < policy.min_frames:
        return f"{member.frames} labelled frames, {policy.min_frames} needed"
    if split_key(member, policy) is None:
        return f"splits are by {policy.split_by}, and it is not known where or when the drive was"
    return ""


def _require_enough(splits: dict[str, Split], policy: GoldenPolicy) -> None:
    count = Counter(splits.values())
    remedy = "land and verify more drives, or lower the minimum in golden.yaml"
    if len(splits) < policy.min_drives:
        reason = f"{len(splits)} drives have labels, {policy.min_drives} are needed"
        raise DatasetError(reason, code="too_few_drives", remedy=remedy)
    for split, least in (("train", policy.min_train_drives), ("test", policy.min_test_drives)):
        if count[split] < least:  # type: ignore[index]
            reason = f"{count[split]} drives fall into {split}, {least} are needed"  # type: ignore[index]
            raise DatasetError(reason, code=f"no_{split}_drives", remedy=remedy)


def _spec(policy: GoldenPolicy) -> dict[str, Any]:
    return {**policy.model_dump(mode="json"), "policy_digest": policy.digest}


def _member(member: MemberInfo, split: Split) -> dict[str, Any]:
    return {
        "drive": member.drive,
        "split": split,
        "frames": member.frames,
        "objects": dict(sorted(member.objects.items())),
        "tags": dict(sorted(member.tags.items())),
        "geo_cell": member.geo_cell,
        "week": member.week,
        "left_out": dict(sorted(member.left_out.items())),
        "synced_shards": member.synced_shards,
        "verified_labels": member.verified_labels,
    }


def _counts(members: Sequence[MemberInfo]) -> dict[str, Any]:
    objects: Counter[str] = Counter()
    for member in members:
        objects.update(member.objects)
    return {
        "drives": len(members),
        "frames": sum(m.frames for m in members),
        "objects": dict(sorted(objects.items())),
    }
