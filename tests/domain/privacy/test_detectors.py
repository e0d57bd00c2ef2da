from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from av_assets.domain.errors import ModelError
from av_assets.domain.privacy.audit import covered_share, measure_recall, miss_bound
from av_assets.domain.privacy.detectors import FaceDetector, PlateDetector, load_detectors, suppress

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.policies.redaction import RedactionPolicy


def test_missing_or_foreign_weights_are_named(tmp_path: Path, policy: RedactionPolicy):
    with pytest.raises(ModelError, match=r"face\.onnx"):
        load_detectors(tmp_path, policy)
    (tmp_path / "face.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError) as caught:
        FaceDetector(tmp_path / "face.onnx", policy)
    assert caught.value.code == "bad_model"


def test_face_of_the_astronaut_is_found_at_its_place(weights: Path, policy: RedactionPolicy):
    data = pytest.importorskip("skimage.data")
    [found] = FaceDetector(weights / "face.onnx", policy).detect(data.astronaut())
    # What the package that ships the weights finds itself.
    assert np.allclose(found[:4], [181.53, 58.20, 269.88, 177.81], atol=0.05)
    assert found[4] == pytest.approx(0.929, abs=0.001)


def test_detectors_give_the_same_answer_twice_and_no_boxes_on_nothing(weights: Path, policy: RedactionPolicy):
    noise = np.random.default_rng(0).integers(0, 256, (200, 330, 3), dtype=np.uint8)
    for detector in (
        FaceDetector(weights / "face.onnx", policy),
        PlateDetector(weights / "plate.onnx", policy),
    ):
        assert np.array_equal(detector.detect(noise), detector.detect(noise))
        assert detector.detect(np.zeros((100, 100, 3), np.uint8)).shape == (0, 5)


def test_suppression_keeps_the_best_of_overlapping_boxes():
    boxes = np.array([[0, 0, 10, 10, 0.9], [1, 1, 10, 10, 0.8], [20, 20, 30, 30, 0.7]], np.float32)
    assert suppress(boxes, 0.3)[:, 4].tolist() == pytest.approx([0.9, 0.7])


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
