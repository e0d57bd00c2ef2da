"""One camera as labelling needs it: its size, its projection, and boxes of the ego frame in its picture.

Belongs here: 3D box to picture box. Does not belong here: the projection model (geometry).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from av_assets.domain.geometry.projection import project_ego_points

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.domain.labels.sensing.box_fit import Box3D

Floats = npt.NDArray[np.float64]
NEAR_M = 0.3


@dataclass(frozen=True)
class View:
    """A calibrated camera; `k` 3x3, `distortion` k1 k2 p1 p2 k3."""

    width: int
    height: int
    k: Floats
    distortion: Floats
    ego_SE3_camera: Floats  # noqa: N815 - frame convention

    @classmethod
    def of(cls, camera: Mapping[str, Any]) -> View:
        """From one entry of `cameras` in calibration.json."""
        return cls(
            int(camera["width"]),
            int(camera["height"]),
            np.asarray(camera["K"], dtype=np.float64).reshape(3, 3),
            np.asarray(camera.get("D") or [0.0], dtype=np.float64),
            np.asarray(camera["ego_SE3_camera"], dtype=np.float64).reshape(4, 4),
        )

    @property
    def half_view_rad(self) -> float:
        return float(np.arctan2(self.width / 2, self.k[0, 0]))

    @property
    def first_ground_x_m(self) -> float:
        """Forward place, a bit ahead of the camera, from which ground is projected."""
        return float(self.ego_SE3_camera[0, 3]) + 0.5

    def project_outline(self, box: Box3D) -> Floats | None:
        """(N, 2) pixels along the edges of the box that lie in front of the camera; None if none does."""
        pixels, depth = project_ego_points(box.outline(), self.ego_SE3_camera, self.k, self.distortion)
        pixels = pixels[np.isfinite(pixels).all(axis=1) & (depth > NEAR_M)]
        return pixels if len(pixels) else None

    def picture_box(self, box: Box3D, least_inside: float = 0.0) -> tuple[float, float, float, float] | None:
        """x1, y1, x2, y2 clipped to the picture, or None where at most `least_inside` of its area is inside."""
        outline = self.project_outline(box)
        if outline is None:
            return None
        limit = np.array([self.width, self.height])
        low, high = np.clip(outline.min(axis=0), 0, limit), np.clip(outline.max(axis=0), 0, limit)
        whole = float(np.ptp(outline, axis=0).prod())
        if (high - low).min() <= 0 or float((high - low).prod()) <= least_inside * whole:
            return None
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def distance_m(self, box: Box3D) -> float:
        """Along the ground from the camera to the middle of the box."""
        return float(np.hypot(box.x_m - self.ego_SE3_camera[0, 3], box.y_m - self.ego_SE3_camera[1, 3]))
