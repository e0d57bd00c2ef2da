"""Verified labels of a drive: close to the truth, with provenance and an account of the work."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from label_bundles import THINGS, LabelledDrive
from label_scenes import DRIVE, START_NS, project, road_mask, truth_tables
from label_work import returned

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.exchange.coco import write_coco
from av_assets.domain.labels.exchange.returned import ReturnedBox, read_returned
from av_assets.domain.labels.matching import iou_matrix
from av_assets.domain.labels.people.account import miscounted, own_reviews
from av_assets.domain.labels.people.label_files import AUDIT, FRAMES, REJECTED, VERIFIED_LABELS
from av_assets.domain.labels.people.submissions import read_submissions, write_submissions
from av_assets.domain.labels.people.tasks import LabelTask, read_tasks
from av_assets.domain.labels.people.verify import verify_drive
from av_assets.domain.labels.schema import CANDIDATES, CLASSES
from av_assets.domain.labels.sensing.drivable import decode_mask
from av_assets.policies.annotation import AnnotationPolicy

POLICY = AnnotationPolicy.load()


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> LabelledDrive:
    return LabelledDrive(tmp_path_factory.mktemp("drive"))


def test_tasks_name_their_picture_and_come_most_valuable_first(drive: LabelledDrive) -> None:
    plan, folder = drive.plan("named")
    tasks = read_tasks(folder)
    assert plan["tasks"] == len(tasks) == 4
    assert sorted(t.ref_ns for t in tasks) == [START_NS + n * 300_000_000 for n in range(4)]
    assert all(t.task_id == f"{DRIVE}.camera_front.{t.ref_ns}" for t in tasks)
    assert {(t.width, t.height, len(t.frame_digest), t.annotations_wanted) for t in tasks} == {
        (640, 384, 64, 2)
    }
    assert [t.priority for t in tasks] == sorted((t.priority for t in tasks), reverse=True)
    assert sum(t.gold for t in tasks) == 1
    assert plan["uncertainty_from"] == "the auto-labels' own scores"


def test_candidates_make_a_frame_a_safety_frame_and_tell_its_value(tmp_path: Path) -> None:
    held = LabelledDrive(tmp_path)
    table = pq.read_table(held.auto / "labels.parquet")
    pq.write_table(table.slice(0, 0), held.auto / "labels.parquet")
    far = POLICY.max_distance_m + 1
    facts = [("vehicle", 0.9, 5.0), ("pedestrian", 0.5, 5.0), ("pedestrian", 0.05, None), ("cone", 0.5, far)]
    rows = [
        {
            "ref_ns": START_NS + n * 300_000_000,
            "cls": cls,
            "score": score,
            "slice": "near",
            "distance_m": away,
        }
        | {"x1": 10.0, "y1": 10.0, "x2": 50.0, "y2": 50.0}
        for n, (cls, score, away) in enumerate(facts)
    ]
    outside = rows[0] | {"cls": "cone"} | dict.fromkeys(("x1", "y1", "x2", "y2"))
    schema = CANDIDATES.remove_metadata()
    pq.write_table(pa.Table.from_pylist([*rows, outside], schema=schema), held.auto / "candidates.parquet")
    plan, folder = held.plan("valued")
    tasks = {(t.ref_ns - START_NS) // 300_000_000: t for t in read_tasks(folder)}
    assert [tasks[n].stratum == "safety" for n in range(4)] == [False, True, False, False]
    assert [tasks[n].uncertainty for n in (1, 3)] == [1.0, 0.0]
    assert plan["uncertainty_from"] == "candidates"
    assert plan["sampling"]["empty"]["frames"] == 3


def test_what_is_beyond_the_budget_is_named_and_nobody_draws_it(tmp_path: Path) -> None:
    held = LabelledDrive(tmp_path, POLICY.model_copy(update={"budget_minutes": 1.5}))
    report, out = held.verify("short")
    plan = json.loads((tmp_path / "short-tasks" / "plan.json").read_text())
    beyond = plan["budget"]["beyond_budget"]
    assert 0 < len(beyond) < 4
    assert report["states"]["queued"] == report["budget"]["beyond_budget"] == len(beyond)
    waiting = [f for f in pq.read_table(out / "frames.parquet").to_pylist() if f["state"] == "queued"]
    assert {f["task_id"] for f in waiting} == set(beyond)
    assert plan["budget"]["safety_beyond_budget"] == len(beyond)


def test_verified_labels_are_close_to_the_truth(drive: LabelledDrive) -> None:
    report, out = drive.verify("close")
    labels = pq.read_table(out / "labels.parquet")
    assert labels.schema.equals(VERIFIED_LABELS)
    assert report["frames"] == 4
    rows = labels.to_pylist()
    assert len(rows) >= 0.97 * 4 * len(THINGS)
    known = [r for r in drive.truth["boxes"].to_pylist() if r["sensor_ns"] == START_NS + 1_000]
    corners = [[r[k] for k in ("x1", "y1", "x2", "y2")] for r in known]
    best = iou_matrix([[r[k] for k in ("x1", "y1", "x2", "y2")] for r in rows], corners).max(axis=1)
    assert np.mean(best) >= 0.9
    assert best.min() > 0.7
    assert all(r["cls"] in ("vehicle", "pedestrian", "cone") for r in rows)
    assert {r["status"] for r in rows} <= {"accepted", "corrected", "added"}
    assert all("+" in r["annotator"] and r["labeller_digest"] == report["labeller_digest"] for r in rows)
    assert {(r["rule"], r["task_id"].rpartition(".")[2]) for r in rows} == {
        ("human", str(r["ref_ns"])) for r in rows
    }


def test_what_the_policy_filters_is_not_labelled(drive: LabelledDrive) -> None:
    _, out = drive.verify("filter")
    assert max(pq.read_table(out / "labels.parquet")["distance_m"].to_pylist()) <= POLICY.max_distance_m


def test_an_object_has_one_id_over_the_drive(drive: LabelledDrive) -> None:
    _, out = drive.verify("ids")
    rows = pq.read_table(out / "labels.parquet").to_pylist()
    per_frame = [[r["label_id"] for r in rows if r["ref_ns"] == ns] for ns in {r["ref_ns"] for r in rows}]
    assert all(len(set(ids)) == len(ids) for ids in per_frame)
    assert {r["label_id"] for r in rows} == {"auto-0000", "auto-0001", "auto-0002", "added-0003"}


def test_masks_are_those_of_the_truth_but_for_drawing(drive: LabelledDrive) -> None:
    _, out = drive.verify("masks")
    truth = road_mask() > 0
    masks = pq.read_table(out / "drivable.parquet")["mask"].to_pylist()
    assert len(masks) == 4
    for data in masks:
        drawn = decode_mask(data) > 0
        assert (drawn & truth).sum() / (drawn | truth).sum() > 0.97


def test_the_report_accounts_for_the_work(drive: LabelledDrive) -> None:
    report, out = drive.verify("report")
    assert report == json.loads((out / "report.json").read_text())
    assert report["accepted"] + report["corrected"] + report["added"] == report["labels"]
    assert {"agreement", "kappa", "removed", "mean_minutes", "precision", "recall", "gold", "alpha"} <= set(
        report
    )
    assert 0 < report["mean_minutes"] < 5
    assert report["recall"] is not None
    assert set(report["by_class"]) == {"vehicle", "pedestrian", "cone", "all"}
    assert sum(report["states"].values()) == report["budget"]["frames"] == 4
    spent = sum(p["minutes"] for p in report["annotators"].values())
    frames = pq.read_table(out / "frames.parquet", schema=FRAMES).to_pylist()
    audit = pq.read_table(out / "audit.parquet", schema=AUDIT).to_pylist()
    assert report["minutes"] == pytest.approx(spent, abs=0.01)
    assert sum(f["seconds"] for f in frames) == pytest.approx(60 * spent, abs=0.5)
    assert sum(a["seconds"] or 0.0 for a in audit) == pytest.approx(60 * spent, abs=0.5)
    assert list(own_reviews(audit)) == []
    assert Counter(f["state"] for f in frames) == {"final": 4}


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(drive: LabelledDrive) -> None:
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _, out = drive.verify(name, seed)
        folders = (drive.folder / f"{name}-tasks", drive.folder / f"{name}-submissions", out)
        files.append([p.read_bytes() for folder in folders for p in sorted(folder.iterdir())])
    assert files[0] == files[1] != files[2]


def test_without_truth_nothing_is_verified_and_the_reason_is_given(drive: LabelledDrive) -> None:
    report, out = drive.verify("none", truth={})
    assert (report["frames"], report["labels"], report["states"]["queued"]) == (0, 0, 4)
    assert report["reason"]
    assert pq.read_table(out / "labels.parquet").num_rows == 0


def test_truth_of_another_time_is_not_used(drive: LabelledDrive) -> None:
    late = truth_tables([THINGS] * 12)
    shifted = {
        name: table.set_column(
            0, "sensor_ns", pa.array([n + 45_000_000 for n in table["sensor_ns"].to_pylist()])
        )
        for name, table in late.items()
    }
    report, _ = drive.verify("late", truth=shifted)
    assert report["frames"] == 0


def test_a_folder_without_auto_labels_is_refused(drive: LabelledDrive, tmp_path: Path) -> None:
    _, tasks = drive.plan("refused")
    with pytest.raises(LabelError) as caught:
        verify_drive(tmp_path, tasks, tmp_path, POLICY, tmp_path)
    assert caught.value.code == "bad_auto_labels"


def test_an_unreadable_file_is_one_rejected_row_and_the_others_go_on(drive: LabelledDrive) -> None:
    _, tasks = drive.plan("unreadable", known=set())
    broken = drive.folder / "broken.json"
    broken.write_text("labels of tuesday")
    report, out = drive.collect("unreadable", tasks, returned=[broken])
    assert report["files"]["broken.json"]["unreadable"] == "unknown_label_format"
    (row,) = pq.read_table(out / "rejected.parquet", schema=REJECTED).to_pylist()
    assert (row["origin"], row["constraint"]) == ("broken.json", "unknown_label_format")
    assert (out / "returned" / "broken.json").read_text() == "labels of tuesday"
    assert list(miscounted(out, read_returned)) == ["broken.json"]


def test_known_answers_of_a_file_become_hidden_tasks(drive: LabelledDrive) -> None:
    plan, tasks = drive.plan("file-gold", known={f"{DRIVE}.camera_front.{START_NS}", "elsewhere"})
    assert [t.ref_ns for t in read_tasks(tasks) if t.gold] == [START_NS]
    assert (plan["gold"], plan["gold_source"]) == (1, "file")
    nobody, _ = drive.plan("no-gold", known=set())
    assert (nobody["gold"], nobody["gold_source"]) == (0, "no known answers")


def handed_in(
    folder: Path, tasks: list[LabelTask], name: str, who: str, role: str, off_px: float = 0.0
) -> Path:
    """A COCO file with one person's boxes of every task: the truth, moved by `off_px`."""
    corners = [project(solid) for _, solid in THINGS]
    boxes = [
        ReturnedBox(cls, x1 + off_px, y1, x2 + off_px, y2, None, None)
        for (cls, _), (x1, y1, x2, y2) in zip(THINGS, corners, strict=True)
    ]
    path = folder / name
    write_coco(path, [returned(t.task_id, who, *boxes, role=role) for t in tasks], CLASSES)
    return path


def test_what_people_return_goes_the_same_way_as_what_simulated_people_draw(drive: LabelledDrive) -> None:
    _, folder = drive.plan("people", known=set())
    tasks = read_tasks(folder)
    files = [
        handed_in(drive.folder, tasks[:3], "maria.json", "maria", "annotate"),
        handed_in(drive.folder, tasks[:2], "noor.json", "noor", "annotate", 1.0),
    ]
    _, handed = drive.collect("people", folder, returned=files)
    out = drive.folder / "people"
    out.mkdir()
    report = verify_drive(drive.auto, folder, handed, POLICY, out)
    assert report["states"] == {"queued": 1, "in_review": 1, "adjudication": 0, "final": 2, "rework": 0}
    assert set(report["annotators"]) == {"maria", "noor"}
    rows = pq.read_table(out / "labels.parquet").to_pylist()
    assert {r["annotator"] for r in rows} == {"maria+noor"}
    assert len(rows) == 2 * len(THINGS)
    assert {r["task_id"] for r in rows} == {t.task_id for t in tasks[:2]}
    ids = Counter(r["label_id"] for r in rows)
    assert {name for name in ids if name.startswith("auto")} == {"auto-0000", "auto-0001", "auto-0002"}
    assert all(ids[name] == 2 for name in ids if name.startswith("auto"))
    assert pq.read_table(out / "drivable.parquet").num_rows == 0
    assert (report["drivable"], report["frames"]) == (0, 2)


def test_a_lost_row_is_noticed(drive: LabelledDrive) -> None:
    _, folder = drive.plan("lost", known=set())
    tasks = read_tasks(folder)
    file = handed_in(drive.folder, tasks, "lost.json", "maria", "annotate")
    report, out = drive.collect("lost", folder, returned=[file])
    counts = report["files"]["lost.json"]
    assert (counts["submissions"], counts["accepted"], counts["boxes"], counts["accepted_boxes"]) == (
        4,
        4,
        16,
        16,
    )
    assert miscounted(out, read_returned) == {}
    first, *others = read_submissions(out)
    write_submissions(out, [replace(first, boxes=first.boxes[1:]), *others])
    assert list(miscounted(out, read_returned)) == ["lost.json"]


def test_files_that_do_not_fit_each_other_are_refused(drive: LabelledDrive) -> None:
    _, folder = drive.plan("torn", known=set())
    file = handed_in(drive.folder, read_tasks(folder), "torn.json", "maria", "annotate")
    _, out = drive.collect("torn", folder, returned=[file])
    boxes = pq.read_table(out / "boxes.parquet")
    pq.write_table(boxes.slice(1), out / "boxes.parquet")
    with pytest.raises(LabelError) as caught:
        verify_drive(drive.auto, folder, out, POLICY, out)
    assert caught.value.code == "bad_submissions"
