"""Cuboids of many frames as flat arrays, and how far apart two of them are: what 3D metrics take.

Belongs here: that container and its geometry. Does not belong here: which cuboids count (`judged3d`), metrics, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 9
_XY, _SIZE, _YAW, _VELOCITY = slice(0, 2), slice(3, 6), 6, slice(7, 9)


@dataclass(frozen=True)
class Boxes3d:
    """n cuboids in the ego frames of their pictures.

    Attributes:
        frame: (n,) int64. cls: (n,) int64. score: (n,) float64, 1 for truth.
        box: (n, 9) float64 x y z l w h yaw vx vy in m, rad, m/s; the velocity is NaN where unknown.
        points: (n,) int64 lidar and radar points on it; -1 where nobody counted, as on detections.
    """

    frame: NDArray[np.int64]
    box: NDArray[np.float64]
    cls: NDArray[np.int64]
    score: NDArray[np.float64]
    points: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def of_frame(cls, frame: int, box: Any, classes: Any, score: Any = None, points: Any = None) -> Self:
        """Cuboids of one frame from anything numpy reads."""
        boxes = np.asarray(box, np.float64).reshape(-1, WIDTH)
        return cls(
            np.full(len(boxes), frame, np.int64),
            boxes,
            np.asarray(classes, np.int64).reshape(-1),
            np.ones(len(boxes)) if score is None else np.asarray(score, np.float64).reshape(-1),
            np.full(len(boxes), -1) if points is None else np.asarray(points, np.int64).reshape(-1),
        )

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        if not parts:
            return cls.of_frame(0, [], [])
        names = ("frame", "box", "cls", "score", "points")
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))

    def where(self, keep: NDArray[Any]) -> Self:
        """Those of a mask, or of indices in their order."""
        names = ("frame", "box", "cls", "score", "points")
        return type(self)(*(getattr(self, name)[keep] for name in names))

    @property
    def distance_m(self) -> NDArray[np.float64]:
        """(n,) from the ego origin, on the ground."""
        return np.asarray(np.hypot(self.box[:, 0], self.box[:, 1]), np.float64)


def centre_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) metres on the ground between the centres of (n, 9) and (m, 9) cuboids."""
    step = a[:, None, _XY] - b[None, :, _XY]
    return np.asarray(np.sqrt((step * step).sum(2)), np.float64)


def aligned_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) overlap of the volumes of (n, 9) and (n, 9) cuboids, as if centres and directions were the same."""
    inner = np.minimum(a[:, _SIZE], b[:, _SIZE]).prod(1)
    return np.asarray(inner / (a[:, _SIZE].prod(1) + b[:, _SIZE].prod(1) - inner), np.float64)


def turns(a: NDArray[np.float64], b: NDArray[np.float64], period_rad: float) -> NDArray[np.float64]:
    """(n,) angle between the directions, 0..pi; with a period of pi front and rear are the same."""
    apart = (a[:, _YAW] - b[:, _YAW] + period_rad / 2) % period_rad - period_rad / 2
    return np.abs(np.where(apart > np.pi, apart - 2 * np.pi, apart))


def velocity_errors(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) m/s; NaN where either is unknown."""
    step = a[:, _VELOCITY] - b[:, _VELOCITY]
    return np.asarray(np.sqrt((step * step).sum(1)), np.float64)


def footprints(box: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, 4, 2) corners on the ground of (n, 9) cuboids: front left, front right, rear right, rear left."""
    box = np.asarray(box, np.float64)
    along = np.stack([np.cos(box[:, _YAW]), np.sin(box[:, _YAW])], 1)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    half_l, half_w = (box[:, 3, None] / 2) * along, (box[:, 4, None] / 2) * across
    corners = [half_l + half_w, half_l - half_w, -half_l - half_w, -half_l + half_w]
    return np.asarray(box[:, None, _XY] + np.stack(corners, 1), np.float64)
