"""What a camera sees of things in front of each other: the box around the visible part, and the share that is hidden.

Belongs here: cuboids hiding cuboids. Does not belong here: what hides without being a thing (buildings, trees).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.labels.automatic.candidates import Corners
    from av_assets.domain.labels.sensing.box_fit import Box3D
    from av_assets.domain.labels.sensing.views import View

Floats = npt.NDArray[np.float64]
HARDLY_HIDDEN = 0.05


@dataclass(frozen=True)
class Seen:
    """`xyxy` around the visible part, `occlusion` the hidden share of what is inside the picture."""

    xyxy: Corners
    occlusion: float


def seen_boxes(boxes: Sequence[Box3D], view: View, least_inside: float) -> list[Seen | None]:
    """What is seen of every box; None where it is outside the picture or wholly hidden.

    Outlines are painted from far to near, each a convex hull that hides what was painted before. Boxes of which at
    most the share `least_inside` is in the picture hide others, but are None themselves.
    """
    import cv2

    picture = np.zeros((view.height, view.width), dtype=np.int32)
    whole: dict[int, int] = {}
    for number in sorted(range(len(boxes)), key=lambda i: (-nearest_m(boxes[i], view), i)):
        outline = view.project_outline(boxes[number])
        if outline is None:
            continue
        hull = cv2.convexHull(np.rint(np.clip(outline, -10_000, 10_000) - 0.5).astype(np.int32))
        low, high = _window(hull.reshape(-1, 2), view)
        if (high <= low).any():
            continue
        part = np.zeros((high - low)[::-1], dtype=np.uint8)
        cv2.fillConvexPoly(part, hull - low, (1,))
        picture[low[1] : high[1], low[0] : high[0]][part > 0] = number + 1
        whole[number] = int(part.sum())
    return [_seen(picture, number, whole, box, view, least_inside) for number, box in enumerate(boxes)]


def _seen(
    picture: npt.NDArray[np.int32],
    number: int,
    whole: dict[int, int],
    box: Box3D,
    view: View,
    least_inside: float,
) -> Seen | None:
    exact = view.picture_box(box, least_inside)
    if exact is None or not whole.get(number):
        return None
    x1, y1, x2, y2 = exact
    left, top = max(int(x1) - 1, 0), max(int(y1) - 1, 0)
    own = picture[top : int(y2) + 2, left : int(x2) + 2] == number + 1
    hidden = 1.0 - float(own.sum()) / whole[number]
    if hidden <= HARDLY_HIDDEN:
        return Seen(exact, max(hidden, 0.0))
    rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    if not len(rows):
        return None
    seen = (
        max(x1, float(left + columns[0])), max(y1, float(top + rows[0])),
        min(x2, float(left + columns[-1] + 1)), min(y2, float(top + rows[-1] + 1)),
    )  # fmt: skip
    return Seen(seen, hidden) if seen[2] > seen[0] and seen[3] > seen[1] else None


def nearest_m(box: Box3D, view: View) -> float:
    """From the camera to the nearest point of the box's outline on the ground."""
    eye = view.ego_SE3_camera[:2, 3]
    c, s = np.cos(box.yaw_rad), np.sin(box.yaw_rad)
    x, y = eye[0] - box.x_m, eye[1] - box.y_m
    along = max(abs(x * c + y * s) - box.length_m / 2, 0.0)
    across = max(abs(-x * s + y * c) - box.width_m / 2, 0.0)
    return float(np.hypot(along, across))


def _window(pixels: npt.NDArray[np.int32], view: View) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    limit = np.array([view.width, view.height])
    low = np.clip(pixels.min(axis=0), 0, limit).astype(np.int64)
    high = np.clip(pixels.max(axis=0) + 1, 0, limit).astype(np.int64)
    return low, high
