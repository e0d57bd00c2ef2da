"""The plan of a golden dataset: who is in, in which split, on which slices, under which version.

Belongs here: planning and `dataset.json`. Does not belong here: copying shards, publishing, reading tables.
The version is a digest of the member digests and the spec: the same members give the same version in any
order, and one changed label gives another.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from av_assets.domain.datasets.members import SPLITS, MemberInfo, Split
from av_assets.domain.datasets.slices import Slice, cut_slices
from av_assets.domain.datasets.splits import split_of
from av_assets.domain.errors import DatasetError
from av_assets.domain.evidence.digests import sha256_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from av_assets.policies.golden import GoldenPolicy

SCHEMA = 1
DATASET_FILE = "dataset.json"
_WEEK = re.compile(r"^\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class GoldenPlan:
    """A dataset that is ready to be frozen; members sorted by drive, slices over the test split."""

    week: str
    version: str
    policy: GoldenPolicy
    members: tuple[MemberInfo, ...]
    splits: dict[str, Split]
    slices: tuple[Slice, ...]
    left_out: dict[str, str]

    def of(self, split: Split) -> tuple[MemberInfo, ...]:
        return tuple(m for m in self.members if self.splits[m.drive] == split)

    def to_json(self) -> dict[str, Any]:
        """The content of `dataset.json`."""
        return {
            "schema": SCHEMA,
            "week": self.week,
            "version": self.version,
            "classes": list(self.policy.classes),
            "camera": self.policy.camera,
            "spec": _spec(self.policy),
            "members": [_member(m, self.splits[m.drive]) for m in self.members],
            "slices": {s.name: list(s.drives) for s in self.slices},
            "thin_slices": {s.name: s.thin for s in self.slices if s.thin},
            "counts": {split: _counts(self.of(split)) for split in SPLITS},
            "left_out": self.left_out,
        }


def plan_golden(members: Sequence[MemberInfo], week: str, policy: GoldenPolicy) -> GoldenPlan:
    """Plan the dataset of one week (its Monday, YYYY-MM-DD) from all drives that have verified labels.

    Drives with fewer labelled frames than the policy asks are left out, with the reason.

    Raises:
        DatasetError: bad_week, duplicate_drive, too_few_drives, no_train_drives, no_test_drives.
    """
    if not _WEEK.match(week):
        raise DatasetError(f"{week!r} is not a date", code="bad_week", remedy="name the Monday, YYYY-MM-DD")
    twice = [drive for drive, n in Counter(m.drive for m in members).items() if n > 1]
    if twice:
        raise DatasetError("a drive is given twice", code="duplicate_drive", drive=min(twice))
    kept = sorted((m for m in members if m.frames >= policy.min_frames), key=lambda m: m.drive)
    left_out = {
        m.drive: f"{m.frames} of {policy.min_frames} labelled frames"
        for m in sorted(members, key=lambda m: m.drive)
        if m.frames < policy.min_frames
    }
    splits = {m.drive: split_of(m.drive, policy) for m in kept}
    _require_enough(splits, policy)
    test = [m for m in kept if splits[m.drive] == "test"]
    return GoldenPlan(
        week,
        dataset_version(kept, policy),
        policy,
        tuple(kept),
        splits,
        cut_slices(test, policy.slices),
        left_out,
    )


def dataset_version(members: Sequence[MemberInfo], policy: GoldenPolicy) -> str:
    """sha256 over the sorted (drive, shards digest, labels digest, tags) of the members and the spec.

    The week is not part of it: a week that brings nothing new has the version of the week before.
    """
    rows = [
        [m.drive, m.synced_shards, m.verified_labels, dict(m.tags)]
        for m in sorted(members, key=lambda m: m.drive)
    ]
    return sha256_json({"schema": SCHEMA, "spec": _spec(policy), "members": rows})


def write_dataset_json(plan: GoldenPlan, out_dir: Path) -> Path:
    """Write `dataset.json` (sorted keys, LF) into `out_dir` and return its path."""
    path = out_dir / DATASET_FILE
    path.write_text(json.dumps(plan.to_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    return path


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
