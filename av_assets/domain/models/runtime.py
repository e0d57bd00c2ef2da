"""Runs an exported bundle: sensor data in, detections out. Needs onnxruntime, not torch.

Belongs here: what happens on the vehicle and in the serving pod. Does not belong here: making bundles
(`export`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.models.inputs import CameraView, prepare
from av_assets.domain.privacy.frames import RedactedFrame

CONFIG_FILE: Final = "inference_config.json"
MODEL_FILE: Final = "model.onnx"
OUTPUTS: Final = ("boxes", "scores", "classes", "drivable")


@dataclass(frozen=True)
class Detections:
    """What the model saw in one frame.

    Attributes:
        boxes: (n, 4) float32 x1 y1 x2 y2 in pixels of the frame that was given, best first.
        scores: (n,) float32 0..1. classes: (n,) int64, index into `OnnxPerception.classes`.
        drivable: (H, W) float32 probability at the input size of the network.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    drivable: NDArray[np.float32]


class OnnxPerception:
    """A loaded bundle folder (model.onnx, inference_config.json).

    Attributes:
        config: the parsed inference_config.json. classes: class names. width, height: of the network input.

    Raises:
        ModelError: files missing, weights that do not match their digest (weights_tampered), a runtime that
            cannot load them.
    """

    def __init__(self, model_dir: Path, num_threads: int = 1) -> None:
        import onnxruntime as ort

        self.config = _read_config(model_dir)
        self.classes: tuple[str, ...] = tuple(self.config["classes"])
        self.height, self.width = (int(v) for v in self.config["input"]["shape"][2:])
        self._score_floor = float(self.config["score_floor"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        weights = _read_weights(model_dir, self.config["model_sha256"])
        try:
            self._session = ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a family of unrelated types
            raise ModelError(f"cannot load model: {error}", code="bad_model", file=model_dir) from error

    def predict(
        self,
        frames: Sequence[RedactedFrame],
        points: Sequence[NDArray[np.floating] | None],
        calibration: CameraView | None,
    ) -> list[Detections]:
        """Detections of each frame.

        Args:
            points: per frame lidar points (n, >=3) in metres in the EGO frame, or None.
            calibration: view of the camera; without it lidar is not used.

        Raises:
            ModelError: not one cloud (or None) per frame.
        """
        if len(frames) != len(points):
            raise ModelError(f"{len(frames)} frames but {len(points)} clouds", code="wrong_input_shape")
        return self.predict_pixels([f.pixels() for f in frames], points, calibration)

    def predict_pixels(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        points: Sequence[NDArray[np.floating] | None],
        calibration: CameraView | None,
    ) -> list[Detections]:
        """As `predict`, for pictures (H, W, 3) uint8 RGB that exist in memory only, e.g. corrupted ones."""
        if not pictures:
            return []
        pairs = zip(pictures, points, strict=True)
        inputs = [prepare(pixels, cloud, calibration, self.width, self.height) for pixels, cloud in pairs]
        out = self.run(np.ascontiguousarray(np.stack(inputs).transpose(0, 3, 1, 2)))
        return [
            self._detections(pixels, *(out[name][i] for name in OUTPUTS)) for i, pixels in enumerate(pictures)
        ]

    def _detections(
        self,
        pixels: NDArray[np.uint8],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        classes: NDArray[np.int64],
        drivable: NDArray[np.float32],
    ) -> Detections:
        scale = np.array([pixels.shape[1] / self.width, pixels.shape[0] / self.height] * 2, np.float32)
        keep = scores >= self._score_floor
        return Detections(boxes[keep] * scale, scores[keep], classes[keep], drivable)

    def run(self, picture: NDArray[np.uint8], outputs: Sequence[str] = OUTPUTS) -> dict[str, NDArray[Any]]:
        """The network itself: (N, 5, H, W) uint8 -> named outputs as inference_config.json describes them.

        Raises:
            ModelError: any other shape or type.
        """
        expected = (len(self.config["input"]["planes"]), self.height, self.width)
        if (
            picture.ndim != 4
            or picture.shape[1:] != expected
            or picture.dtype != np.uint8
            or not len(picture)
        ):
            raise ModelError(
                f"expected (N, {', '.join(map(str, expected))}) uint8, got {picture.shape} {picture.dtype}",
                code="wrong_input_shape",
                remedy="prepare pictures with av_assets.domain.models.inputs.prepare",
            )
        values = self._session.run(list(outputs), {self.config["input"]["name"]: picture})
        return dict(zip(outputs, values, strict=True))


def _read_config(model_dir: Path) -> dict[str, Any]:
    path = model_dir / CONFIG_FILE
    try:
        config = json.loads(path.read_text("utf-8"))
        needed = {"classes", "input", "model_sha256", "score_floor"}
        if not needed.issubset(config):
            raise ValueError(f"lacks {sorted(needed - set(config))}")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"no readable inference config: {error}", code="bad_bundle", file=path) from error
    return dict(config)


def _read_weights(model_dir: Path, sha256: str) -> bytes:
    path = model_dir / MODEL_FILE
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise ModelError("bundle has no weights", code="bad_bundle", file=path) from error
    # Hash and load the same bytes: a file swapped in between would pass otherwise.
    if (found := sha256_bytes(weights)) != sha256:
        remedy = "fetch the bundle again, or export it again from its checkpoint"
        raise ModelError(
            f"weights are {found}, not {sha256}", code="weights_tampered", file=path, remedy=remedy
        )
    return weights
