from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from untaught import untaught_checkpoint

from av_assets.domain.errors import ModelError
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.models.golden import read_scenes, read_spec
from av_assets.domain.models.runtime import OnnxPerception
from av_assets.domain.packaging import export
from av_assets.domain.packaging.source import read_source
from av_assets.policies.packaging import PackagingPolicy

FEW = PackagingPolicy.load().model_copy(
    update={"parity_inputs": 32, "parity_batch": 8, "torchscript_inputs": 8}
)


def zeros(model: OnnxPerception, batch: int = 1) -> dict[str, np.ndarray]:
    return {name: np.zeros((batch, *shape), dtype) for name, (dtype, shape) in model.layout.shapes.items()}


def test_torch_onnx_and_torchscript_agree(exported: Path) -> None:
    parity = json.loads((exported / "parity.json").read_text())
    assert parity["passed"]
    assert parity["inputs"] == 64
    assert set(parity["kinds"]) == {"road_like", "white", "flat"}
    for kind in ("onnx", "torchscript"):
        assert max(parity[kind]["max_abs_diff"][name] for name in parity["heads"]) <= 1e-3


def test_disagreement_is_an_error(
    checkpoint: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxPerception.run

    def shifted(self: OnnxPerception, inputs: Any, outputs: Any = None) -> dict[str, np.ndarray]:
        return {name: value + 0.01 for name, value in run(self, inputs, outputs).items()}

    monkeypatch.setattr(OnnxPerception, "run", shifted)
    source, script = read_source(checkpoint), (exported / "model.ts.pt").read_bytes()
    with pytest.raises(ModelError) as caught:
        export.prove_parity(source, OnnxPerception(exported), script, (), tmp_path, FEW)
    assert caught.value.code == "parity_failed"
    assert not json.loads((tmp_path / "parity.json").read_text())["passed"]


def test_export_is_repeatable_and_holds_no_paths(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    export.export_bundle(checkpoint, tmp_path, FEW)
    for name in ("model.onnx", "model.ts.pt", "inference_config.json"):
        data = (tmp_path / name).read_bytes()
        assert data == (exported / name).read_bytes()
        assert str(Path.cwd()).encode() not in data
    assert b".py" not in (exported / "model.onnx").read_bytes()


def test_another_process_gives_the_same_torchscript(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from av_assets.domain.packaging.source import read_source;"
        "from av_assets.domain.packaging.torchscript import to_torchscript;"
        "s = read_source(Path(sys.argv[1]));"
        "Path(sys.argv[2]).write_bytes(to_torchscript(s.network, s.example(2)))"
    )
    other = tmp_path / "other.pt"
    subprocess.run([sys.executable, "-c", code, str(checkpoint), str(other)], check=True, timeout=120)
    assert other.read_bytes() == (exported / "model.ts.pt").read_bytes()


def test_metadata_names_what_it_was_made_from(exported: Path, checkpoint: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    metadata = {p.key: p.value for p in model.metadata_props}
    state = ckpt.load(checkpoint)
    assert metadata["dataset_digest"] == state["dataset_digest"]
    assert metadata["config_digest"] == state["config_digest"]
    assert metadata["classes"] == "vehicle,pedestrian,cone"
    assert json.loads(metadata["normalisation"])["inside_graph"]
    assert model.opset_import[0].version == int(metadata["opset"])
    assert all(given.type.tensor_type.shape.dim[0].dim_param for given in model.graph.input)


@pytest.mark.parametrize("variant", ["camera", "camera_lidar", "camera_lidar_radar"])
def test_every_variant_runs_with_any_batch(variant: str, exported: Path, tmp_path: Path) -> None:
    folder = exported
    if variant != "camera_lidar_radar":
        folder = tmp_path / "bundle"
        export.export_bundle(untaught_checkpoint(tmp_path / "checkpoint.pt", variant=variant), folder, FEW)
    model = OnnxPerception(folder)
    assert ("bev" in model.layout.shapes) == (variant != "camera")
    for batch in (1, 3, 7):
        out = model.run(zeros(model, batch))
        assert out["boxes"].shape == (batch, 16, 4)
        assert out["boxes3d"].shape == (batch, 8, 9)
        assert out["drivable"].shape == (batch, 64, 96)


def test_a_network_with_boxes_alone_has_no_other_outputs(tmp_path: Path) -> None:
    checkpoint = untaught_checkpoint(tmp_path / "checkpoint.pt", variant="camera", tasks=("boxes2d",))
    export.export_bundle(checkpoint, tmp_path / "bundle", FEW)
    model = OnnxPerception(tmp_path / "bundle")
    found = model.predict_pixels([np.zeros((64, 96, 3), np.uint8)], [None], None)[0]
    assert model.outputs == ("boxes", "scores", "classes")
    assert found.drivable.size == 0
    assert found.boxes3d.shape == (0, 9)


def test_each_row_of_a_batch_is_what_it_is_alone(exported: Path) -> None:
    model, rng = OnnxPerception(exported), np.random.default_rng(3)
    batch = {
        name: rng.integers(0, 255, value.shape).astype(value.dtype) for name, value in zeros(model, 5).items()
    }
    together = model.run(batch, ("scores", "drivable"))
    for row in range(5):
        alone = model.run(
            {name: value[row : row + 1] for name, value in batch.items()}, ("scores", "drivable")
        )
        for name, value in alone.items():
            np.testing.assert_allclose(value[0], together[name][row], atol=1e-5)


def wrong_inputs(model: OnnxPerception) -> list[dict[str, np.ndarray]]:
    good, (planes, height, width) = zeros(model), model.layout.shapes["picture"][1]
    pictures = [
        np.zeros((1, planes, height, width - 32), np.uint8),
        np.zeros((1, planes - 2, height, width), np.uint8),
        np.zeros((1, planes, height, width), np.float32),
        np.zeros((planes, height, width), np.uint8),
        np.zeros((2, planes, height, width), np.uint8),
    ]
    more = good | {"another": good["picture"]}
    less = {name: value for name, value in good.items() if name != "projection"}
    return [*({**good, "picture": p} for p in pictures), zeros(model, 0), more, less, {}]


def test_wrong_names_shapes_and_types_are_refused(exported: Path) -> None:
    model = OnnxPerception(exported)
    for inputs in wrong_inputs(model):
        with pytest.raises(ModelError) as caught:
            model.run(inputs)
        assert caught.value.code == "wrong_input_shape"


def test_one_flipped_bit_in_the_weights_is_refused(exported: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    weights = bytearray((copy / "model.onnx").read_bytes())
    weights[len(weights) // 2] ^= 1
    (copy / "model.onnx").write_bytes(weights)
    with pytest.raises(ModelError) as caught:
        OnnxPerception(copy)
    assert caught.value.code == "weights_tampered"


def test_half_bundles_are_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bad_bundle"):
        OnnxPerception(tmp_path)
    shutil.copy(exported / "inference_config.json", tmp_path)
    with pytest.raises(ModelError, match="bad_bundle"):
        OnnxPerception(tmp_path)


def test_weights_outside_the_bundle_are_not_read(exported: Path, tmp_path: Path) -> None:
    config = json.loads((exported / "inference_config.json").read_text())
    config["files"]["fp32"]["path"] = str(exported / "model.onnx")
    (tmp_path / "inference_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="bad_bundle"):
        OnnxPerception(tmp_path)


def test_a_provider_that_does_not_work_is_an_error(exported: Path) -> None:
    from av_assets.domain.models.session import CUDA, gpu_count, present_providers

    assert present_providers()[-1] == "CPUExecutionProvider"
    assert (CUDA in present_providers()) <= (gpu_count() > 0)
    with pytest.raises(ModelError):
        OnnxPerception(exported, providers=("NoSuchExecutionProvider", "CPUExecutionProvider"))


def test_frames_and_clouds_must_pair_up(exported: Path, golden: Path) -> None:
    scene = next(read_scenes(golden, "drive-c", read_spec(golden)))
    model = OnnxPerception(exported)
    with pytest.raises(ModelError):
        model.predict([scene.frame], [], scene.view)
    assert model.predict([], [], None) == []


def test_the_vehicle_needs_no_torch(exported: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from av_assets.domain.models.runtime import OnnxPerception;"
        f"m = OnnxPerception(Path({str(exported)!r}));"
        "m.predict_pixels([np.zeros((m.height, m.width, 3), np.uint8)], [None], None);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
