"""Faces: CenterFace (Xu et al. 2019, arXiv:1911.03599).

Belongs here: decoding of that network. Does not belong here: any other kind, what is done with boxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.privacy.boxes import best_first, plausible
from av_assets.domain.privacy.crops import Crop, crops_around, in_frame, tiles
from av_assets.domain.privacy.sessions import open_session, planes, resized, weights_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from av_assets.policies.detection import DetectionPolicy, FirstPass

TILES_AT_ONCE: Final = 32
"""Crops are small: many of them at once cost less."""
MAX_LOG_SIZE: Final = 10.0
"""Sizes are logarithms; larger ones are larger than any picture and would overflow."""
STEP_PX: Final = 32
"""Sides of the network's input are multiples of this; its maps have a quarter of the resolution."""


class FaceDetector:
    """Heat map, size and offset at quarter resolution; input RGB 0..255.

    With a first pass the whole picture is looked at in a reduced size and with a low score; what is found there
    and is small is judged in crops at full size.
    """

    kinds: tuple[str, ...] = ("face",)
    file = "face.onnx"

    def __init__(self, onnx_path: Path, policy: DetectionPolicy) -> None:
        self.digest = weights_digest(onnx_path)
        self._session = open_session(onnx_path, policy.threads, policy.device)
        self._input, self._batch = self._session.get_inputs()[0].name, policy.batch
        self._policy, self._nms_iou = policy.face, policy.nms_iou

    def find(
        self, frames: Sequence[np.ndarray], found: Sequence[Mapping[str, np.ndarray]] = ()
    ) -> list[dict[str, np.ndarray]]:
        """Frames of one size -> their faces; what else was `found` is not used."""
        del found
        rule, first = self._policy, self._policy.first_pass
        if first is None:
            raw = self._whole(frames, rule.scale, rule.min_score)
        else:
            raw = self._closer(frames, self._whole(frames, first.scale, first.min_score), first)
        return [
            {"face": plausible(boxes, rgb.shape, rule, self._nms_iou)}
            for boxes, rgb in zip(raw, frames, strict=True)
        ]

    def _whole(self, frames: Sequence[np.ndarray], scale: float, min_score: float) -> list[np.ndarray]:
        pictures, factors = zip(
            *(resized(rgb, scale, self._policy.max_side_px, STEP_PX) for rgb in frames), strict=True
        )
        boxes = self._network(pictures, min_score, self._batch)
        for found, factor in zip(boxes, factors, strict=True):
            found[:, :4] *= np.tile(factor, 2)
        return boxes

    def _closer(
        self, frames: Sequence[np.ndarray], places: Sequence[np.ndarray], first: FirstPass
    ) -> list[np.ndarray]:
        """Large findings as they are, and what crops around the small ones show."""
        rule, crops, kept = first.crops, list[Crop](), list[list[np.ndarray]]()
        for number, (rgb, boxes) in enumerate(zip(frames, places, strict=True)):
            large = (boxes[:, 2:4] - boxes[:, :2]).max(1, initial=0) >= first.settled_px
            kept.append([boxes[large]])
            crops += crops_around(best_first(boxes[~large]), rgb.shape, rule, number)
        cut = tiles(frames, crops, rule.tile_px)
        for crop, boxes in zip(crops, self._network(cut, self._policy.min_score, TILES_AT_ONCE), strict=True):
            kept[crop.frame].append(in_frame(boxes, crop, rule.tile_px))
        return [np.concatenate(parts) for parts in kept]

    def _network(self, pictures: Sequence[np.ndarray], min_score: float, batch: int) -> list[np.ndarray]:
        boxes = []
        for start in range(0, len(pictures), batch):
            inputs = planes(pictures[start : start + batch])
            heat, size, offset = self._session.run(None, {self._input: inputs})[:3]
            boxes += [_decoded(heat[i, 0], size[i], offset[i], min_score) for i in range(len(inputs))]
        return boxes


def _decoded(heat: np.ndarray, size: np.ndarray, offset: np.ndarray, min_score: float) -> np.ndarray:
    rows, columns = np.nonzero(heat > min_score)
    half_h, half_w = np.exp(np.minimum(size[:, rows, columns], MAX_LOG_SIZE)) * 2
    y = (rows + offset[0, rows, columns] + 0.5) * 4
    x = (columns + offset[1, rows, columns] + 0.5) * 4
    boxes = (x - half_w, y - half_h, x + half_w, y + half_h, heat[rows, columns])
    return np.stack(boxes, axis=1).astype(np.float32)
