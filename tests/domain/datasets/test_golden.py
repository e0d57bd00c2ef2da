"""The golden plan: deterministic, sensitive to one digest, and honest about what it lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.datasets.golden import plan_golden, write_dataset_json
from av_assets.domain.datasets.members import MemberInfo
from av_assets.domain.errors import DatasetError
from av_assets.policies.golden import GoldenPolicy

POLICY = GoldenPolicy.load()
WEEK = "2025-06-02"
LIGHTS = ("day", "night", "twilight")


def members(count: int = 12) -> list[MemberInfo]:
    return [
        MemberInfo(
            f"veh042-{i:03d}", 40 + i, {"vehicle": 100, "pedestrian": i},
            {"light": LIGHTS[i % 3], "weather": "rain" if i % 2 else "clear", "zone": "urban"},
            f"{i:064x}", f"{i + 1000:064x}",
        )
        for i in range(count)
    ]  # fmt: skip


@settings(deadline=None)
@given(st.permutations(members()))
def test_members_in_any_order_give_one_version(shuffled: list[MemberInfo]) -> None:
    plan = plan_golden(shuffled, WEEK, POLICY)
    assert plan.to_json() == plan_golden(members(), WEEK, POLICY).to_json()


@settings(deadline=None)
@given(st.integers(0, 11), st.sampled_from(["verified_labels", "synced_shards"]))
def test_one_changed_digest_is_a_new_version(which: int, digest: str) -> None:
    changed = members()
    changed[which] = replace(changed[which], **{digest: "f" * 64})
    assert plan_golden(changed, WEEK, POLICY).version != plan_golden(members(), WEEK, POLICY).version


def test_the_spec_is_part_of_the_version_and_the_week_is_not() -> None:
    other = POLICY.model_copy(update={"salt": "other"})
    version = plan_golden(members(), WEEK, POLICY).version
    assert plan_golden(members(), WEEK, other).version != version
    assert plan_golden(members(), "2025-06-09", POLICY).version == version


def test_slices_hold_test_drives_that_match_and_say_when_they_are_thin() -> None:
    plan = plan_golden(members(), WEEK, POLICY)
    slices = {s.name: s for s in plan.slices}
    test = [m for m in plan.members if plan.splits[m.drive] == "test"]
    assert set(slices["all"].drives) == {m.drive for m in test}
    assert set(slices["night"].drives) == {m.drive for m in test if m.tags["light"] == "night"}
    assert slices["fog"].drives == ()
    assert "0 of 1 drives" in slices["fog"].thin


def test_dataset_json_is_as_agreed(tmp_path: Path) -> None:
    plan = plan_golden(members(), WEEK, POLICY)
    path = write_dataset_json(plan, tmp_path)
    data = json.loads(path.read_text())
    assert path.name == "dataset.json"
    assert {"schema", "week", "version", "classes", "camera", "members", "slices"} <= set(data)
    keys = {"drive", "split", "frames", "objects", "tags", "synced_shards", "verified_labels"}
    assert all(set(m) == keys for m in data["members"])
    assert sum(c["drives"] for c in data["counts"].values()) == len(data["members"]) == 12
    first = path.read_bytes()
    assert write_dataset_json(plan_golden(members()[::-1], WEEK, POLICY), tmp_path).read_bytes() == first


def test_drives_without_frames_are_left_out_with_the_reason() -> None:
    empty = replace(members()[0], frames=0)
    plan = plan_golden([empty, *members()[1:]], WEEK, POLICY)
    assert plan.left_out == {empty.drive: "0 of 1 labelled frames"}
    assert empty.drive not in plan.splits


def _only(split: str, count: int) -> list[MemberInfo]:
    plan = plan_golden(members(60), WEEK, POLICY)
    return [m for m in plan.members if plan.splits[m.drive] == split][:count]


@pytest.mark.parametrize(
    ("given_members", "week", "code"),
    [
        (members(2), WEEK, "too_few_drives"),
        ([], WEEK, "too_few_drives"),
        (_only("train", 5), WEEK, "no_test_drives"),
        (_only("test", 5), WEEK, "no_train_drives"),
        ([*members(), members()[0]], WEEK, "duplicate_drive"),
        (members(), "week 23", "bad_week"),
    ],
)
def test_what_cannot_be_frozen_is_refused(given_members: list[MemberInfo], week: str, code: str) -> None:
    with pytest.raises(DatasetError) as caught:
        plan_golden(given_members, week, POLICY)
    assert caught.value.code == code
    assert caught.value.remedy
