"""A second, closer look: square crops of pictures, scaled to one size, and boxes brought back from there.

Crops go through a network as a batch, so what is found in one does not depend on the others.
Belongs here: where to look, cutting, the way back. Does not belong here: networks, what boxes mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.policies.detection import CropRule


@dataclass(frozen=True)
class Crop:
    """The square of `side` pixels with its corner at (x, y), inside frame number `frame` of the call."""

    frame: int
    x: int
    y: int
    side: int

    def holds(self, boxes: np.ndarray, sides: np.ndarray) -> np.ndarray:
        """(N,) whether boxes lie inside with a margin of a quarter of their size, at half the wanted size or more."""
        margin = 0.25 * np.maximum(boxes[:, 2:4] - boxes[:, :2], 1)
        low, high = boxes[:, :2] - margin, boxes[:, 2:4] + margin
        corner = np.array([self.x, self.y])
        inside = (low >= corner).all(1) & (high <= corner + self.side).all(1)
        return np.asarray(inside & (self.side <= 2 * sides))


def crops_around(boxes: np.ndarray, shape: tuple[int, ...], rule: CropRule, frame: int = 0) -> list[Crop]:
    """Crops of a picture of `shape` that show every box (N, 4+), best first; at most `rule.most` of them."""
    sides = np.maximum(rule.least_px, rule.around * (boxes[:, 2:4] - boxes[:, :2]).max(1, initial=0))
    chosen, left = list[Crop](), np.ones(len(boxes), bool)
    while len(chosen) < rule.most and left.any():
        best = int(left.argmax())
        crop = _crop((boxes[best, :2] + boxes[best, 2:4]) / 2, float(sides[best]), shape, frame)
        chosen.append(crop)
        left &= ~crop.holds(boxes, sides)
        left[best] = False
    return chosen


def _crop(centre: np.ndarray, wanted: float, shape: tuple[int, ...], frame: int) -> Crop:
    side = min(round(wanted), *shape[:2])
    limits = np.array([shape[1] - side, shape[0] - side])
    x, y = np.clip(np.round(centre - side / 2), 0, limits).astype(int)
    return Crop(frame, int(x), int(y), side)


def tiles(frames: Sequence[np.ndarray], crops: Sequence[Crop], tile_px: int) -> list[np.ndarray]:
    """The crops as pictures (tile_px, tile_px, 3)."""
    import cv2

    cut = []
    for crop in crops:
        part = frames[crop.frame][crop.y : crop.y + crop.side, crop.x : crop.x + crop.side]
        how = cv2.INTER_LINEAR if crop.side < tile_px else cv2.INTER_AREA
        cut.append(cv2.resize(part, (tile_px, tile_px), interpolation=how))
    return cut


def in_frame(boxes: np.ndarray, crop: Crop, tile_px: int) -> np.ndarray:
    """Boxes (N, 5) in pixels of the tile -> in pixels of the frame."""
    corner = np.array([crop.x, crop.y, crop.x, crop.y], np.float32)
    placed = boxes.copy()
    placed[:, :4] = boxes[:, :4] * np.float32(crop.side / tile_px) + corner
    return placed
