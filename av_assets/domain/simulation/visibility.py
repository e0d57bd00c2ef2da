"""What stays visible: boxes of objects, faces and plates, read from the id of every pixel.

Belongs here: visibility. Does not belong here: painting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av_assets.domain.simulation.camera import Canvas
    from av_assets.domain.simulation.road import Array
    from av_assets.domain.simulation.world import Actor

LABEL_REACH_M, LABEL_HEIGHT_PX = 60.0, 8
FACE_MIN_PX, PLATE_MIN_WIDTH_PX = 8.0, 12.0


@dataclass(frozen=True)
class Box:
    """A visible object: tight box of its visible pixels, how much is hidden or outside the image."""

    object_id: int
    cls: str
    x1: float
    y1: float
    x2: float
    y2: float
    occlusion: float
    truncation: float
    distance_m: float


@dataclass(frozen=True)
class PrivateBox:
    """A face or a plate that can be recognised."""

    kind: str
    x1: float
    y1: float
    x2: float
    y2: float
    object_id: int


@dataclass(frozen=True)
class Painted:
    """An object just after it was painted: all its pixels are still there."""

    actor: Actor
    ident: int
    distance_m: float
    pixels: int
    window: tuple[slice, slice]
    truncation: float


@dataclass(frozen=True)
class Feature:
    """A face or plate that was painted: its corner pixels (n, 2) and the id that belongs there."""

    kind: str
    pixels: Array
    ident: int
    object_id: int


def remember(canvas: Canvas, actor: Actor, ident: int, distance_m: float, outline: Array) -> Painted | None:
    """Count the pixels of a freshly painted object; `outline` (n, 2) are its projected corners.

    None where it is too far to be labelled, or outside the image.
    """
    if distance_m > LABEL_REACH_M:
        return None
    limit = np.array([canvas.camera.width, canvas.camera.height])
    low = np.clip(np.floor(outline.min(0)), 0, limit).astype(int)
    high = np.clip(np.ceil(outline.max(0)) + 1, 0, limit).astype(int)
    window = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    pixels = int(np.count_nonzero(canvas.ids[window] == ident))
    if pixels == 0:
        return None
    whole = np.ptp(outline, axis=0).prod()
    part = np.ptp(np.clip(outline, 0, limit - 1), axis=0).prod()
    truncation = float(np.clip(1 - part / max(whole, 1e-9), 0, 1))
    return Painted(actor, ident, distance_m, pixels, window, truncation)


def visible_boxes(canvas: Canvas, painted: list[Painted]) -> tuple[Box, ...]:
    """Tight boxes of what is still visible, at least LABEL_HEIGHT_PX high."""
    boxes = []
    for item in painted:
        seen = canvas.ids[item.window] == item.ident
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        if len(rows) == 0 or rows[-1] - rows[0] + 1 < LABEL_HEIGHT_PX:
            continue
        top, left = item.window[0].start, item.window[1].start
        x1, x2 = float(left + columns[0]), float(left + columns[-1] + 1)
        y1, y2 = float(top + rows[0]), float(top + rows[-1] + 1)
        hidden = 1.0 - float(np.count_nonzero(seen)) / item.pixels
        actor = item.actor
        boxes.append(
            Box(actor.object_id, actor.cls, x1, y1, x2, y2, hidden, item.truncation, item.distance_m)
        )
    return tuple(boxes)


def private_boxes(canvas: Canvas, features: list[Feature]) -> tuple[PrivateBox, ...]:
    """Faces and plates that are large enough, at least half inside the image and half visible."""
    found = []
    limit = np.array([canvas.camera.width, canvas.camera.height])
    for item in features:
        low, high = np.clip(item.pixels.min(0), 0, limit), np.clip(item.pixels.max(0), 0, limit)
        width, height = high - low
        large = height >= FACE_MIN_PX if item.kind == "face" else width >= PLATE_MIN_WIDTH_PX
        if not large or width * height < 0.5 * np.ptp(item.pixels, axis=0).prod():
            continue
        x1, y1, x2, y2 = float(low[0]), float(low[1]), float(high[0]), float(high[1])
        inside = canvas.ids[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
        if np.mean(inside == item.ident) >= 0.5:
            found.append(PrivateBox(item.kind, x1, y1, x2, y2, item.object_id))
    return tuple(found)
