"""Any ONNX image encoder: which ends it has, and how a picture is prepared for it.

The preparation comes from the model where it says so, else from the policy:
    1. the model's own metadata, key `preparation`: JSON {"size": 224, "mean": [r, g, b], "scale": [r, g, b]},
       in units of 0..255, network input = (RGB - mean) / scale
    2. `<model>_preprocessor.json` beside it, as CLIP exports bring it along (image_mean, image_std, crop_size)
    3. the policy; a fixed input shape of the graph always decides the size
Belongs here: image encoders. Does not belong here: text encoders, what a clip's vector is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from av_assets.domain.errors import ModelError
from av_assets.domain.privacy.sessions import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from av_assets.policies.embeddings import EmbeddingsPolicy

MAX_SIDE_PX: Final = 2048
MAX_SETTINGS_BYTES: Final = 1 << 20
_USUAL_OUTPUTS: Final = ("embedding", "image_embeds", "text_embeds")
Channels = float | list[float]


@dataclass(frozen=True)
class Preparation:
    """Squeezed to `size` x `size` px by area, then (RGB 0..255 - mean) / scale; one number or one a channel."""

    size: int
    mean: Channels
    scale: Channels

    def apply(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (1, 3, size, size) float32."""
        import cv2

        picture = cv2.resize(rgb, (self.size, self.size), interpolation=cv2.INTER_AREA)
        mean, scale = (
            v if isinstance(v, float) else np.asarray(v, np.float32) for v in (self.mean, self.scale)
        )
        planes = (picture.astype(np.float32) - mean) / scale
        return np.ascontiguousarray(planes.transpose(2, 0, 1))[None].astype(np.float32)


class ImageEncoder:
    """An opened image network.

    Attributes:
        preparation: what its pictures go through.
        dimension: length of its vectors.

    Raises:
        ModelError: `bad_model`, no ONNX model; `bad_ends`, not pictures in and one vector out; `bad_preparation`.
    """

    def __init__(self, onnx_path: Path, policy: EmbeddingsPolicy) -> None:
        self._session = open_session(onnx_path, policy.threads)
        self._input, sides = _picture_input(self._session, onnx_path)
        self._output, dimension = vector_output(self._session, onnx_path)
        self.preparation = _preparation(self._session, onnx_path, policy, sides)
        self.dimension = dimension or self.features(np.zeros((8, 8, 3), np.uint8)).shape[1]

    def features(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (1, D) float32 as the network gives it."""
        return np.asarray(self._session.run([self._output], {self._input: self.preparation.apply(rgb)})[0])


def _picture_input(session: Any, path: Path) -> tuple[str, int | None]:
    """Name of the one picture input, and the side that the graph fixes."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 4 or inputs[0].type != "tensor(float)" or shape[1] not in (3, None, *_names(shape[1])):
        raise ModelError(
            "an image encoder takes one float input (batch, 3, height, width)",
            code="bad_ends", file=path, remedy="export the image half of the model alone",
        )  # fmt: skip
    sides = {side for side in shape[2:] if isinstance(side, int)}
    if len(sides) > 1:
        raise ModelError("an image encoder takes square pictures", code="bad_ends", file=path)
    return inputs[0].name, next(iter(sides), None)


def _names(dimension: object) -> tuple[object, ...]:
    return (dimension,) if isinstance(dimension, str) else ()


def vector_output(session: Any, path: Path) -> tuple[str, int | None]:
    """Name and width of the output that is the vector: the usual names first, else the only one with two axes.

    Raises:
        ModelError: `bad_ends`, there is none, or several.
    """
    flat = {o.name: o.shape for o in session.get_outputs() if len(o.shape) == 2}
    usual = [name for name in _USUAL_OUTPUTS if name in flat]
    if not usual and len(flat) != 1:
        raise ModelError(
            f"an encoder gives one (batch, D) output, not {len(flat)}", code="bad_ends", file=path
        )
    name = (usual or list(flat))[0]
    width = flat[name][1]
    return name, width if isinstance(width, int) else None


def _preparation(session: Any, path: Path, policy: EmbeddingsPolicy, side: int | None) -> Preparation:
    said = session.get_modelmeta().custom_metadata_map.get("preparation")
    beside = path.with_name(f"{path.stem}_preprocessor.json")
    try:
        if said is not None:
            found = _own(json.loads(said))
        elif beside.is_file():
            found = _of_clip(read_settings(beside))
        else:
            found = {"size": policy.input_size, "mean": policy.mean, "scale": policy.scale}
        size = side or int(found["size"])
        made = Preparation(size, found["mean"], found["scale"])
    except (KeyError, TypeError, ValueError) as error:
        reason = f"preparation is not readable: {error}"
        raise ModelError(reason, code="bad_preparation", file=path) from error
    if not 8 <= size <= MAX_SIDE_PX or not np.all(np.asarray(made.scale) > 0):
        raise ModelError(f"preparation is out of bounds: {made}", code="bad_preparation", file=path)
    return made


def _own(said: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": said["size"], "mean": _channels(said["mean"]), "scale": _channels(said["scale"])}


def _of_clip(said: Mapping[str, Any]) -> dict[str, Any]:
    size = said.get("crop_size") or said["size"]
    side = size if isinstance(size, int) else size.get("height") or size["shortest_edge"]
    return {
        "size": side,
        "mean": [255 * value for value in _channels(said["image_mean"])],
        "scale": [255 * value for value in _channels(said["image_std"])],
    }


def _channels(values: Any) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != 3 or not np.all(np.isfinite(numbers)):
        raise ValueError(f"three finite numbers, one a channel, not {values}")
    return numbers


def read_settings(path: Path) -> dict[str, Any]:
    """A small JSON object.

    Raises:
        ValueError: too large, or no JSON object.
    """
    if path.stat().st_size > MAX_SETTINGS_BYTES:
        raise ValueError("larger than 1 MiB")
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found
