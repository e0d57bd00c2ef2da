"""Networks as sources of labels, with tiny ONNX networks whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.labels.sensing.camera_objects import detectors_of
from av_assets.domain.models.inputs import PLANES
from av_assets.policies.label_fusion import LabelFusionPolicy

POLICY = LabelFusionPolicy.load()
PICTURE = np.zeros((384, 640, 3), np.uint8)


def save(path: Path, inputs: list, outputs: dict[str, np.ndarray], labels: list[str] | None = None) -> Path:
    """A network that gives the same whatever it sees."""
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))
        for name, value in outputs.items()
    ]
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
    ends = [helper.make_tensor_value_info(n, kinds[v.dtype], v.shape) for n, v in outputs.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, ends), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    if labels is not None:
        helper.set_model_props(model, {"labels": json.dumps(labels)})
    onnx.save(model, path)
    return path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    boxes = np.array([[[32, 32, 160, 96], [100, 50, 140, 130], [10, 10, 60, 40]]], np.float32)
    scores = np.array([[[0.9, 0.0, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, 0.95]]], np.float32)
    picture = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, 192, 320])
    save(
        folder / "object.onnx",
        [picture],
        {"boxes": boxes, "scores": scores},
        ["Car", "Person", "Traffic cone"],
    )
    return folder


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    folder = tmp_path / "teacher"
    folder.mkdir()
    outputs = {
        "boxes": np.array([[[10, 10, 30, 20], [-5, 0, 12, 9], [0, 0, 9, 9], [400, 5, 500, 9]]], np.float32),
        "scores": np.array([[0.8, 0.6, 0.001, 0.5]], np.float32),
        "classes": np.array([[2, 0, 0, 0]], np.int64),
        "drivable": np.zeros((1, 48, 80), np.float32),
    }
    picture = helper.make_tensor_value_info("picture", TensorProto.UINT8, ["B", len(PLANES), 48, 80])
    weights = save(folder / "model.onnx", [picture], outputs)
    shape, digest = [None, len(PLANES), 48, 80], sha256_file(weights)
    config = {
        "classes": ["vehicle", "pedestrian", "cone"],
        "files": {"fp32": {"path": "model.onnx", "sha256": digest, "bytes": weights.stat().st_size}},
        "usable": ["fp32"],
        "layout": {"width": 80, "height": 48, "lidar": True, "radar": False, "grid": None},
        "inputs": [{"name": "picture", "dtype": "uint8", "shape": shape}],
        "outputs": {n: {"dtype": str(v.dtype), "shape": [None, *v.shape[1:]]} for n, v in outputs.items()},
        "model_sha256": digest,
        "score_floor": 0.01,
    }
    (folder / "inference_config.json").write_text(json.dumps(config))
    return folder


def test_the_pretrained_detector_speaks_in_classes_of_labels_and_pixels_of_the_picture(models: Path) -> None:
    [camera] = detectors_of(models, None, POLICY)
    assert (camera.source, camera.classes) == ("camera", {"vehicle", "pedestrian"})
    assert camera.model_digest == sha256_file(models / "object.onnx")
    found = {d.cls: d for d in camera(PICTURE)}  # what it calls a cone is not asked for
    assert found.keys() == {"vehicle", "pedestrian"}
    assert found["vehicle"].xyxy == pytest.approx((64, 64, 320, 192))
    assert found["vehicle"].score == pytest.approx(0.9)
    assert found["pedestrian"].xyxy == pytest.approx((200, 100, 280, 260))


def test_the_teacher_knows_cones_and_stays_within_the_picture(teacher: Path) -> None:
    [found] = detectors_of(None, teacher, POLICY)
    assert (found.source, found.classes) == ("teacher", {"vehicle", "pedestrian", "cone"})
    cone, vehicle = found(PICTURE)
    assert (cone.cls, cone.xyxy) == ("cone", pytest.approx((80, 80, 240, 160)))
    assert (vehicle.cls, vehicle.xyxy) == ("vehicle", pytest.approx((0, 0, 96, 72)))
    assert found.model_digest == sha256_file(teacher / "model.onnx")


def test_sources_without_weights_are_not_there(tmp_path: Path, models: Path, teacher: Path) -> None:
    assert detectors_of(None, None, POLICY) == []
    assert detectors_of(tmp_path, None, POLICY) == []  # the optional network was out of reach
    assert [d.source for d in detectors_of(models, teacher, POLICY)] == ["camera", "teacher"]


def test_weights_that_the_bundle_does_not_name_are_refused(teacher: Path) -> None:
    (teacher / "model.onnx").write_bytes(b"other")
    with pytest.raises(ModelError) as error:
        detectors_of(None, teacher, POLICY)
    assert error.value.code == "weights_tampered"


def test_the_same_picture_gives_the_same_answer(models: Path) -> None:
    [camera] = detectors_of(models, None, POLICY)
    assert camera(PICTURE) == camera(PICTURE)
