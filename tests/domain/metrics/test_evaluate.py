from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from av_assets.domain.errors import DatasetError, ModelError, RedactionError
from av_assets.domain.metrics import pictures
from av_assets.domain.metrics.boxes import Boxes
from av_assets.domain.metrics.evaluate import EvalReport, evaluate_bundle
from av_assets.domain.metrics.slices import Outcome, slice_report
from av_assets.domain.metrics.verdict import judge
from av_assets.domain.models.golden import read_scenes, read_spec
from av_assets.domain.models.runtime import OnnxPerception
from av_assets.policies.evaluation import EvaluationPolicy

CLASSES = ("vehicle", "pedestrian", "cone")


@pytest.fixture(scope="module")
def policy() -> EvaluationPolicy:
    loose = {"min_map50": 0.3, "min_miou": 0.5, "max_ece": 0.6, "max_map50_loss": 0.02, "critical": True}
    changes = {"latency_warmup": 1, "latency_runs": 3, "bootstrap_rounds": 50, "min_frames": 10}
    return EvaluationPolicy.model_validate(
        EvaluationPolicy.load().model_dump() | changes | {"slices": {"default": loose}}
    )


@pytest.fixture(scope="module")
def evaluated(
    bundle: Path, golden: Path, policy: EvaluationPolicy, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EvalReport, Path]:
    out_dir = tmp_path_factory.mktemp("report")
    return evaluate_bundle(bundle, golden, policy, out_dir), out_dir


def ideal_outcome(frames: int = 30) -> Outcome:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 200, (3 * frames, 2))
    truth = Boxes(
        np.repeat(np.arange(frames), 3),
        np.column_stack([corner, corner + 30]),
        np.tile(np.arange(3), frames),
        np.ones(3 * frames),
    )
    drives = tuple(f"drive-{i % 3}" for i in range(frames))
    pixels = np.tile([50, 0, 0, 50], (frames, 1))
    return Outcome(
        drives, tuple(f"{d}/00000" for d in drives), truth, np.zeros(len(truth), bool), truth, pixels
    )


def test_a_model_that_says_the_truth_is_ideal(policy: EvaluationPolicy) -> None:
    report = slice_report(ideal_outcome(), ["drive-0", "drive-1", "drive-2"], CLASSES, policy)
    assert (report.map50, report.miou, report.ece, report.brier) == (1, 1, 0, 0)
    assert report.map50_interval == (1, 1)
    assert (report.drives, report.frames, report.objects) == (3, 30, 90)
    assert judge({"all": report}, policy).state == "pass"


def test_slices_name_drives_or_clips(policy: EvaluationPolicy) -> None:
    outcome = ideal_outcome()
    by_drive = slice_report(outcome, ["drive-1"], CLASSES, policy)
    by_clip = slice_report(outcome, ["drive-1/00000"], CLASSES, policy)
    assert by_drive == by_clip
    assert (by_drive.drives, by_drive.frames, by_drive.map50_interval) == (1, 10, None)


def test_the_interval_holds_the_mean_and_widens_with_bad_drives(policy: EvaluationPolicy) -> None:
    outcome = ideal_outcome()
    bad = np.array([outcome.drives[f] == "drive-0" for f in outcome.found.frame])
    moved = Boxes(
        outcome.found.frame, outcome.found.xyxy + 500 * bad[:, None], outcome.found.cls, outcome.found.score
    )
    worse = Outcome(outcome.drives, outcome.clips, outcome.truth, outcome.ignore, moved, outcome.pixels)
    report = slice_report(worse, sorted(set(outcome.drives)), CLASSES, policy)
    low, high = report.map50_interval
    assert low < report.map50 < high
    assert report == slice_report(worse, sorted(set(outcome.drives)), CLASSES, policy)


def test_too_little_data_never_passes(policy: EvaluationPolicy) -> None:
    report = slice_report(ideal_outcome(3), ["drive-0", "drive-1", "drive-2"], CLASSES, policy)
    verdict = judge({"all": report}, policy)
    assert verdict.state == "insufficient"
    assert verdict.reasons == ("all: 3 frames, needs 10", "all: 9 objects, needs 20")
    relaxed = policy.model_copy(
        update={"slices": {"default": policy.thresholds("x").model_copy(update={"critical": False})}}
    )
    assert judge({"all": report}, relaxed).state == "pass"
    assert judge({"all": report}, relaxed).slices["all"].state == "insufficient"
    assert judge({}, policy).state == "insufficient"


def test_failures_name_slice_metric_and_limit(policy: EvaluationPolicy) -> None:
    good = slice_report(ideal_outcome(), ["drive-0", "drive-1", "drive-2"], CLASSES, policy)
    verdict = judge({"all": good, "night": good.model_copy(update={"map50": 0.1, "ece": 0.9})}, policy)
    assert verdict.state == "fail"
    assert verdict.reasons == (
        "night: map50 0.1000 is below 0.3000",
        "night: ece 0.9000 is above 0.6000",
    )
    unknown = judge({"all": good.model_copy(update={"miou": None})}, policy)
    assert (unknown.state, unknown.reasons) == ("insufficient", ("all: miou unknown",))


def test_getting_worse_than_the_baseline_fails(policy: EvaluationPolicy) -> None:
    good = slice_report(ideal_outcome(), ["drive-0", "drive-1", "drive-2"], CLASSES, policy)
    worse = good.model_copy(update={"map50": 0.97})
    verdict = judge({"all": worse}, policy, baseline={"all": good})
    assert verdict.state == "fail"
    assert "against baseline" in verdict.reasons[0]
    assert (
        judge({"all": worse.model_copy(update={"map50": 0.985})}, policy, baseline={"all": good}).state
        == "pass"
    )


def test_the_report_covers_all_slices(evaluated: tuple[EvalReport, Path], policy: EvaluationPolicy) -> None:
    report, out_dir = evaluated
    assert set(report.slices) == {"all", "day", "night"}
    assert report.slices["all"].frames == 24
    assert report.slices["all"].drives == 2
    assert report.slices["all"].map50 > 0.4
    assert report.policy_digest == policy.digest
    assert EvalReport.model_validate_json((out_dir / "report.json").read_bytes()) == report
    assert report.slices["all"].objects3d == report.slices["all"].objects
    assert report.slices["all"].map3d is not None
    assert set(report.slices["all"].tp_errors or {}) == {"ate_m", "ase", "aoe_rad", "ave_mps", "aae"}
    rows = pq.read_table(out_dir / "predictions.parquet").to_pylist()
    assert any(row["scores3d"] for row in rows)
    assert all(len(row["boxes3d"]) == 9 * len(row["scores3d"]) == 9 * len(row["classes3d"]) for row in rows)
    flat = ("pr_curves.png", "reliability.png", "examples.png")
    for name in (*flat, "pr_curves_3d.png", "bev_examples.png"):
        assert (out_dir / name).read_bytes().startswith(b"\x89PNG")
    assert set(json.loads((out_dir / "latency.json").read_text())) >= {"p50_ms", "p95_ms", "p99_ms", "passed"}


def test_objects_are_found_in_pixels_of_the_camera(bundle: Path, golden: Path) -> None:
    model = OnnxPerception(bundle)
    scenes = list(read_scenes(golden, "drive-c", read_spec(golden)))
    found = model.predict([s.frame for s in scenes], [s.points_ego for s in scenes], scenes[0].view)
    hits = 0
    for scene, detections in zip(scenes, found, strict=True):
        assert (np.diff(detections.scores) <= 0).all()
        for box, cls in zip(scene.labels.boxes, scene.labels.classes, strict=True):
            near = np.abs(detections.boxes[:3] - box).max(axis=1) < 16
            hits += bool((near & (detections.classes[:3] == cls)).any())
    assert hits > 0.7 * sum(len(s.labels.boxes) for s in scenes)


def test_the_same_inputs_give_the_same_bytes(
    evaluated: tuple[EvalReport, Path], bundle: Path, golden: Path, policy: EvaluationPolicy, tmp_path: Path
) -> None:
    evaluate_bundle(bundle, golden, policy, tmp_path)
    for path in evaluated[1].iterdir():
        if path.name != "latency.json":
            assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_kept_predictions_are_used_for_the_same_model_only(
    evaluated: tuple[EvalReport, Path],
    bundle: Path,
    golden: Path,
    policy: EvaluationPolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from av_assets.domain.metrics import predictions

    shutil.copy(evaluated[1] / "predictions.parquet", tmp_path)
    monkeypatch.setattr(predictions, "_predict", lambda *_: pytest.fail("predicted again"))
    strict = policy.model_copy(update={"min_box_px": 25.0})
    report = evaluate_bundle(bundle, golden, strict, tmp_path)
    assert report.slices["all"].objects < evaluated[0].slices["all"].objects
    other = shutil.copytree(golden, tmp_path / "other")
    spec = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps(spec | {"version": "2025-06-09.1"}))
    with pytest.raises(pytest.fail.Exception):
        evaluate_bundle(bundle, other, policy, tmp_path)


def test_a_baseline_on_other_data_proves_nothing(
    evaluated: tuple[EvalReport, Path], bundle: Path, golden: Path, policy: EvaluationPolicy, tmp_path: Path
) -> None:
    shutil.copy(evaluated[1] / "predictions.parquet", tmp_path)
    same = evaluate_bundle(bundle, golden, policy, tmp_path, baseline=evaluated[0])
    assert same.verdict.state == "pass"
    assert same.baseline_model_sha256 == evaluated[0].model_sha256
    foreign = evaluated[0].model_copy(update={"dataset_digest": "0" * 64})
    other = evaluate_bundle(bundle, golden, policy, tmp_path, baseline=foreign)
    assert other.verdict.state == "insufficient"
    assert "another dataset" in other.verdict.reasons[0]


def test_foreign_classes_and_empty_splits_are_refused(
    bundle: Path, golden: Path, policy: EvaluationPolicy, tmp_path: Path
) -> None:
    copy = shutil.copytree(golden, tmp_path / "copy")
    spec = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(spec | {"classes": ["vehicle", "cone", "pedestrian"]}))
    with pytest.raises(ModelError, match="class_mismatch"):
        evaluate_bundle(bundle, copy, policy, tmp_path / "out")
    members = [m | {"split": "train"} for m in spec["members"]]
    (copy / "dataset.json").write_text(json.dumps(spec | {"members": members}))
    with pytest.raises(DatasetError, match="empty_split"):
        evaluate_bundle(bundle, copy, policy, tmp_path / "out")


def test_pictures_refuse_frames_that_were_not_redacted() -> None:
    class Camera:
        def pixels(self) -> np.ndarray:
            return np.zeros((4, 4, 3), np.uint8)

    nothing = Boxes.concat([])
    with pytest.raises(RedactionError) as caught:
        pictures.example_sheet([pictures.Example(Camera(), "raw", nothing, nothing)], CLASSES)
    assert caught.value.code == "unredacted_frame"


def test_metrics_load_no_heavy_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import av_assets.domain.metrics.evaluate;"
        "heavy = {'torch', 'cv2', 'onnxruntime', 'matplotlib', 'torchmetrics', 'faster_coco_eval'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
