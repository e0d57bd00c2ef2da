"""Cuboids of what people kept: one for each box at most, with people's class, and every box accounted for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_bundles import THINGS, LabelledDrive
from label_scenes import DRIVE

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.people.label_files import VERIFIED_CUBOIDS
from av_assets.domain.labels.people.verified_cuboids import verified_cuboids
from av_assets.domain.labels.schema import CUBOIDS

FACING_MPS = 0.5
REASONS = {"not_measured", "added_by_people", "seen_in_the_picture_only", "taken"}
CLIP = f"{DRIVE}/00000"


def label(ref_ns: int, name: str, cls: str = "vehicle") -> dict[str, Any]:
    return {"clip_id": CLIP, "ref_ns": ref_ns, "label_id": name, "cls": cls, "task_id": f"task-{ref_ns}"}


def solid(ref_ns: int, name: str, cls: str = "vehicle", **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(CUBOIDS.names)
    numbers = {"x_m": 10.0, "y_m": 1.0, "z_m": 0.7, "length_m": 4.0, "width_m": 1.8, "height_m": 1.5}
    facts = {
        "clip_id": CLIP,
        "ref_ns": ref_ns,
        "label_id": name,
        "cls": cls,
        "points": 9,
        "state": "observed",
    }
    return row | numbers | facts | {"yaw_rad": 0.1, "vx_mps": 0.0, "vy_mps": 0.0} | more


def test_a_box_has_the_cuboid_of_the_auto_label_that_it_was_met_with() -> None:
    rows = [label(1, "auto-0007"), label(2, "auto-0007")]
    found, account = verified_cuboids(
        rows, ["auto-0003", "auto-0007"], [solid(1, "auto-0003"), solid(2, "auto-0007", x_m=20.0)], FACING_MPS
    )
    assert [(c["ref_ns"], c["label_id"], c["x_m"], c["task_id"]) for c in found] == [
        (1, "auto-0007", 10.0, "task-1"),
        (2, "auto-0007", 20.0, "task-2"),
    ]
    assert account["with_cuboid"] == 2
    assert not account["without"]


def test_an_object_that_people_added_has_the_cuboid_of_its_track_at_that_moment() -> None:
    found, account = verified_cuboids(
        [label(1, "auto-0001")], [""], [solid(1, "auto-0001", state="bridged", points=0)], FACING_MPS
    )
    assert [(c["label_id"], c["state"], c["points"]) for c in found] == [("auto-0001", "bridged", 0)]
    assert account["by_state"] == {"bridged": 1}


def test_a_box_that_was_met_has_the_cuboid_before_one_that_has_its_name_alone() -> None:
    rows = [label(1, "auto-0001"), label(1, "added-0002")]
    found, account = verified_cuboids(rows, ["", "auto-0001"], [solid(1, "auto-0001")], FACING_MPS)
    assert [c["label_id"] for c in found] == ["added-0002"]
    assert account["without"] == {"taken": 1}


def test_why_a_box_has_no_cuboid_is_told() -> None:
    rows = [label(1, "auto-0001"), label(1, "added-0002")]
    _, account = verified_cuboids(rows, ["auto-0001", ""], [solid(2, "auto-0001")], FACING_MPS)
    assert account["without"] == {"seen_in_the_picture_only": 1, "added_by_people": 1}
    _, account = verified_cuboids(rows, ["auto-0001", ""], None, FACING_MPS)
    assert account["without"] == {"not_measured": 2}


def test_the_class_is_what_people_said() -> None:
    found, account = verified_cuboids(
        [label(1, "a", "cone")], ["a"], [solid(1, "a", "pedestrian")], FACING_MPS
    )
    assert [c["cls"] for c in found] == ["cone"]
    assert account["class_changed"] == 1


@pytest.mark.parametrize(
    ("cls", "velocity", "yaw_rad"),
    [
        ("pedestrian", (0.0, -1.2), -math.pi / 2),
        ("pedestrian", (0.1, 0.0), 0.1),  # stands: the motion says nothing
        ("pedestrian", (None, None), 0.1),
        ("vehicle", (0.0, -5.0), 0.1),  # its sides were fitted, and its motion was looked at there
    ],
)
def test_pedestrians_face_where_they_walk(cls: str, velocity: tuple[Any, Any], yaw_rad: float) -> None:
    motion = dict(zip(("vx_mps", "vy_mps"), velocity, strict=True))
    found, _ = verified_cuboids([label(1, "a", cls)], ["a"], [solid(1, "a", cls, **motion)], FACING_MPS)
    assert found[0]["yaw_rad"] == pytest.approx(yaw_rad, abs=1e-4)


names = st.sampled_from(["auto-0000", "auto-0001", "auto-0002", "added-0000"])


@given(
    st.lists(
        st.tuples(st.integers(0, 3), names, st.sampled_from(["", "auto-0000", "auto-0001"])), max_size=20
    ),
    st.none() | st.sets(st.tuples(st.integers(0, 3), names), max_size=12),
)
def test_every_box_is_accounted_for_and_no_cuboid_serves_twice(
    boxes: list[tuple[int, str, str]], measured: set[tuple[int, str]] | None
) -> None:
    rows = [label(ns, name) for ns, name, _ in boxes]
    cuboids = (
        None if measured is None else [solid(ns, name, x_m=float(i)) for i, (ns, name) in enumerate(measured)]
    )
    found, account = verified_cuboids(rows, [met for _, _, met in boxes], cuboids, FACING_MPS)
    assert account["labels"] == len(rows) == account["with_cuboid"] + sum(account["without"].values())
    assert account["with_cuboid"] == len(found) == sum(account["by_state"].values())
    assert set(account["without"]) <= REASONS
    assert len({c["x_m"] for c in found}) == len(found)


def test_a_drive_gives_its_cuboids_as_a_file_and_counts_them(tmp_path: Path) -> None:
    drive = LabelledDrive(tmp_path)
    labels = pq.read_table(drive.auto / "labels.parquet").to_pylist()
    rows = [solid(r["ref_ns"], r["label_id"], r["cls"]) | {"clip_id": r["clip_id"]} for r in labels]
    pq.write_table(pa.Table.from_pylist(rows[1:], schema=CUBOIDS), drive.auto / "cuboids.parquet")
    report, out = drive.verify("measured")
    held = pq.read_table(out / "cuboids.parquet")
    assert held.schema.names == VERIFIED_CUBOIDS.names
    kept = {(r["ref_ns"], r["label_id"], r["cls"], r["task_id"]) for r in held.to_pylist()}
    verified = pq.read_table(out / "labels.parquet").to_pylist()
    assert kept
    assert kept <= {(r["ref_ns"], r["label_id"], r["cls"], r["task_id"]) for r in verified}
    account = report["cuboids"]
    assert account["with_cuboid"] == held.num_rows
    assert account["labels"] == len(verified) == held.num_rows + sum(account["without"].values())
    assert account["without"]["added_by_people"] >= len(THINGS) - 1  # the far car is in no auto-label


def test_auto_labels_without_cuboids_give_none(tmp_path: Path) -> None:
    report, out = LabelledDrive(tmp_path).verify("unmeasured")
    assert pq.read_table(out / "cuboids.parquet").num_rows == 0
    assert report["cuboids"]["without"] == {"not_measured": report["labels"]}


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    drive = LabelledDrive(tmp_path)
    (drive.auto / "cuboids.parquet").write_bytes(b"no table")
    with pytest.raises(LabelError) as caught:
        drive.verify("broken")
    assert caught.value.code == "bad_auto_labels"
