"""Pictures of labels: readable, bounded, the same for the same input, and words where there is nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from av_assets.domain.errors import RedactionError
from av_assets.domain.evidence.manifest import MadeFrom
from av_assets.domain.labels.matching import iou_matrix
from av_assets.domain.labels.pictures import (
    agreement_png,
    annotators_png,
    burn_down_png,
    confusion_png,
    nothing_png,
    thresholds_png,
)
from av_assets.domain.labels.quality.confusion import confusion, unmatched
from av_assets.domain.labels.quality.threshold_curves import threshold_curves
from av_assets.domain.labels.quality.thresholds import Chosen, Verdict
from av_assets.domain.labels.schema import CLASSES
from av_assets.domain.labels.sheets import before_after_sheet, birds_eye_png, colour_of, overlay_sheet
from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard
from av_assets.mining.label_pictures import (
    auto_label_pictures,
    fleet_label_pictures,
    verified_label_pictures,
)
from av_assets.policies.label_fusion import LabelFusionPolicy
from resources.lake import Lake

DRIVE, CAMERA = "veh001-20250601t000000z", "camera_front"
MAX_BYTES, MAX_WIDTH = 1_000_000, 1000
SECOND = 10**9


def shard(clip: str, count: int) -> pa.Table:
    grey = cv2.imencode(".jpg", np.full((180, 320, 3), 90, np.uint8))[1].tobytes()
    rows = [
        {"clip_id": clip, "ref_ns": n * SECOND,
         CAMERA: {"data": grey, "encoding": "jpeg", "sensor_ns": n * SECOND, "valid": True}}
        for n in range(count)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows).replace_schema_metadata({b"redacted": b"true"})


def a_frame() -> RedactedFrame:
    [frame] = frames_from_shard(shard("c", 1), CAMERA)
    assert frame is not None
    return frame


def row(cls: str = "vehicle", at: float = 20.0, **more: Any) -> dict[str, Any]:
    return {"clip_id": f"{DRIVE}/00000", "ref_ns": 0, "camera": CAMERA, "label_id": "auto-0001", "cls": cls,
            "x1": at, "y1": 40.0, "x2": at + 60, "y2": 120.0, "score": 0.8, **more}  # fmt: skip


def cuboid(**more: Any) -> dict[str, Any]:
    return {"ref_ns": 0, "label_id": "a", "cls": "vehicle", "x_m": 9.0, "y_m": 2.0, "length_m": 4.0, "width_m": 2.0,
            "yaw_rad": 0.2, "vx_mps": None, "vy_mps": None} | more  # fmt: skip


def image(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int64)


def inked(png: bytes, colour: tuple[float, float, float]) -> int:
    off = np.abs(image(png) - np.array(colour) * 255).max(axis=2)
    return int((off < 24).sum())


DRAWN: dict[str, Callable[[], bytes]] = {
    "overlay": lambda: overlay_sheet([("one", a_frame(), [row(), row("cone", 150, state="bridged")])] * 20),
    "before_after": lambda: before_after_sheet(
        [("one", a_frame(), [row()], [row(status="added", at=150)])] * 20
    ),
    "birds_eye": lambda: birds_eye_png(
        [cuboid(ref_ns=n * SECOND, vx_mps=3.0, vy_mps=0.0) for n in range(50)],
        [
            {"label_id": str(n), "cls": "cone", "first_ns": 0, "last_ns": n * SECOND, "bridged": 2}
            for n in range(99)
        ],
    ),
    "confusion": lambda: confusion_png(np.arange(16).reshape(4, 4), [*CLASSES, "none"]),
    "agreement": lambda: agreement_png({f"drive {n}": n / 200 for n in range(200)} | {"x": None}, 0.8, 0.667),
    "annotators": lambda: annotators_png(
        {
            f"p{n}": {"quality": 0.5, "low": 0.4, "high": 0.6, "n": 9, "skill": 0.7, "seconds": n}
            for n in range(99)
        }
    ),
    "burn_down": lambda: burn_down_png(
        [{"state": "final" if n % 3 else "queued", "seconds": 20.0, "ref_ns": n} for n in range(5000)], 900
    ),
    "thresholds": lambda: thresholds_png(
        {
            f"c{n}": {
                "recall": [0.1, 0.5],
                "precision": [1.0, 0.8],
                "lower": [0.6, 0.7],
                "threshold": [0.9, 0.4],
                "chosen": 0.4,
                "target": 0.7,
                "n": 50,
            }
            for n in range(30)
        }
    ),
}
EMPTY: dict[str, Callable[[], bytes]] = {
    "overlay": lambda: overlay_sheet([]),
    "before_after": lambda: before_after_sheet([]),
    "birds_eye": lambda: birds_eye_png([], []),
    "confusion": lambda: confusion_png(np.zeros((3, 3)), CLASSES),
    "no_class": lambda: confusion_png(np.zeros((0, 0)), []),
    "agreement": lambda: agreement_png({"a drive": None}),
    "annotators": lambda: annotators_png({}),
    "annotator_unknown": lambda: annotators_png({"anna": {}}),
    "burn_down": lambda: burn_down_png([]),
    "nothing_done": lambda: burn_down_png([{"state": "queued", "seconds": None, "ref_ns": 1}]),
    "thresholds": lambda: thresholds_png({}),
    "threshold_without_curve": lambda: thresholds_png({"cone": {"reason": "no candidate", "chosen": None}}),
    "frame_without_boxes": lambda: overlay_sheet([("one", a_frame(), [])]),
}


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_many_things_stay_readable_and_small(name: str) -> None:
    png = DRAWN[name]()
    assert image(png).shape[1] <= MAX_WIDTH
    assert len(png) < MAX_BYTES


@pytest.mark.parametrize("name", ["birds_eye", "overlay"])
def test_the_same_labels_give_the_same_bytes(name: str) -> None:
    assert DRAWN[name]() == DRAWN[name]()


@pytest.mark.parametrize("name", sorted(EMPTY))
def test_nothing_is_said_in_words(name: str) -> None:
    shown = image(EMPTY[name]())
    assert (shown < 128).all(axis=2).sum() > 50  # letters


def test_what_is_missing_is_named() -> None:
    assert overlay_sheet([]) == nothing_png("labels", "no labelled frame to show")


@pytest.mark.parametrize("cls", CLASSES)
def test_boxes_have_the_colour_of_their_class(cls: str) -> None:
    bare, full = (overlay_sheet([("one", a_frame(), rows)]) for rows in ([], [row(cls, score=None)]))
    assert inked(bare, colour_of(cls)) == 0
    assert inked(full, colour_of(cls)) > 500


@pytest.mark.parametrize("mark", [{"state": "bridged"}, {"rule": "bridged"}, {"status": "below"}])
def test_boxes_that_nobody_saw_are_dashed(mark: dict[str, str]) -> None:
    solid, dashed = (
        inked(overlay_sheet([("one", a_frame(), [row(score=None, **m)])]), colour_of("vehicle"))
        for m in ({}, mark)
    )
    assert 0.2 * solid < dashed < 0.9 * solid


def test_pictures_that_were_not_redacted_are_refused() -> None:
    raw: Any = np.zeros((20, 20, 3), np.uint8)
    for draw in (
        lambda: overlay_sheet([("one", raw, [])]),
        lambda: before_after_sheet([("one", raw, [], [])]),
    ):
        with pytest.raises(RedactionError):
            draw()


def test_removed_boxes_are_marked() -> None:
    orange = (1.0, 0x5C / 255, 0x1A / 255)
    kept, gone = (
        inked(before_after_sheet([("one", a_frame(), [row()], after)]), orange)
        for after in ([row(status="accepted")], [])
    )
    assert gone > kept + 300  # in the legend it stands always


BOXES = st.lists(
    st.tuples(st.sampled_from([*CLASSES, "dog"]), st.integers(0, 300), st.integers(0, 2)), max_size=8
).map(lambda found: [row(cls, float(at), ref_ns=ns) for cls, at, ns in found])


@settings(max_examples=80)
@given(BOXES, BOXES)
def test_confusion_counts_every_box_once(truth: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    counts = confusion(truth, found, CLASSES)
    for number, cls in enumerate(CLASSES):
        assert counts[number].sum() == sum(r["cls"] == cls for r in truth)
        assert counts[:, number].sum() == sum(r["cls"] == cls for r in found)
    assert counts[-1, -1] == 0
    assert (confusion(found, truth, CLASSES) == counts.T).all()


@settings(max_examples=40)
@given(BOXES)
def test_confusion_of_the_same_labels_is_diagonal(rows: list[dict[str, Any]]) -> None:
    counts = confusion(rows, rows, CLASSES)
    apart = {(r["x1"], r["ref_ns"]) for r in rows}
    if len(apart) == len(rows):  # boxes at one place may be paired crosswise
        assert counts.sum() == np.trace(counts)


@settings(max_examples=60)
@given(BOXES, BOXES)
def test_unmatched_rows_are_as_many_as_no_assignment_can_place(
    rows: list[dict[str, Any]], others: list[dict[str, Any]]
) -> None:
    left = unmatched(rows, others)
    corners = [
        np.array([[r[k] for k in ("x1", "y1", "x2", "y2")] for r in s]).reshape(-1, 4) for s in (rows, others)
    ]
    near = iou_matrix(*corners) >= 0.5
    alone = [r for r, any_near in zip(rows, near.any(axis=1), strict=True) if not any_near]
    assert all(any(r is other for other in left) for r in alone)
    assert len(rows) - len(left) <= len(others)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=40), st.integers(40, 60))
def test_curves_are_those_of_counting(found: list[tuple[int, bool]], objects: int) -> None:
    policy = LabelFusionPolicy.load()
    verdicts = [Verdict("d", f"d/{n}", "vehicle", "near", s / 10, ok) for n, (s, ok) in enumerate(found)]
    chosen = {"vehicle": {"all": Chosen(0.5, 9, 8, 0.6, "reached", "tracks")}}
    curve = threshold_curves(verdicts, {"vehicle": objects}, chosen, policy)["vehicle"]
    assert curve["threshold"] == sorted({v.score for v in verdicts}, reverse=True)
    for at, recall, precision, lower in zip(
        *(curve[k] for k in ("threshold", "recall", "precision", "lower")), strict=True
    ):
        taken = [v.correct for v in verdicts if v.score >= at]
        assert (recall, precision) == (sum(taken) / objects, sum(taken) / len(taken))
        assert 0 <= lower <= precision
    assert (curve["chosen"], curve["reason"]) == (0.5, "")
    others = threshold_curves(verdicts, {}, {}, policy)
    assert others["cone"]["reason"] == "no candidate"
    assert others["vehicle"]["reason"] == "no verified object"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "scratch"))


def publish(lake: Lake, asset: str, files: dict[str, Any], **inputs: str) -> Any:
    with lake.workdir() as folder:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, dict):
                path.write_text(json.dumps(content), "utf-8")
            else:
                pq.write_table(
                    content if isinstance(content, pa.Table) else pa.Table.from_pylist(content), path
                )
        made_from = MadeFrom(inputs={f"{name}/{DRIVE}": digest for name, digest in inputs.items()})
        return lake.publish(asset, DRIVE, folder, made_from=made_from)


def labels(count: int, **more: Any) -> list[dict[str, Any]]:
    return [row(ref_ns=n * SECOND, at=20.0 + 5 * n, score=0.3 + 0.1 * n, **more) for n in range(count)]


def test_bundles_without_new_files_are_shown(lake: Lake) -> None:
    shards = publish(lake, "synced_shards", {"clips/00000.parquet": shard(f"{DRIVE}/00000", 6)})
    auto = publish(lake, "auto_labels", {"labels.parquet": labels(6)}, synced_shards=shards.digest)
    verified = publish(
        lake,
        "verified_labels",
        {"labels.parquet": labels(6, status="accepted"), "report.json": {"kappa": 0.9}},
        auto_labels=auto.digest,
    )
    assert set(auto_label_pictures(lake, auto)) == {"boxes"}
    assert set(verified_label_pictures(lake, verified)) == {"before_and_after", "confusion"}


def test_bundles_with_all_files_are_shown(lake: Lake) -> None:
    publish(lake, "synced_shards", {"clips/00000.parquet": shard(f"{DRIVE}/00000", 6)})
    tracks = [{"label_id": "a", "cls": "vehicle", "first_ns": 0, "last_ns": SECOND, "bridged": 1}]
    auto = publish(
        lake,
        "auto_labels",
        {"labels.parquet": labels(6), "cuboids.parquet": [cuboid()], "tracks.parquet": tracks},
    )
    frames = [
        {"task_id": str(n), "clip_id": f"{DRIVE}/00000", "ref_ns": n * SECOND, "camera": CAMERA, "seconds": 9.0,
         "state": "final" if n < 4 else "queued", "annotators": "anna+ben", "agreement": 0.9 if n else None}
        for n in range(6)
    ]  # fmt: skip
    report = {
        "alpha": 0.8, "kappa": None, "overlap": {"0.5": 0.9}, "budget": {"minutes": 10},
        "gold": {"anna": {"tp": 9, "fp": 1, "fn": 0}},
        "annotators": {"anna": {"annotate": 4, "review": 0, "adjudicate": 0, "minutes": 2.0, "skill": None}},
    }  # fmt: skip
    files = {"labels.parquet": labels(4, status="corrected"), "frames.parquet": frames, "report.json": report}
    verified = publish(lake, "verified_labels", files)
    assert set(auto_label_pictures(lake, auto)) == {"boxes", "from_above"}
    shown = verified_label_pictures(lake, verified)
    assert set(shown) == {"before_and_after", "confusion", "agreement", "annotator_quality", "burn_down"}
    assert all(len(value.value) < 2 * MAX_BYTES for value in shown.values())


def test_labels_without_their_shards_and_without_rows(lake: Lake) -> None:
    auto = publish(lake, "auto_labels", {"labels.parquet": labels(3)})
    assert auto_label_pictures(lake, auto) == {}
    nothing = publish(lake, "verified_labels", {"report.json": {"reason": "nobody has annotated"}})
    assert verified_label_pictures(lake, nothing).keys() <= {"before_and_after", "confusion"}


def test_the_fleet_is_shown_from_its_table(lake: Lake) -> None:
    empty = fleet_label_pictures(lake)
    for drive in (DRIVE, "veh002-20250601t000000z"):
        rows = [{"drive": drive, "clip_id": f"{drive}/00000", "ref_ns": n, "task_id": str(n), "seconds": 30.0,
                 "state": "final", "agreement": n / 10} for n in range(5)]  # fmt: skip
        lake.tables.replace("label_frames", pa.Table.from_pylist(rows), key="drive", value=drive)
    shown = fleet_label_pictures(lake)
    assert set(shown) == set(empty) == {"burn_down", "agreement"}
    assert all(shown[name] != empty[name] for name in shown)
