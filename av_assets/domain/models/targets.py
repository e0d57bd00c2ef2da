"""From labels in the picture to what its heads should answer.

Targets after TTFNet (Liu et al. 2020, "Training-Time-Friendly Network"): a Gaussian peak per object whose
extent follows both sides of the box, and box distances taught in the whole peak rather than in one cell.
Belongs here: numpy on one picture. Does not belong here: augmentation, the ground grid (`bev_targets`), losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

STRIDE: Final = 4
MIN_SIGMA_CELLS: Final = 0.4


@dataclass(frozen=True)
class Example:
    """One frame at input size.

    Attributes:
        picture: (H, W, 5 or 3) uint8, see `inputs`.
        boxes: (n, 4) float32 input pixels. classes: (n,) int64.
        ignored: (n,) bool, neither object nor background.
        drivable: (H / 4, W / 4) uint8, share of drivable pixels times 255; None where nobody labelled it.
    """

    picture: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    drivable: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Targets:
    """heatmap (C, h, w), distances (4, h, w) left top right bottom px, weight (h, w), care (h, w) 0 or 1."""

    heatmap: NDArray[np.float32]
    distances: NDArray[np.float32]
    weight: NDArray[np.float32]
    care: NDArray[np.float32]


def make_targets(example: Example, num_classes: int, gaussian_share: float) -> Targets:
    """What the heads should answer; small boxes are drawn last, so they win where boxes overlap."""
    h, w = example.picture.shape[0] // STRIDE, example.picture.shape[1] // STRIDE
    heatmap = np.zeros((num_classes, h, w), np.float32)
    distances = np.zeros((4, h, w), np.float32)
    weight = np.zeros((h, w), np.float32)
    care = np.ones((h, w), np.float32)
    for x1, y1, x2, y2 in example.boxes[example.ignored] / STRIDE:
        care[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = 0
    area = np.prod(example.boxes[:, 2:] - example.boxes[:, :2], axis=1)
    for i in np.argsort(-area, kind="stable"):
        if not example.ignored[i]:
            _draw(example.boxes[i], heatmap[example.classes[i]], distances, weight, care, gaussian_share)
    return Targets(heatmap, distances, weight, care)


def _draw(
    box: NDArray[np.float32],
    heat: NDArray[np.float32],
    distances: NDArray[np.float32],
    weight: NDArray[np.float32],
    care: NDArray[np.float32],
    gaussian_share: float,
) -> None:
    h, w = heat.shape
    x1, y1, x2, y2 = (float(v) for v in box)
    cx = min(int((x1 + x2) / 2 / STRIDE), w - 1)
    cy = min(int((y1 + y2) / 2 / STRIDE), h - 1)
    sigma_x = max(gaussian_share * (x2 - x1) / STRIDE / 6, MIN_SIGMA_CELLS)
    sigma_y = max(gaussian_share * (y2 - y1) / STRIDE / 6, MIN_SIGMA_CELLS)
    rx, ry = int(3 * sigma_x), int(3 * sigma_y)
    xs = np.arange(max(cx - rx, 0), min(cx + rx + 1, w))
    ys = np.arange(max(cy - ry, 0), min(cy + ry + 1, h))
    peak = (
        np.exp(-((xs - cx) ** 2) / (2 * sigma_x**2))[None, :]
        * np.exp(-((ys - cy) ** 2) / (2 * sigma_y**2))[:, None]
    )
    peak = peak.astype(np.float32)
    window = np.s_[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    heat[window] = np.maximum(heat[window], peak)
    care[cy, cx] = 1
    px, py = (xs + 0.5) * STRIDE, (ys + 0.5) * STRIDE
    # Cells outside of a small box cannot say where it is.
    inside = ((px > x1) & (px < x2))[None, :] & ((py > y1) & (py < y2))[:, None]
    inside[cy - ys[0], cx - xs[0]] = True
    strength = np.where(inside, peak, 0) * (np.log(max((x2 - x1) * (y2 - y1), 2.0)) / (peak * inside).sum())
    sides = (px - x1)[None, :], (py - y1)[:, None], (x2 - px)[None, :], (y2 - py)[:, None]
    for plane, side in zip(distances, sides, strict=True):
        np.copyto(plane[window], side, where=inside)
    np.copyto(weight[window], strength, where=inside)
