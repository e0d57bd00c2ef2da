from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from av_assets.domain.errors import ModelError
from av_assets.domain.privacy.audit import covered_share, measure_recall, miss_bound
from av_assets.domain.privacy.detectors import load_detector
from av_assets.policies.detection import DetectionPolicy

if TYPE_CHECKING:
    from pathlib import Path


def shipped(**changed: Any) -> DetectionPolicy:
    """The shipped policy with parts of it changed."""
    return DetectionPolicy.model_validate(_merged(DetectionPolicy.load().model_dump(), changed))


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merged(old[k], v) for k, v in new.items() if isinstance(v, dict) and old.get(k)}
    return old | new | both


def noise(seed: int, height: int = 200, width: int = 330) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def with_heads(size_px: int, places: list[tuple[int, int]]) -> np.ndarray:
    """A smooth grey picture (384, 640, 3) with the same head, its longer side `size_px`, at the given corners."""
    import cv2

    portrait = pytest.importorskip("skimage.data").astronaut()[22:186, 158:292]
    head = cv2.resize(portrait, (round(size_px * 0.82), size_px), interpolation=cv2.INTER_AREA)
    picture = np.full((384, 640, 3), 120, np.uint8)
    for x, y in places:
        picture[y : y + head.shape[0], x : x + head.shape[1]] = head
    return picture


def test_missing_or_foreign_weights_are_named(tmp_path: Path):
    for kind, file in (("face", r"face\.onnx"), ("plate", r"plate\.onnx"), ("person", r"object\.onnx")):
        with pytest.raises(ModelError, match=file) as caught:
            load_detector(tmp_path, shipped(), (kind,))
        assert caught.value.code == "missing_weights"
        assert caught.value.remedy
    (tmp_path / "face.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError) as caught:
        load_detector(tmp_path, shipped(), ("face",))
    assert caught.value.code == "bad_model"
    with pytest.raises(ModelError) as caught:
        load_detector(tmp_path, shipped(), ("face", "dog"))
    assert caught.value.code == "unknown_kind"


def test_face_of_the_astronaut_is_found_at_its_place(weights: Path):
    data = pytest.importorskip("skimage.data")
    whole = load_detector(weights, shipped(face={"first_pass": None}), ("face",))
    [found] = whole.detect([data.astronaut()])[0]["face"]
    # What the package that ships the weights finds itself.
    assert np.allclose(found[:4], [181.53, 58.20, 269.88, 177.81], atol=0.05)
    assert found[4] == pytest.approx(0.929, abs=0.001)


def test_two_passes_find_small_faces_that_half_size_alone_misses(weights: Path):
    places = [(100, 100), (300, 200), (500, 60)]
    picture = with_heads(30, places)
    half = load_detector(weights, shipped(face={"first_pass": None, "scale": 0.5}), ("face",))
    both = load_detector(weights, shipped(), ("face",))
    assert len(half.detect([picture])[0]["face"]) < len(places)
    found = both.detect([picture])[0]["face"]
    for x, y in places:
        face = np.array([x + 5, y + 7, x + 19, y + 27])
        assert covered_share(face, [row[:4] for row in found]) > 0.75


def test_findings_do_not_depend_on_company_order_or_threads(weights: Path):
    kinds = ("face", "plate", "vehicle", "person")
    frames = [
        with_heads(40, [(50, 80), (400, 200)]),
        noise(1),
        with_heads(24, [(200, 100)]),
        noise(2, 64, 48),
    ]
    detector = load_detector(weights, shipped(batch=3, threads=1), kinds)
    together = detector.detect(frames)
    alone = [detector.detect([frame])[0] for frame in frames]
    wider = load_detector(weights, shipped(batch=3, threads=2), kinds).detect(frames)
    again = detector.detect(frames)
    assert any(len(found["face"]) for found in together)
    for index in range(len(frames)):
        for kind in kinds:
            assert together[index][kind].shape[1:] == (5,)
            assert np.array_equal(together[index][kind], again[index][kind])
            assert np.allclose(together[index][kind], alone[index][kind], atol=1e-2)
            assert np.allclose(together[index][kind], wider[index][kind], atol=1e-2)


def test_only_the_asked_kinds_come_back_and_nothing_on_nothing(weights: Path):
    detector = load_detector(weights, shipped(), ("plate", "face"))
    [found] = detector.detect([np.zeros((100, 100, 3), np.uint8)])
    assert {kind: boxes.shape for kind, boxes in found.items()} == {"plate": (0, 5), "face": (0, 5)}
    assert detector.kinds == ("plate", "face")
    assert set(detector.models) == {"plate", "face"} | {p.stem for p in weights.glob("object.onnx")}
    assert all(len(digest) == 64 for digest in detector.models.values())


def test_person_is_found_once_in_frame_and_tiles(weights: Path):
    if not (weights / "object.onnx").is_file():
        pytest.skip("no detector of vehicles and people: it comes by npm")
    astronaut = pytest.importorskip("skimage.data").astronaut()
    wide = np.full((512, 900, 3), 90, np.uint8)
    wide[:, 200:712] = astronaut
    [found] = load_detector(weights, shipped(), ("person", "vehicle")).detect([wide])
    body = np.array([230, 20, 640, 500])
    assert covered_share(body, [row[:4] for row in found["person"][:1]]) > 0.7
    assert found["person"][0, 4] > 0.5
    assert not (found["vehicle"][:, 4] > 0.5).any()


def chosen_model(
    path: Path, labels: list[str] | None, boxes: list[list[float]], outputs: str = "scores"
) -> None:
    """An ONNX detector that always finds the same `boxes`, the n-th of class n with certainty .9."""
    from onnx import TensorProto, helper, numpy_helper, save

    scores = np.eye(len(boxes), 3, dtype=np.float32)[None] * 0.9
    constants = {"fixed_boxes": np.array([boxes], np.float32), "fixed_scores": scores}
    nodes = [helper.make_node("ReduceMin", ["image"], ["least"], axes=[1, 2, 3], keepdims=0),
             helper.make_node("Mul", ["least", "nil"], ["zeros"]),
             helper.make_node("Reshape", ["zeros", "column"], ["rows"]),
             helper.make_node("Add", ["fixed_boxes", "rows"], ["boxes"]),
             helper.make_node("Add", ["fixed_scores", "rows"], [outputs])]  # fmt: skip
    constants |= {"nil": np.zeros(1, np.float32), "column": np.array([-1, 1, 1])}
    ends = {"image": ["B", 3, 100, 200], "boxes": ["B", len(boxes), 4], outputs: ["B", len(boxes), 3]}
    named = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in ends.items()}
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "chosen", [named["image"]], [named["boxes"], named[outputs]], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if labels is not None:
        helper.set_model_props(model, {"labels": json.dumps(labels)})
    save(model, path)


def test_detector_of_ones_own_choice_is_used_by_the_contract(tmp_path: Path):
    chosen_model(tmp_path / "object.onnx", ["Tree", "truck", "Pedestrian"],
                 [[0, 0, 50, 50], [20, 10, 120, 60], [150, 20, 170, 80]])  # fmt: skip
    policy = shipped(object={"tiles_small": 0})
    frames = [np.full((200, 400, 3), 50, np.uint8)] * 3
    found = load_detector(tmp_path, policy, ("vehicle", "person")).detect(frames)
    for each in found:
        assert np.allclose(each["vehicle"], [[40, 20, 240, 120, 0.9]])
        assert np.allclose(each["person"], [[300, 40, 340, 160, 0.9]])


@pytest.mark.parametrize(
    ("labels", "outputs", "says"),
    [
        (None, "scores", "name its classes"),
        (["a", "b", "c"], "scores", "knows none"),
        (["Car"] * 3, "odd", "ends are"),
    ],
)
def test_detector_that_breaks_the_contract_is_refused(tmp_path: Path, labels: Any, outputs: str, says: str):
    chosen_model(tmp_path / "object.onnx", labels, [[0, 0, 50, 50]], outputs)
    with pytest.raises(ModelError, match=says) as caught:
        load_detector(tmp_path, shipped(), ("vehicle",))
    assert caught.value.code == "bad_model"
    assert caught.value.remedy


def test_plates_are_looked_for_on_vehicles(weights: Path, tmp_path: Path):
    """A plate too small for the whole picture is found in the closer look at the vehicle that bears it."""
    from av_assets.domain.simulation.textures import plate

    import cv2  # isort: skip

    picture = np.full((400, 800, 3), 110, np.uint8)
    picture[150:250, 300:420] = (40, 60, 120)
    small = cv2.resize(plate("KHM 311"), (20, 5), interpolation=cv2.INTER_AREA)
    picture[215:220, 344:364] = small
    truth = np.array([344, 215, 364, 220])
    for name in ("face", "plate"):
        shutil.copy(weights / f"{name}.onnx", tmp_path)
    crops = {"tile_px": 256, "around": 1.1, "least_px": 64, "most": 4}
    rule = {"plate": {"whole_frame": False, "on_vehicles": crops}, "object": {"tiles_small": 0}}
    whole = load_detector(tmp_path, shipped(**rule), ("plate",)).detect([picture])[0]["plate"]
    chosen_model(tmp_path / "object.onnx", ["Car", "Tree", "House"], [[75, 37, 105, 63]])
    closer = load_detector(tmp_path, shipped(**rule), ("plate",)).detect([picture])[0]["plate"]
    assert covered_share(truth, [row[:4] for row in whole]) < 0.2
    assert covered_share(truth, [row[:4] for row in closer]) > 0.6


def test_recall_counts_covered_objects_and_bounds_the_misses():
    def row(x: float, kind: str = "face") -> dict[str, object]:
        return {"role": "c", "sensor_ns": 1, "kind": kind, "x1": x, "y1": 0.0, "x2": x + 10, "y2": 10.0}

    truth = pa.Table.from_pylist([row(0), row(100), row(50, "plate")])
    measured = measure_recall(pa.Table.from_pylist([row(1)]), truth, "face", min_side_px=8)
    assert (measured.total, measured.hidden, measured.recall) == (2, 1, 0.5)
    assert miss_bound(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300))
    assert miss_bound(0, 300) == pytest.approx(0.0099, abs=1e-4)
    halves = [np.array([0, 0, 5, 10]), np.array([5, 0, 10, 10])]
    assert covered_share(np.array([0, 0, 10, 10]), halves) == 1.0
