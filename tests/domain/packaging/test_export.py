from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from av_assets.domain.errors import ModelError
from av_assets.domain.learning.train import TrainSummary
from av_assets.domain.models.golden import read_scenes, read_spec
from av_assets.domain.models.runtime import OnnxPerception
from av_assets.domain.packaging import export
from av_assets.policies.training import TrainingPolicy


def test_torch_and_onnx_agree(bundle: Path, tiny: TrainingPolicy) -> None:
    parity = json.loads((bundle / "parity.json").read_text())
    assert parity["passed"]
    assert parity["inputs"] >= 200
    assert set(parity["kinds"]) == {"road_like", "white", "flat"}
    assert max(parity["max_abs_diff"][name] for name in export.HEADS) <= 1e-3


def test_disagreement_is_an_error(
    trained: TrainSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxPerception.run

    def shifted(self: OnnxPerception, picture: np.ndarray, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
        return {name: value + 0.01 for name, value in run(self, picture, outputs).items()}

    monkeypatch.setattr(OnnxPerception, "run", shifted)
    with pytest.raises(ModelError) as caught:
        export.export_bundle(trained.checkpoint, tmp_path)
    assert caught.value.code == "parity_failed"


def test_export_is_repeatable_and_holds_no_paths(bundle: Path, trained: TrainSummary, tmp_path: Path) -> None:
    export.export_bundle(trained.checkpoint, tmp_path)
    for name in ("model.onnx", "inference_config.json", "parity.json"):
        assert (tmp_path / name).read_bytes() == (bundle / name).read_bytes()
    assert b".py" not in (bundle / "model.onnx").read_bytes()


def test_metadata_names_what_it_was_made_from(bundle: Path, trained: TrainSummary) -> None:
    model = onnx.load(bundle / "model.onnx")
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata["dataset_digest"] == trained.dataset_digest
    assert metadata["config_digest"] == trained.config_digest
    assert metadata["classes"] == "vehicle,pedestrian,cone"
    assert json.loads(metadata["normalisation"])["inside_graph"]
    assert model.opset_import[0].version == int(metadata["opset"])
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_any_batch_size_runs(batch: int, bundle: Path, tiny: TrainingPolicy) -> None:
    model = OnnxPerception(bundle)
    out = model.run(np.zeros((batch, 5, tiny.input_height, tiny.input_width), np.uint8))
    assert out["boxes"].shape == (batch, tiny.max_detections, 4)
    assert out["scores"].shape == out["classes"].shape == (batch, tiny.max_detections)
    assert out["drivable"].shape == (batch, tiny.input_height, tiny.input_width)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((1, 5, 96, 128), np.uint8),
        np.zeros((1, 3, 96, 160), np.uint8),
        np.zeros((1, 5, 96, 160), np.float32),
        np.zeros((5, 96, 160), np.uint8),
        np.zeros((0, 5, 96, 160), np.uint8),
    ],
)
def test_wrong_shapes_are_refused(picture: np.ndarray, bundle: Path) -> None:
    with pytest.raises(ModelError) as caught:
        OnnxPerception(bundle).run(picture)
    assert caught.value.code == "wrong_input_shape"


def test_one_flipped_bit_in_the_weights_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    weights = bytearray((copy / "model.onnx").read_bytes())
    weights[len(weights) // 2] ^= 1
    (copy / "model.onnx").write_bytes(weights)
    with pytest.raises(ModelError) as caught:
        OnnxPerception(copy)
    assert caught.value.code == "weights_tampered"


def test_half_bundles_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bad_bundle"):
        OnnxPerception(tmp_path)
    shutil.copy(bundle / "inference_config.json", tmp_path)
    with pytest.raises(ModelError, match="bad_bundle"):
        OnnxPerception(tmp_path)


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


def test_frames_and_clouds_must_pair_up(bundle: Path, golden: Path) -> None:
    scene = next(read_scenes(golden, "drive-c", read_spec(golden)))
    model = OnnxPerception(bundle)
    with pytest.raises(ModelError):
        model.predict([scene.frame], [], scene.view)
    assert model.predict([], [], None) == []


def test_the_vehicle_needs_no_torch(bundle: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from av_assets.domain.models.runtime import OnnxPerception;"
        f"m = OnnxPerception(Path({str(bundle)!r}));"
        "m.run(np.zeros((1, 5, m.height, m.width), np.uint8)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
