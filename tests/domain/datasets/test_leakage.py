"""Leaks between splits are found, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from av_assets.domain.datasets.leakage import near_duplicates, shared_drives

if TYPE_CHECKING:
    from av_assets.domain.datasets.members import Split


def table(drive: str, vectors: np.ndarray) -> pa.Table:
    ids = [f"{drive}/{i:05d}" for i in range(len(vectors))]
    return pa.table({"clip_id": ids, "embedding": vectors.astype(np.float32).tolist()})


def test_a_planted_near_duplicate_is_found_and_named() -> None:
    rng = np.random.default_rng(0)
    vectors = {d: rng.normal(size=(5, 64)) for d in ("a", "b", "c")}
    vectors["c"][3] = vectors["a"][1] * 2.0 + 0.01 * rng.normal(size=64)
    splits: dict[str, Split] = {"a": "train", "b": "train", "c": "test"}
    leaks = near_duplicates({d: table(d, v) for d, v in vectors.items()}, splits, 0.97)
    assert [(leak.a, leak.b) for leak in leaks] == [("a/00001", "c/00003")]
    assert (leaks[0].split_a, leaks[0].split_b) == ("train", "test")
    assert (leaks[0].cosine or 0) >= 0.97


def test_alike_clips_inside_one_split_are_no_leak() -> None:
    same = np.ones((3, 8))
    splits: dict[str, Split] = {"a": "train", "b": "train"}
    assert near_duplicates({"a": table("a", same), "b": table("b", same)}, splits, 0.97) == []


def test_drives_without_embeddings_or_split_are_passed_over() -> None:
    none = table("a", np.zeros((0, 8)))
    assert near_duplicates({"a": none, "x": table("x", np.ones((2, 8)))}, {"a": "train"}, 0.9) == []


def test_the_list_is_bounded_and_most_alike_first() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=16)
    tables = {d: table(d, base + 0.05 * rng.normal(size=(6, 16))) for d in ("a", "b")}
    leaks = near_duplicates(tables, {"a": "train", "b": "val"}, 0.5, most=4)
    assert len(leaks) == 4
    assert [leak.cosine for leak in leaks] == sorted((leak.cosine for leak in leaks), reverse=True)


def test_one_drive_in_two_splits_and_one_content_under_two_names() -> None:
    rows: list[tuple[str, Split, str]] = [
        ("a", "train", "1"), ("a", "test", "2"), ("b", "train", "3"), ("c", "val", "3"), ("d", "train", "3"),
    ]  # fmt: skip
    found = {(leak.kind, leak.a, leak.b) for leak in shared_drives(rows)}
    assert found == {("shared_drive", "a", "a"), ("same_content", "b", "c"), ("same_content", "d", "c")}
