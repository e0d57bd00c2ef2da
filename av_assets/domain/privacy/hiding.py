"""Hiding a region for good: every cell becomes its mean or one colour, and the picture is encoded anew.

What is left of a region are a few means over cells (Argoverse 1.1 took 5 x 5 of them after blur of varying
strength had hurt detectors). Belongs here: box arithmetic and the fill. Does not belong here: which boxes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av_assets.policies.redaction import RedactionPolicy


def dilated(box: np.ndarray, share: float) -> np.ndarray:
    """(4,) box grown by `share` of its size, half on either side."""
    grow = (box[2:4] - box[:2]) * share / 2
    return np.concatenate([box[:2] - grow, box[2:4] + grow])


def hide(rgb: np.ndarray, box: np.ndarray, kind: str, policy: RedactionPolicy) -> None:
    """Replace the dilated box in `rgb` (H, W, 3), in place, by cell means or by the colour of `solid`.

    Cells are square up to rounding; there are at most `cells` of them along the longer side.
    """
    height, width = rgb.shape[:2]
    x1, y1, x2, y2 = dilated(box, policy.dilate)
    left, top = max(0, math.floor(x1)), max(0, math.floor(y1))
    right, bottom = min(width, math.ceil(x2)), min(height, math.ceil(y2))
    if right <= left or bottom <= top:
        return
    if policy.mode == "solid":
        rgb[top:bottom, left:right] = policy.solid_rgb
        return
    longer = max(right - left, bottom - top)
    cell = max(math.ceil(longer / policy.kind(kind).cells), policy.min_cell_px)
    for y in range(top, bottom, cell):
        for x in range(left, right, cell):
            patch = rgb[y : min(y + cell, bottom), x : min(x + cell, right)]
            patch[...] = np.round(patch.reshape(-1, 3).mean(0)).astype(np.uint8)
