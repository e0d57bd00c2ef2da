"""Runs an exported bundle: sensor data in, detections out. Needs onnxruntime, not torch.

Belongs here: what happens on the vehicle and in the serving pod. Does not belong here: sessions (`session`), making
bundles (`packaging`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.evidence.manifest import safe_relative_path
from av_assets.domain.models.inputs import CameraView, InputLayout, network_inputs
from av_assets.domain.models.session import CPU, InputSpec, Network, stack
from av_assets.domain.privacy.frames import RedactedFrame

CONFIG_FILE: Final = "inference_config.json"
FP32: Final = "fp32"
OUTPUTS: Final = ("boxes", "scores", "classes", "drivable")
OUTPUTS_3D: Final = ("boxes3d", "scores3d", "classes3d")
_NEEDED: Final = frozenset(
    {"classes", "inputs", "outputs", "files", "usable", "layout", "model_sha256", "score_floor"}
)


@dataclass(frozen=True)
class Detections:
    """What the model saw in one frame.

    Attributes:
        boxes: (n, 4) float32 x1 y1 x2 y2 in pixels of the frame that was given, best first.
        scores: (n,) float32 0..1. classes: (n,) int64, index into `OnnxPerception.classes`.
        drivable: (H, W) float32 probability at the input size of the network; empty where it has no such head.
        boxes3d: (m, 9) float32 x y z l w h yaw vx vy in the ego frame (m, rad, m/s), best first; empty likewise.
        scores3d: (m,) float32. classes3d: (m,) int64.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    drivable: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    boxes3d: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 9), np.float32))
    scores3d: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    classes3d: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class OnnxPerception:
    """A loaded bundle folder (inference_config.json and the weights of one precision).

    Attributes:
        config: the parsed inference_config.json. classes: class names. width, height: px, of the network's picture.
        precision: which weights run. providers: where they run.

    Raises:
        ModelError: files missing, weights that do not match their digest (weights_tampered), a precision that the
            bundle does not hold or that failed its gate (precision_not_usable), a runtime that cannot load them.
    """

    def __init__(
        self,
        model_dir: Path,
        num_threads: int = 1,
        precision: str = FP32,
        providers: Sequence[str] = (CPU,),
    ) -> None:
        self.config = read_config(model_dir)
        _require_usable(self.config, precision, model_dir)
        weights = read_weights(model_dir, self.config["files"][precision])
        self._open(weights, num_threads, precision, providers, model_dir)

    @classmethod
    def of_weights(
        cls, config: Mapping[str, Any], weights: bytes, num_threads: int = 1, precision: str = FP32
    ) -> OnnxPerception:
        """Weights that no bundle vouches for yet: how the gate looks at a precision before it decides."""
        made = cls.__new__(cls)
        made.config = dict(config)
        made._open(weights, num_threads, precision, (CPU,), None)
        return made

    def _open(
        self, weights: bytes, num_threads: int, precision: str, providers: Sequence[str], file: Path | None
    ) -> None:
        self.precision = precision
        self.classes: tuple[str, ...] = tuple(self.config["classes"])
        specs = [InputSpec.of(described) for described in self.config["inputs"]]
        self.layout = InputLayout.from_description(self.config["layout"])
        self.width, self.height = self.layout.width, self.layout.height
        self._score_floor = float(self.config["score_floor"])
        self._network = Network(weights, specs, num_threads, providers, file)
        self.providers = self._network.providers
        #: What `predict` reads; a network without the 3D head gives the first four alone.
        self.outputs: tuple[str, ...] = tuple(
            n for n in (*OUTPUTS, *OUTPUTS_3D) if n in self.config["outputs"]
        )

    def predict(
        self,
        frames: Sequence[RedactedFrame],
        points: Sequence[NDArray[np.floating] | None],
        calibration: CameraView | None,
        radar: Sequence[NDArray[np.floating] | None] | None = None,
    ) -> list[Detections]:
        """Detections of each frame.

        Args:
            points: per frame lidar points (n, >=3) in metres in the EGO frame, or None.
            calibration: view of the camera; without it lidar is not drawn into the picture.
            radar: per frame the tracks of the radars, rows of `grid.track_rows` (ego frame, velocities over ground), or
                None.

        Raises:
            ModelError: not one cloud (or None) per frame.
        """
        if len(frames) != len(points):
            raise ModelError(f"{len(frames)} frames but {len(points)} clouds", code="wrong_input_shape")
        return self.predict_pixels([f.pixels() for f in frames], points, calibration, radar)

    def predict_pixels(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        points: Sequence[NDArray[np.floating] | None],
        calibration: CameraView | None,
        radar: Sequence[NDArray[np.floating] | None] | None = None,
    ) -> list[Detections]:
        """As `predict`, for pictures (H, W, 3) uint8 RGB that exist in memory only, e.g. corrupted ones."""
        if not pictures:
            return []
        returns = radar if radar is not None else [None] * len(pictures)
        seen = zip(pictures, points, returns, strict=True)
        rows = [self.inputs_of(pixels, cloud, calibration, tracks) for pixels, cloud, tracks in seen]
        out = self.run(stack(rows))
        return [self.detections(out, i, pixels.shape) for i, pixels in enumerate(pictures)]

    def inputs_of(
        self,
        pixels: NDArray[np.uint8],
        points_ego: NDArray[np.floating] | None,
        view: CameraView | None,
        radar: NDArray[np.floating] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The network's inputs for one frame, without the batch axis."""
        return network_inputs(self.layout, pixels, points_ego, view, radar)

    def detections(self, out: Mapping[str, NDArray[Any]], row: int, shape: tuple[int, ...]) -> Detections:
        """Row `row` of what `run` gave, in pixels of a picture of `shape` (height, width, ...)."""
        scale = np.array([shape[1] / self.width, shape[0] / self.height] * 2, np.float32)
        keep = out["scores"][row] >= self._score_floor
        more = {"drivable": out["drivable"][row]} if "drivable" in out else {}
        if "boxes3d" in out:
            kept3d = out["scores3d"][row] >= self._score_floor
            more |= {name: out[name][row][kept3d] for name in OUTPUTS_3D}
        return Detections(
            out["boxes"][row][keep] * scale, out["scores"][row][keep], out["classes"][row][keep], **more
        )

    def run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """The network itself: batched inputs as inference_config.json describes them -> named outputs.

        Raises:
            ModelError: wrong_input_shape, for any other name, shape or type.
        """
        return self._network.run(inputs, self.outputs if outputs is None else outputs)


def read_config(model_dir: Path) -> dict[str, Any]:
    """inference_config.json of a bundle.

    Raises:
        ModelError: bad_bundle, missing or not one.
    """
    path = model_dir / CONFIG_FILE
    try:
        config = json.loads(path.read_text("utf-8"))
        if missing := _NEEDED - set(config):
            raise ValueError(f"lacks {sorted(missing)}")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"no readable inference config: {error}", code="bad_bundle", file=path) from error
    return dict(config)


def read_weights(model_dir: Path, described: Mapping[str, Any]) -> bytes:
    """The bytes of one weights file, which are those that the config names.

    Raises:
        ModelError: bad_bundle, the file is missing; weights_tampered.
    """
    path = model_dir / str(described["path"])
    try:
        weights = (model_dir / safe_relative_path(str(described["path"]))).read_bytes()
    except (OSError, ValueError) as error:
        raise ModelError("bundle has no weights", code="bad_bundle", file=path) from error
    # Hash and load the same bytes: a file swapped in between would pass otherwise.
    if (found := sha256_bytes(weights)) != described["sha256"]:
        remedy = "fetch the bundle again, or export it again from its checkpoint"
        raise ModelError(
            f"weights are {found}, not {described['sha256']}",
            code="weights_tampered",
            file=path,
            remedy=remedy,
        )
    return weights


def _require_usable(config: Mapping[str, Any], precision: str, model_dir: Path) -> None:
    if precision in config["usable"]:
        return
    reason = config.get("refused", {}).get(precision, "the bundle does not hold it")
    raise ModelError(
        f"{precision} is not usable: {reason}",
        code="precision_not_usable",
        file=model_dir / CONFIG_FILE,
        remedy=f"use one of {', '.join(config['usable'])}",
    )
