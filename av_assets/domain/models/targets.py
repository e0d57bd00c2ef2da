"""From labels to what the heads should answer, and the augmentation that keeps pictures and labels together.

Targets after TTFNet (Liu et al. 2020, "Training-Time-Friendly Network"): a Gaussian peak per object whose
extent follows both sides of the box, and box distances taught in the whole peak rather than in one cell.
Belongs here: numpy on one frame. Does not belong here: tensors, batches, losses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from av_assets.policies.training import TrainingPolicy

STRIDE: Final = 4
MIN_SIGMA_CELLS: Final = 0.4
MIN_VISIBLE_SHARE: Final = 0.3  # of a box after augmentation; less is ignored


@dataclass(frozen=True)
class Example:
    """One frame at input size.

    Attributes:
        picture: (H, W, 5) uint8, see `inputs`.
        boxes: (n, 4) float32 input pixels. classes: (n,) int64. ignored: (n,) bool, neither object nor
        background. drivable: (H / 4, W / 4) uint8, share of drivable pixels times 255; None where nobody
        labelled it.
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
    grid = np.stack(
        np.broadcast_arrays((px - x1)[None, :], (py - y1)[:, None], (x2 - px)[None, :], (y2 - py)[:, None])
    )
    distances[(slice(None), *window)] = np.where(inside, grid, distances[(slice(None), *window)])
    weight[window] = np.where(inside, strength, weight[window])


def augment(example: Example, policy: TrainingPolicy, rng: np.random.Generator) -> Example:
    """A random variant of `example`; every draw is made whatever the outcome of the others."""
    flip, drop = rng.random(2) < (policy.flip_probability, policy.lidar_dropout)
    gain = 1 + policy.brightness * rng.uniform(-1, 1)
    contrast = 1 + policy.contrast * rng.uniform(-1, 1)
    scale = 1 + policy.scale_jitter * rng.uniform(-1, 1)
    shift = rng.random(2)
    example = _recolour(example, gain, contrast, bool(drop))
    if policy.scale_jitter:
        example = _zoom(example, scale, shift)
    return _flip(example) if flip else example


def _recolour(example: Example, gain: float, contrast: float, drop_lidar: bool) -> Example:
    import cv2

    curve = np.clip(((np.arange(256) - 128) * contrast + 128) * gain, 0, 255).astype(np.uint8)
    lidar = np.zeros(256, np.uint8) if drop_lidar else np.arange(256, dtype=np.uint8)
    table = np.stack([curve, curve, curve, lidar, lidar], axis=1)[None]
    return replace(example, picture=cv2.LUT(example.picture, table))


def _zoom(example: Example, scale: float, shift: NDArray[np.float64]) -> Example:
    import cv2

    height, width = example.picture.shape[:2]
    tx, ty = width * (1 - scale) * shift[0], height * (1 - scale) * shift[1]
    matrix = np.array([[scale, 0, tx], [0, scale, ty]])
    planes = cv2.split(example.picture)
    rgb = cv2.warpAffine(cv2.merge(planes[:3]), matrix, (width, height))
    # Interpolating between a return and no return would invent depths.
    lidar = cv2.warpAffine(cv2.merge(planes[3:]), matrix, (width, height), flags=cv2.INTER_NEAREST)
    moved = example.boxes * scale + np.array([tx, ty, tx, ty], np.float32)
    boxes = np.clip(moved, 0, (width, height, width, height)).astype(np.float32)
    area, before = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, moved))
    drivable = example.drivable
    if drivable is not None:
        cells = matrix / [[1, 1, STRIDE]]
        drivable = cv2.warpAffine(drivable, cells, drivable.shape[::-1])
    keep = area > 0
    return Example(
        cv2.merge([rgb, lidar]),
        boxes[keep],
        example.classes[keep],
        (example.ignored | (area < MIN_VISIBLE_SHARE * before))[keep],
        drivable,
    )


def _flip(example: Example) -> Example:
    width = example.picture.shape[1]
    boxes = example.boxes.copy()
    boxes[:, [0, 2]] = width - example.boxes[:, [2, 0]]
    drivable = None if example.drivable is None else example.drivable[:, ::-1]
    return replace(example, picture=example.picture[:, ::-1], boxes=boxes, drivable=drivable)
