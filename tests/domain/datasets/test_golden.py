"""The golden plan: deterministic, sensitive to one digest, and honest about what it lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.datasets.golden import GoldenPlan, plan_golden, select_frames, write_dataset_json
from av_assets.domain.datasets.members import MemberInfo
from av_assets.domain.errors import DatasetError
from av_assets.policies.golden import GoldenPolicy, SlicePredicate
from tests.domain.datasets.labelled_frames import frames_of

SHIPPED = GoldenPolicy.load()
BY_TAGS = {name: s for name, s in SHIPPED.slices.items() if not s.frames}
POLICY = SHIPPED.model_copy(update={"slices": BY_TAGS})
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


def plan(given_members: list[MemberInfo], week: str = WEEK, policy: GoldenPolicy = POLICY) -> GoldenPlan:
    return plan_golden(given_members, week, policy, frames_of(given_members))


@settings(deadline=None, max_examples=20)
@given(st.permutations(members()))
def test_members_in_any_order_give_one_version(shuffled: list[MemberInfo]) -> None:
    assert plan(shuffled).to_json() == plan(members()).to_json()


@settings(deadline=None)
@given(st.integers(0, 11), st.sampled_from(["verified_labels", "synced_shards"]))
def test_one_changed_digest_is_a_new_version(which: int, digest: str) -> None:
    changed = members()
    changed[which] = replace(changed[which], **{digest: "f" * 64})
    assert plan(changed).version != plan(members()).version


def test_the_spec_is_part_of_the_version_and_the_week_is_not() -> None:
    other = POLICY.model_copy(update={"salt": "other"})
    version = plan(members()).version
    assert plan(members(), policy=other).version != version
    assert plan(members(), "2025-06-09").version == version


def test_slices_hold_test_drives_that_match_and_say_when_they_are_thin() -> None:
    made = plan(members())
    slices = {s.name: s for s in made.slices}
    test = [m for m in made.members if made.splits[m.drive] == "test"]
    assert set(slices["all"].drives) == {m.drive for m in test}
    assert set(slices["night"].drives) == {m.drive for m in test if m.tags["light"] == "night"}
    assert slices["fog"].drives == ()
    assert "0 of 1 drives" in slices["fog"].thin


def test_dataset_json_is_as_agreed(tmp_path: Path) -> None:
    made = plan(members())
    path = write_dataset_json(made, tmp_path)
    data = json.loads(path.read_text())
    assert path.name == "dataset.json"
    assert {"schema", "week", "version", "classes", "camera", "members", "slices"} <= set(data)
    keys = {"drive", "split", "frames", "objects", "tags", "synced_shards", "verified_labels",
            "geo_cell", "week", "left_out"}  # fmt: skip
    assert all(set(m) == keys for m in data["members"])
    assert sum(c["drives"] for c in data["counts"].values()) == len(data["members"]) == 12
    first = path.read_bytes()
    assert write_dataset_json(plan(members()[::-1]), tmp_path).read_bytes() == first


def test_drives_without_frames_are_left_out_with_the_reason() -> None:
    empty = replace(members()[0], frames=0)
    made = plan([empty, *members()[1:]])
    assert made.left_out == {empty.drive: "0 labelled frames, 1 needed"}
    assert empty.drive not in made.splits


def _only(split: str, count: int) -> list[MemberInfo]:
    made = plan(members(60))
    return [m for m in made.members if made.splits[m.drive] == split][:count]


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
        plan(given_members, week)
    assert caught.value.code == code
    assert caught.value.remedy


def test_frame_slices_take_single_frames_and_count_them() -> None:
    fast = SlicePredicate(
        frames="mean_speed_mps >= 30", where={"light": ("day",)}, min_drives=99, min_objects=0
    )
    made = plan(members(), policy=POLICY.model_copy(update={"slices": {**BY_TAGS, "fast": fast}}))
    [found] = [s for s in made.slices if s.name == "fast"]
    day = [m for m in members() if m.tags["light"] == "day"]
    wanted = sum(n >= 30 and n % 7 > 0 for m in day for n in range(m.frames))
    assert sum(c["frames"] for c in found.counts.values()) == wanted
    assert sum("fast" in names for names in made.slices_of) == wanted
    assert "of 99 drives" in found.thin
    data = made.to_json()
    assert "fast" in data["frame_slices"]
    assert "fast" not in data["slices"]


def test_a_drive_without_a_place_is_left_out_of_a_split_by_place() -> None:
    placed = [replace(m, geo_cell=f"cell{i % 6}") for i, m in enumerate(members())]
    by_place = POLICY.model_copy(update={"split_by": "geo_cell"})
    made = plan([replace(placed[0], geo_cell=None), *placed[1:]], policy=by_place)
    assert "geo_cell" in made.left_out[placed[0].drive]
    cells = {(m.geo_cell, made.splits[m.drive]) for m in made.members}
    assert len(cells) == len({cell for cell, _ in cells})


def test_frames_that_all_fail_name_the_condition_that_emptied_them() -> None:
    frames = frames_of(members())
    only = POLICY.model_copy(update={"only": "boxes >= 0 AND mean_speed_mps > 1e6 AND light = 'day'"})
    with pytest.raises(DatasetError) as caught:
        select_frames(frames, only)
    assert caught.value.code == "selects_nothing"
    assert "nothing is left after (mean_speed_mps > 1e6)" in caught.value.reason.replace(
        "after mean_speed_mps > 1e6", "after (mean_speed_mps > 1e6)"
    )
    assert select_frames(frames, POLICY).num_rows == frames.num_rows
