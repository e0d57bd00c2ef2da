"""Detectors of faces and licence plates on onnxruntime.

A detector takes an RGB picture and gives boxes in its pixels; it knows nothing of time, tracks or hiding.
Belongs here: decoding of the two networks. Does not belong here: what is done with boxes; fetching weights.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.policies.redaction import KindPolicy, RedactionPolicy

_PLATE_MEAN_BGR = np.array([104, 117, 123], np.float32)
_PLATE_SIZES = ((8, (24, 48)), (16, (96, 192)), (32, (384, 768)))
_NO_BOXES = np.zeros((0, 5), np.float32)
MAX_CANDIDATES = 1000


class Detector(Protocol):
    """What redaction asks of a detector; tests bring their own."""

    @property
    def kind(self) -> str:
        """ "face" or "plate"."""

    @property
    def model_digest(self) -> str:
        """sha256 of the weights."""

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (N, 5) float32 of x1, y1, x2, y2 (px), score; best first."""


def load_detectors(folder: Path, policy: RedactionPolicy) -> tuple[Detector, ...]:
    """The shipped pair from `face.onnx` and `plate.onnx` in `folder`.

    Raises:
        ModelError: a file is missing or no ONNX model.
    """
    return FaceDetector(folder / "face.onnx", policy), PlateDetector(folder / "plate.onnx", policy)


class FaceDetector:
    """CenterFace (Xu et al. 2019, arXiv:1911.03599): heat map, size and offset at quarter resolution."""

    kind = "face"

    def __init__(self, onnx_path: Path, policy: RedactionPolicy) -> None:
        self.model_digest = _digest(onnx_path)
        self._session = open_session(onnx_path, policy.detector_threads)
        self._policy, self._nms_iou = policy.face, policy.nms_iou

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        picture, factor = _resized(rgb, self._policy, multiple=32)
        outputs = self._session.run(None, {self._session.get_inputs()[0].name: _planes(picture)})
        heat, size, offset = outputs[0][0, 0], outputs[1][0], outputs[2][0]
        rows, columns = np.nonzero(heat > self._policy.min_score)
        half_h, half_w = (np.exp(size[:, rows, columns]) * 2).astype(np.float32)
        centre_y = (rows + offset[0, rows, columns] + 0.5) * 4
        centre_x = (columns + offset[1, rows, columns] + 0.5) * 4
        boxes = (centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h)
        return _finish(
            np.stack([*boxes, heat[rows, columns]], axis=1), factor, rgb, self._policy, self._nms_iou
        )


class PlateDetector:
    """RetinaFace type (Deng et al. 2019, arXiv:1905.00641), trained on plates; variances .1 and .2."""

    kind = "plate"

    def __init__(self, onnx_path: Path, policy: RedactionPolicy) -> None:
        self.model_digest = _digest(onnx_path)
        self._session = open_session(onnx_path, policy.detector_threads)
        self._policy, self._nms_iou = policy.plate, policy.nms_iou

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        picture, factor = _resized(rgb, self._policy, multiple=32)
        planes = _planes(picture[..., ::-1] - _PLATE_MEAN_BGR)
        shift, confidence = self._session.run(["loc", "conf"], {"image": planes})
        keep = np.nonzero(confidence[0, :, 1] > self._policy.min_score)[0]
        priors, shift = _priors(*picture.shape[:2])[keep], shift[0, keep]
        centre = priors[:, :2] + shift[:, :2] * 0.1 * priors[:, 2:]
        half = priors[:, 2:] * np.exp(shift[:, 2:] * 0.2) / 2
        boxes = np.concatenate([centre - half, centre + half, confidence[0, keep, 1:]], axis=1)
        return _finish(boxes, factor, rgb, self._policy, self._nms_iou)


def open_session(path: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU: sequential, `threads` wide, the same answer every time.

    Raises:
        ModelError: no ONNX model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    # Waiting threads that spin take the cores that decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"not an ONNX model: {type(error).__name__}", code="bad_model", file=path) from error


def _digest(path: Path) -> str:
    if not path.is_file():
        raise ModelError("weights are missing", code="missing_weights", file=path, remedy="fetch them first")
    return sha256_file(path)


def _resized(rgb: np.ndarray, policy: KindPolicy, multiple: int) -> tuple[np.ndarray, np.ndarray]:
    """(h, w, 3) float32 with sides rounded up to `multiple`, and the factors (x, y) back to the source."""
    import cv2

    height, width = rgb.shape[:2]
    scale = min(policy.scale, policy.max_side_px / max(height, width))
    new_h, new_w = (max(multiple, -(-round(side * scale) // multiple) * multiple) for side in (height, width))
    picture = rgb if (new_h, new_w) == (height, width) else cv2.resize(rgb, (new_w, new_h))
    return picture.astype(np.float32), np.array([width / new_w, height / new_h], np.float32)


def _planes(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture.transpose(2, 0, 1))[None]


@lru_cache(maxsize=8)
def _priors(height: int, width: int) -> np.ndarray:
    """(N, 4) float32 of centre x, centre y, width, height in pixels of the network's input."""
    maps = []
    for step, sizes in _PLATE_SIZES:
        y, x, size = np.meshgrid(np.arange(height // step), np.arange(width // step), sizes, indexing="ij")
        maps.append(np.stack([(x + 0.5) * step, (y + 0.5) * step, size, size], axis=-1).reshape(-1, 4))
    return np.concatenate(maps).astype(np.float32)


def _finish(
    boxes: np.ndarray, factor: np.ndarray, rgb: np.ndarray, policy: KindPolicy, nms_iou: float
) -> np.ndarray:
    if not len(boxes):
        return _NO_BOXES
    height, width = rgb.shape[:2]
    boxes = boxes.astype(np.float32)
    boxes[:, :4] = np.clip(boxes[:, :4] * np.tile(factor, 2), 0, [width, height, width, height])
    boxes = boxes[np.isfinite(boxes).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    shaped = (wide >= policy.aspect[0] * high) & (wide <= policy.aspect[1] * high)
    sure = (boxes[:, 4] >= policy.sure_score) | (wide <= policy.sure_width_share * width)
    boxes = boxes[shaped & sure & (wide <= policy.max_width_share * width)]
    return suppress(boxes[np.argsort(-boxes[:, 4], kind="stable")[:MAX_CANDIDATES]], nms_iou)


def suppress(boxes: np.ndarray, iou_limit: float) -> np.ndarray:
    """Greedy non-maximum suppression of (N, 5) boxes that come best first."""
    kept = []
    while len(boxes):
        kept.append(boxes[0])
        boxes = boxes[1:][iou_matrix(boxes[:1], boxes[1:])[0] <= iou_limit]
    return np.stack(kept) if kept else _NO_BOXES


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4+) and (M, 4+) boxes -> (N, M) intersection over union."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = ((x[:, 2:4] - x[:, :2]).prod(-1) for x in (a, b))
    return np.asarray(shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-9))
