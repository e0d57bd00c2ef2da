"""Differences of datasets: every box is counted once on each side, and reasons are followed two steps up."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.datasets.difference import compare_boxes, compare_datasets, compare_frames, why_member
from av_assets.domain.evidence.manifest import MadeFrom

boxes = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["vehicle", "cone"]),
        st.integers(0, 6).map(float), st.integers(5, 9).map(float),
    ),
    max_size=12,
)  # fmt: skip


def labels(rows: list[tuple[int, str, float, float]]) -> pa.Table:
    types = {"clip_id": pa.string(), "ref_ns": pa.int64(), "camera": pa.string(), "cls": pa.string(),
             **dict.fromkeys(("x1", "y1", "x2", "y2"), pa.float64())}  # fmt: skip
    found = [
        {
            "clip_id": "d/0",
            "ref_ns": t,
            "camera": "c",
            "cls": cls,
            "x1": x,
            "y1": 0.0,
            "x2": x + size,
            "y2": size,
        }
        for t, cls, x, size in rows
    ]
    return pa.Table.from_pylist(found, pa.schema(types))


@settings(deadline=None)
@given(boxes, boxes)
def test_every_box_is_counted_once_on_each_side(
    a: list[tuple[int, str, float, float]], b: list[tuple[int, str, float, float]]
) -> None:
    found = compare_boxes(labels(a), labels(b))
    kept = found["same"] + found["moved"] + found["class_changed"]
    assert (kept + found["removed"], kept + found["added"]) == (len(a), len(b))
    back = compare_boxes(labels(b), labels(a))
    assert (back["added"], back["removed"], back["same"]) == (found["removed"], found["added"], found["same"])
    assert compare_boxes(labels(a), labels(a[::-1])) == {
        "same": len(a), "moved": 0, "class_changed": 0, "added": 0, "removed": 0
    }  # fmt: skip


def test_a_moved_a_renamed_a_new_and_a_gone_box() -> None:
    before = [
        (0, "vehicle", 0.0, 10.0),
        (0, "vehicle", 100.0, 10.0),
        (1, "cone", 0.0, 10.0),
        (2, "cone", 50.0, 5.0),
    ]
    after = [
        (0, "vehicle", 1.0, 10.0),
        (0, "cone", 100.0, 10.0),
        (1, "cone", 0.0, 10.0),
        (1, "cone", 80.0, 5.0),
    ]
    assert compare_boxes(labels(before), labels(after)) == {
        "same": 1, "moved": 1, "class_changed": 1, "added": 1, "removed": 1
    }  # fmt: skip


def test_frames_of_two_indices() -> None:
    def index(rows: list[tuple[int, str, int]]) -> pa.Table:
        return pa.Table.from_pylist(
            [{"clip_id": "d/0", "ref_ns": t, "camera": "c", "split": s, "boxes": n, "slices": [], "shard_sha256": ""}
             for t, s, n in rows])  # fmt: skip

    found = compare_frames(
        index([(0, "train", 1), (1, "train", 1), (2, "val", 1)]),
        index([(1, "train", 2), (2, "val", 1), (3, "val", 1), (4, "val", 0)]),
    )
    assert found == {"added": 2, "removed": 1, "changed": 1, "same": 1}


def dataset(**members: tuple[str, int]) -> dict[str, object]:
    return {
        "members": [
            {"drive": d, "split": s, "frames": n, "synced_shards": "s"} for d, (s, n) in members.items()
        ],
        "spec": {"salt": "x", "only": str(len(members))},
        "classes": ["cone"],
        "counts": {"train": {"objects": {"cone": len(members)}}},
        "slice_counts": {"all": {"train": {"frames": sum(n for _, n in members.values())}}},
        "left_out": {"gone": "0 of 1 labelled frames"},
    }


def test_members_and_totals() -> None:
    found = compare_datasets(
        dataset(gone=("train", 1), stays=("train", 2), grows=("val", 3), moves=("val", 1)),
        dataset(stays=("train", 2), grows=("val", 4), moves=("test", 1), new=("test", 9), newer=("test", 1)),
    )
    assert found["members"] == {
        "added": ["new", "newer"],
        "removed": {"gone": "0 of 1 labelled frames"},
        "moved": {"moves": ["val", "test"]},
        "changed": {"grows": {"frames": [3, 4]}},
        "same": 1,
    }
    assert found["objects"] == {"cone": (4, 5)}
    assert found["slices"] == {"all": (7, 17)}
    assert found["spec"] == {"only": ["4", "5"]}


def test_reasons_are_followed_two_steps_up() -> None:
    held = {
        ("verified_labels/d", "1"): MadeFrom(inputs={"auto_labels/d": "1", "synced_shards/d": "9"}),
        ("verified_labels/d", "2"): MadeFrom(inputs={"auto_labels/d": "2", "synced_shards/d": "9"}),
        ("auto_labels/d", "1"): MadeFrom(policies={"label_fusion": "a" * 64}, code_version="1"),
        ("auto_labels/d", "2"): MadeFrom(policies={"label_fusion": "b" * 64}, code_version="2"),
    }
    before = MadeFrom(inputs={"verified_labels/d": "1", "verified_labels/e": "1", "scenes/d": "1"})
    after = MadeFrom(inputs={"verified_labels/d": "2", "verified_labels/e": "2"})
    gone, labels_ = why_member("d", before, after, lambda bundle, digest: held.get((bundle, digest)))
    assert gone == {"bundle": "scenes/d", "because": ["it is gone"], "above": []}
    assert labels_["because"] == ["input auto_labels/d"]
    assert labels_["above"][0]["because"] == [
        "code version 1 -> 2",
        "policy label_fusion aaaaaaaaaaaa -> bbbbbbbbbbbb",
    ]
    [unknown] = why_member("e", before, after, lambda bundle, digest: None)
    assert unknown["because"] == ["its former manifest is not in the lake"]
