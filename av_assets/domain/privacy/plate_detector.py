"""Licence plates: a RetinaFace type (Deng et al. 2019, arXiv:1905.00641) that was trained on plates.

Belongs here: decoding of that network. Does not belong here: any other kind, what is done with boxes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.privacy.boxes import NO_BOXES, plausible
from av_assets.domain.privacy.crops import Crop, crops_around, in_frame, tiles
from av_assets.domain.privacy.sessions import open_session, planes, resized, weights_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from av_assets.policies.detection import CropRule, DetectionPolicy

STEP_PX = 32
_MEAN_BGR = np.array([104, 117, 123], np.float32)[:, None, None]
_SIZES = ((8, (24, 48)), (16, (96, 192)), (32, (384, 768)))


class PlateDetector:
    """Shifts of priors (variances .1 and .2) and their confidence; input BGR less its mean."""

    kinds: tuple[str, ...] = ("plate",)
    file = "plate.onnx"

    def __init__(self, onnx_path: Path, policy: DetectionPolicy) -> None:
        self.digest = weights_digest(onnx_path)
        self._session = open_session(onnx_path, policy.threads, policy.device)
        self._policy, self._nms_iou, self._batch = policy.plate, policy.nms_iou, policy.batch

    def find(
        self, frames: Sequence[np.ndarray], found: Sequence[Mapping[str, np.ndarray]] = ()
    ) -> list[dict[str, np.ndarray]]:
        """Frames of one size -> their plates; the vehicles `found` in them are looked at closer."""
        rule, closer = self._policy, self._policy.on_vehicles
        vehicles = [known["vehicle"] for known in found if "vehicle" in known]
        looks_closer = closer is not None and len(vehicles) == len(frames)
        parts: list[list[np.ndarray]] = [[NO_BOXES] for _ in frames]
        if rule.whole_frame or not looks_closer:
            for part, boxes in zip(parts, self._whole(frames), strict=True):
                part.append(boxes)
        if closer is not None and looks_closer:
            for number, boxes in self._on_vehicles(frames, vehicles, closer):
                parts[number].append(boxes)
        return [
            {"plate": plausible(np.concatenate(part), rgb.shape, rule, self._nms_iou)}
            for part, rgb in zip(parts, frames, strict=True)
        ]

    def _whole(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        rule = self._policy
        sized = [resized(rgb, rule.scale, rule.max_side_px, STEP_PX) for rgb in frames]
        boxes = self._network([picture for picture, _ in sized])
        for part, (_, factor) in zip(boxes, sized, strict=True):
            part[:, :4] *= np.tile(factor, 2)
        return boxes

    def _on_vehicles(
        self, frames: Sequence[np.ndarray], vehicles: Sequence[np.ndarray], rule: CropRule
    ) -> Iterator[tuple[int, np.ndarray]]:
        crops: list[Crop] = []
        for number, (rgb, boxes) in enumerate(zip(frames, vehicles, strict=True)):
            crops += crops_around(boxes, rgb.shape, rule, number)
        cut = tiles(frames, crops, rule.tile_px)
        for crop, boxes in zip(crops, self._network(cut), strict=True):
            yield crop.frame, in_frame(boxes, crop, rule.tile_px)

    def _network(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        boxes = []
        for start in range(0, len(pictures), self._batch):
            inputs = planes([p[..., ::-1] for p in pictures[start : start + self._batch]]) - _MEAN_BGR
            shifts, confidence = self._session.run(["loc", "conf"], {"image": inputs})
            priors, least = _priors(*inputs.shape[2:]), self._policy.min_score
            boxes += [_decoded(priors, s, c[:, 1], least) for s, c in zip(shifts, confidence, strict=True)]
        return boxes


def _decoded(priors: np.ndarray, shift: np.ndarray, score: np.ndarray, min_score: float) -> np.ndarray:
    keep = np.nonzero(score > min_score)[0]
    priors, shift = priors[keep], shift[keep]
    centre = priors[:, :2] + shift[:, :2] * 0.1 * priors[:, 2:]
    half = priors[:, 2:] * np.exp(shift[:, 2:] * 0.2) / 2
    return np.concatenate([centre - half, centre + half, score[keep, None]], axis=1).astype(np.float32)


@lru_cache(maxsize=8)
def _priors(height: int, width: int) -> np.ndarray:
    """(N, 4) float32 of centre x, centre y, width, height in pixels of the network's input."""
    maps = []
    for step, sizes in _SIZES:
        y, x, size = np.meshgrid(np.arange(height // step), np.arange(width // step), sizes, indexing="ij")
        maps.append(np.stack([(x + 0.5) * step, (y + 0.5) * step, size, size], axis=-1).reshape(-1, 4))
    return np.concatenate(maps).astype(np.float32)
