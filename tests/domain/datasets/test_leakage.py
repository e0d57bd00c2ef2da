"""Leaks between splits are found, all of them, and nothing else is; the policy says what becomes of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.datasets import leakage
from av_assets.domain.datasets.leakage import (
    near_duplicates,
    near_frames,
    shared,
    shared_drives,
    shared_places,
)
from av_assets.domain.datasets.members import SPLITS
from av_assets.domain.datasets.verdicts import judge
from av_assets.domain.errors import DatasetError
from av_assets.policies.golden import GoldenPolicy

if TYPE_CHECKING:
    from av_assets.domain.datasets.members import Split

POLICY = GoldenPolicy.load()
sides = st.lists(st.sampled_from(SPLITS), min_size=1, max_size=40)


def test_a_planted_near_duplicate_is_found_and_named() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(15, 64)).astype(np.float32)
    vectors[13] = vectors[1] * 2.0 + 0.01 * rng.normal(size=64)
    splits: list[Split] = [*["train"] * 10, *["test"] * 5]  # type: ignore[list-item]
    found = near_duplicates([str(i) for i in range(15)], splits, vectors, 0.97)
    [leak] = found.leaks
    assert (leak.a, leak.b, leak.split_a, leak.split_b, found.pairs) == ("1", "13", "train", "test", 1)
    assert (leak.measure or 0) >= 0.97


def test_alike_clips_inside_one_split_are_no_leak() -> None:
    assert near_duplicates(["a", "b"], ["train", "train"], np.ones((2, 8), np.float32), 0.97).leaks == []


def test_nothing_is_compared_with_nothing() -> None:
    assert near_duplicates([], [], np.zeros((0, 8), np.float32), 0.9).pairs == 0
    assert near_frames([], [], np.zeros(0, np.uint64), 4, 6).pairs == 0


@settings(deadline=None, max_examples=60)
@given(sides, st.integers(0, 2**32), st.integers(1, 9))
def test_blocks_find_what_comparing_each_pair_finds(splits: list[Split], seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(splits), 3)).astype(np.float32)
    ids = [f"{i:02d}" for i in range(len(splits))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leakage, "BLOCK", block)
        found = near_duplicates(ids, splits, vectors, 0.9)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [
        (i, j)
        for i, j in itertools.permutations(range(len(ids)), 2)
        if SPLITS.index(splits[i]) < SPLITS.index(splits[j]) and unit[i] @ unit[j] >= 0.9 - 1e-6
    ]
    assert found.pairs == len(pairs)
    assert {(leak.a, leak.split_b) for leak in found.leaks} == {(ids[i], splits[j]) for i, j in pairs}
    for leak in found.leaks:
        i = int(leak.a)
        best = max(float(unit[i] @ unit[j]) for a, j in pairs if a == i and splits[j] == leak.split_b)
        assert abs((leak.measure or 0) - best) < 1e-5


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(SPLITS), st.integers(0, 2**64 - 1)), min_size=2, max_size=30))
def test_hashes_are_compared_bit_by_bit(rows: list[tuple[Split, int]]) -> None:
    rows += [(split, value ^ 0b101) for split, value in rows[:3]]
    found = near_frames([str(i) for i in range(len(rows))], [r[0] for r in rows],
                        np.array([r[1] for r in rows], np.uint64), 4, 6)  # fmt: skip
    pairs = {
        (str(i), str(j))
        for (i, (a, x)), (j, (b, y)) in itertools.permutations(enumerate(rows), 2)
        if SPLITS.index(a) < SPLITS.index(b)
        and (x ^ y).bit_count() <= 4
        and all(6 <= h.bit_count() <= 58 for h in (x, y))
    }
    assert found.pairs == len(pairs)
    assert {leak.a for leak in found.leaks} == {a for a, _ in pairs}
    assert all((leak.a, leak.b) in pairs and 0 <= (leak.measure or 0) <= 4 for leak in found.leaks)


def test_a_flat_picture_is_like_no_other() -> None:
    assert near_frames(["a", "b"], ["train", "test"], np.zeros(2, np.uint64), 4, 6).leaks == []


def test_one_drive_in_two_splits_and_one_picture_under_two_names() -> None:
    drives: list[tuple[str, Split]] = [("a", "train"), ("a", "test"), ("b", "train")]
    assert [(leak.a, leak.b) for leak in shared_drives(drives).leaks] == [("a", "a")]
    rows: list[tuple[str, Split, str, str]] = [
        ("b", "train", "3", ""), ("c", "val", "3", ""), ("d", "train", "3", ""), ("e", "test", "", ""),
        ("f", "val", "", ""),
    ]  # fmt: skip
    found = shared("same_content", rows)
    assert {(leak.a, leak.b) for leak in found.leaks} == {("b", "c"), ("d", "c")}
    assert found.pairs == 2


def test_one_place_on_one_day_is_found_and_another_day_is_not() -> None:
    day = 86_400 * 10**9
    rows: list[tuple[str, Split, str | None, int]] = [
        ("a", "train", "891f", day), ("b", "test", "891f", day + 5), ("c", "test", "891f", 2 * day),
        ("d", "val", None, day), ("e", "train", None, day),
    ]  # fmt: skip
    [leak] = shared_places(rows).leaks
    assert (leak.a, leak.b, leak.at) == ("a", "b", "891f on 1970-01-02")


def policy(**actions: str) -> GoldenPolicy:
    return POLICY.model_copy(update={"leaks": POLICY.leaks.model_copy(update=actions)})


def test_the_policy_decides() -> None:
    found = near_duplicates(["a/0", "b/0"], ["train", "test"], np.ones((2, 4), np.float32), 0.97)
    with pytest.raises(DatasetError) as caught:
        judge({"near_duplicate": found}, policy())
    assert caught.value.code == "dataset_leaks"
    assert "a/0 (train) and b/0 (test), cosine 1.0" in caught.value.reason
    assert "near_duplicate: drop" in caught.value.remedy
    dropped = judge({"near_duplicate": found}, policy(near_duplicate="drop"))
    assert list(dropped.dropped) == ["a/0"]
    warned = judge({"near_duplicate": found}, policy(near_duplicate="warn"))
    assert not warned.dropped
    assert warned.to_json()["kinds"]["near_duplicate"]["pairs"] == 1
