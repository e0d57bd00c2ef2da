"""Which cuboids count, and what 3D reports say of predictions that are known."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden_folder import CLASSES

from av_assets.domain.errors import DatasetError
from av_assets.domain.metrics.boxes3d import Boxes3d, footprints
from av_assets.domain.metrics.judged3d import Frame3d, in_view, judged
from av_assets.domain.metrics.matching import match
from av_assets.domain.metrics.nuscenes import RULES
from av_assets.domain.metrics.predictions import SCHEMA, outcome_of
from av_assets.domain.metrics.report_pictures import report_pictures
from av_assets.domain.metrics.slices import Outcome, SliceReport, slice_report
from av_assets.domain.metrics.verdict import judge
from av_assets.domain.models.golden import (
    Cuboids,
    Labels,
    dataset_digest,
    read_cuboids,
    read_labels,
    read_scenes,
    read_spec,
)
from av_assets.domain.models.inputs import CameraView
from av_assets.policies.evaluation import EvaluationPolicy

RULES_OF_ALL = tuple(RULES[name] for name in ("car", "pedestrian", "traffic_cone"))
# Optical axes in the ego frame, 100 degrees wide.
VIEW = CameraView(
    640,
    384,
    np.array([[270.0, 0, 320], [0, 270.0, 192], [0, 0, 1]]),
    np.array([[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.4], [0, 0, 0, 1.0]]),
)


def box(x: float, y: float = 0.0) -> list[float]:
    return [x, y, 0.8, 4.0, 2.0, 1.5, 0.0, 1.0, 0.0]


def frame(
    truth: list[tuple[float, float, int, int]],
    found: list[tuple[float, float, int]],
    unmeasured: list[tuple[float, float, float, float, int]] = [],  # noqa: B006  # never changed
    view: CameraView | None = VIEW,
) -> Frame3d:
    """truth: x, y, class, points; found: x, y, class; unmeasured: corners in px and class of labels without cuboid."""
    ids = tuple(f"t{i}" for i in range(len(truth)))
    cuboids = Cuboids(
        np.array([box(x, y) for x, y, _, _ in truth], np.float32).reshape(-1, 9),
        np.array([c for *_, c, _ in truth], np.int64),
        np.array([p for *_, p in truth], np.int64),
        ids,
    )
    corners = np.array([[0, 0, 1, 1]] * len(truth) + [list(u[:4]) for u in unmeasured], np.float32)
    classes = np.array([c for *_, c, _ in truth] + [u[4] for u in unmeasured], np.int64)
    names = ids + tuple(f"u{i}" for i in range(len(unmeasured)))
    labels = Labels("c", 1, corners.reshape(-1, 4), classes, np.zeros(len(classes), np.float32), None, names)
    boxes = np.array([box(x, y) for x, y, _ in found], np.float32).reshape(-1, 9)
    scores = np.linspace(0.9, 0.1, len(found))
    return Frame3d(cuboids, labels, view, boxes, scores, np.array([c for *_, c in found], np.int64))


def ahead(boxes: Boxes3d) -> list[float]:
    return [round(float(x), 3) for x in boxes.box[:, 0]]


def test_ranges_and_points_decide_what_counts() -> None:
    one = frame(
        truth=[(10, 0, 0, 5), (20, 0, 0, 0), (49, 0, 0, 5), (45, 0, 1, 5), (31, 0, 2, 5)],
        found=[(49.5, 0, 0), (50.5, 0, 0), (39, 0, 1), (41, 0, 1), (29, 0, 2), (30.5, 0, 2)],
    )
    truth, found = judged([one], RULES_OF_ALL)
    assert ahead(truth) == [10, 49]
    assert ahead(found) == [49.5, 39, 29]


def test_nothing_is_known_outside_the_picture() -> None:
    one = frame([(10, 0, 0, 5), (10, 30, 0, 5)], [(10, 0, 0), (-10, 0, 0), (10, 30, 0)])
    truth, found = judged([one], RULES_OF_ALL)
    assert (ahead(truth), ahead(found)) == ([10], [10])
    assert in_view(np.array([box(10), box(-10), box(10, 30)]), VIEW).tolist() == [True, False, False]
    truth, found = judged([one._replace(view=None)], RULES_OF_ALL)
    assert (len(truth), len(found)) == (2, 3)


def test_a_detection_on_an_object_that_was_not_measured_is_neither_right_nor_wrong() -> None:
    at_40m = (300.0, 180.0, 340.0, 204.0)  # px around the middle of the picture
    one = frame([(10, 0, 0, 5)], [(40, 0, 0), (40, 0, 1), (10, 0.5, 0)], [(*at_40m, 0)])
    _, found = judged([one], RULES_OF_ALL)
    assert list(zip(ahead(found), found.cls.tolist(), strict=True)) == [
        (10, 0)
    ]  # a pedestrian at 40 m is out of range
    near = frame([(38, 0, 0, 5)], [(40, 0, 0)], [(*at_40m, 0)])
    _, found = judged([near], RULES_OF_ALL)
    assert ahead(found) == [40]  # it may be the object that was measured, so it is judged


def test_frames_without_3d_truth_are_left_out_and_keep_their_number() -> None:
    truth, found = judged([None, frame([(10, 0, 0, 5)], [(10, 0, 0)])], RULES_OF_ALL)
    assert (truth.frame.tolist(), found.frame.tolist()) == ([1], [1])


def test_the_best_500_of_a_frame_count() -> None:
    one = frame([(10, 0, 0, 5)], [(10 + i / 100, 0, 0) for i in range(600)])
    _, found = judged([one], RULES_OF_ALL)
    assert len(found) == 500
    assert found.score.min() > one.scores[500]


def test_footprints_turn_with_the_box() -> None:
    (corners,) = footprints(np.array([[10, 5, 0, 4, 2, 1, np.pi / 2, 0, 0.0]]))
    assert corners == pytest.approx(np.array([[9, 7], [11, 7], [11, 3], [9, 3]]))


# Predictions of a golden folder.


@pytest.fixture(scope="module")
def policy() -> EvaluationPolicy:
    loose = {"min_map50": 0.0, "min_miou": 0.0, "max_ece": 1.0, "max_map50_loss": 1.0, "critical": True}
    changes = {"bootstrap_rounds": 40, "min_frames": 1, "min_objects": 1, "slices": {"default": loose}}
    return EvaluationPolicy.model_validate(EvaluationPolicy.load().model_dump() | changes)


def told(golden: Path, off_m: float = 0.0, head: bool = True, only: str = "") -> pa.Table:
    """Predictions that are the truth, in the plane perfect, in space `off_m` too far to the left in drive `only`."""
    spec, rows = read_spec(golden), []
    for drive in spec.drives("test"):
        cuboids = read_cuboids(golden, drive, spec)
        for item in read_labels(golden, drive, spec):
            row: dict[str, Any] = {"drive": drive, "ref_ns": item.ref_ns, "boxes": item.boxes.ravel()}
            row |= {"scores": np.full(len(item.boxes), 0.9, np.float32), "classes": item.classes}
            row |= {"pixels": [1, 0, 0, 1], "boxes3d": None, "scores3d": None, "classes3d": None}
            if head:
                solid = cuboids[item.clip_id, item.ref_ns] if cuboids else None
                moved = solid.boxes.copy() if solid else np.zeros((1, 9), np.float32)
                if drive == only or not only:
                    moved[:, 1] += off_m
                row |= {"boxes3d": moved.ravel(), "scores3d": np.full(len(moved), 0.8, np.float32)}
                row |= {"classes3d": solid.classes if solid else np.zeros(1, np.int64)}
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def report_of(table: pa.Table, golden: Path, policy: EvaluationPolicy) -> tuple[SliceReport, Outcome]:
    spec = read_spec(golden)
    outcome = outcome_of(table, golden, spec, policy)
    return slice_report(outcome, spec.drives("test"), spec.classes, policy), outcome


def test_a_golden_folder_gives_its_cuboids_and_tracks(golden: Path) -> None:
    spec = read_spec(golden)
    scene = next(read_scenes(golden, "drive-c", spec))
    assert scene.cuboids is not None
    assert scene.tracks is not None
    assert scene.cuboids.label_ids == scene.labels.label_ids
    assert scene.cuboids.classes.tolist() == scene.labels.classes.tolist()
    # The radar of the folder tells velocities relative to the vehicle, cuboids have them over ground.
    np.testing.assert_allclose(scene.tracks, scene.cuboids.boxes[:, [0, 1, 7, 8]], rtol=1e-6)
    stamps = [item.ref_ns for item in read_labels(golden, "drive-c", spec)][3:5]
    assert [s.labels.ref_ns for s in read_scenes(golden, "drive-c", spec, stamps)] == stamps


def test_the_truth_itself_is_ideal_in_space(golden: Path, policy: EvaluationPolicy) -> None:
    report, _ = report_of(told(golden), golden, policy)
    assert report.map3d == pytest.approx(1.0)
    assert report.map3d_interval == pytest.approx((1.0, 1.0))
    assert report.nds == pytest.approx(0.9)  # nobody labels attributes
    assert report.tp_errors == pytest.approx(
        {"ate_m": 0.0, "ase": 0.0, "aoe_rad": 0.0, "ave_mps": 0.0, "aae": 1.0}, abs=1e-6
    )
    by_class = report.tp_errors_by_class
    assert by_class is not None
    assert set(by_class) == set(CLASSES)
    assert by_class["cone"] == pytest.approx(
        {"ate_m": 0.0, "ase": 0.0, "aoe_rad": None, "ave_mps": None, "aae": None}
    )
    assert report.objects3d == report.objects > 0
    bands = report.map3d_by_distance
    assert bands is not None
    assert sum(band.objects for band in bands.values()) == report.objects3d
    assert set(bands) == {"0-10", "10-20", "20-30", "30-50"}
    assert {band.map3d for band in bands.values() if not band.objects} == {None}


def test_an_offset_costs_the_thresholds_below_it(golden: Path, policy: EvaluationPolicy) -> None:
    report, _ = report_of(told(golden, off_m=0.7), golden, policy)
    assert report.ap3d_by_class is not None
    for name in CLASSES:
        aps = report.ap3d_by_class[name]
        assert aps is not None
        assert aps["0.5"] < 0.1
        assert aps["2"] > 0.5
    assert report.tp_errors is not None
    assert report.tp_errors["ate_m"] == pytest.approx(0.7, abs=1e-3)


def test_drives_that_differ_widen_the_interval(golden: Path, policy: EvaluationPolicy) -> None:
    report, outcome = report_of(told(golden, off_m=10.0, only="drive-d"), golden, policy)
    assert report.map3d_interval is not None
    low, high = report.map3d_interval
    assert low < report.map3d < high
    again = slice_report(outcome, read_spec(golden).drives("test"), CLASSES, policy)
    assert again.map3d_interval == report.map3d_interval
    alone = slice_report(outcome, ["drive-c"], CLASSES, policy)
    assert alone.map3d == pytest.approx(1.0)
    assert alone.map3d_interval is None


def test_without_truth_or_head_nothing_is_said(
    golden: Path, policy: EvaluationPolicy, tmp_path: Path
) -> None:
    report, _ = report_of(told(golden, head=False), golden, policy)
    assert (report.map3d, report.nds, report.tp_errors, report.objects3d) == (None, None, None, None)
    older = shutil.copytree(golden, tmp_path / "older")
    for path in older.glob("drives/*/cuboids.parquet"):
        path.unlink()
    report, _ = report_of(told(older), older, policy)
    assert (report.map3d, report.map3d_by_distance) == (None, None)
    assert dataset_digest(older) != dataset_digest(golden)


def test_3d_gates_decide_only_where_they_are_given(golden: Path, policy: EvaluationPolicy) -> None:
    report, _ = report_of(told(golden, off_m=0.7), golden, policy)
    assert judge({"all": report}, policy).state == "pass"
    limits = policy.slices["default"].model_dump() | {"min_map3d": 0.95, "min_nds": 0.1}
    gated = EvaluationPolicy.model_validate(policy.model_dump() | {"slices": {"default": limits}})
    verdict = judge({"all": report}, gated)
    assert verdict.state == "fail"
    assert verdict.reasons[0].startswith("all: map3d")
    unknown, _ = report_of(told(golden, head=False), golden, policy)
    assert judge({"all": unknown}, gated).reasons == ("all: map3d unknown", "all: nds unknown")


def test_cuboids_of_unknown_classes_are_refused(golden: Path, tmp_path: Path) -> None:
    root = shutil.copytree(golden, tmp_path / "odd")
    path = root / "drives" / "drive-c" / "cuboids.parquet"
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([rows[0] | {"cls": "tram"}, *rows[1:]]), path)
    with pytest.raises(DatasetError) as caught:
        read_cuboids(root, "drive-c", read_spec(root))
    assert caught.value.code == "unknown_class"


def test_pictures_show_space_where_there_is_any(golden: Path, policy: EvaluationPolicy) -> None:
    spec = read_spec(golden)
    drawn = {}
    for head in (True, False):
        report, outcome = report_of(told(golden, off_m=0.3, head=head), golden, policy)
        matches = match(outcome.truth, outcome.found, outcome.ignore, len(spec.classes))
        drawn[head] = report_pictures(report, [], matches, outcome, golden, spec, policy)
    assert set(drawn[True]) - set(drawn[False]) == {"pr_curves_3d.png", "bev_examples.png"}
    assert all(png.startswith(b"\x89PNG") for png in drawn[True].values())
