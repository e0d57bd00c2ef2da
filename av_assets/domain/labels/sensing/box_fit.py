"""An upright oriented box around the points of one object, completed by what a thing of its kind measures.

Belongs here: geometry of one cluster. Does not belong here: finding clusters, deciding classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from av_assets.policies.autolabels import VehicleKind

Floats = npt.NDArray[np.float64]
FREE_YAW_POINTS = 30
EDGE_M = 0.05
ALIGNED_YAWS_RAD = np.deg2rad(np.arange(-12.0, 12.1, 2.0))
ALL_YAWS_RAD = np.deg2rad(np.arange(-44.0, 45.0, 2.0))


@dataclass(frozen=True)
class Box3D:
    """Ego frame; `yaw_rad` is the direction of the length; `bottom_m` and `top_m` are z of the faces."""

    x_m: float
    y_m: float
    length_m: float
    width_m: float
    bottom_m: float
    top_m: float
    yaw_rad: float

    def corners(self) -> Floats:
        """(8, 3): the bottom face, then the top face, both counter-clockwise from rear left."""
        u = np.array([-0.5, 0.5, 0.5, -0.5]) * self.length_m
        v = np.array([0.5, 0.5, -0.5, -0.5]) * self.width_m
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        flat = np.stack([self.x_m + u * c - v * s, self.y_m + u * s + v * c], axis=1)
        low = np.column_stack([flat, np.full(4, self.bottom_m)])
        high = np.column_stack([flat, np.full(4, self.top_m)])
        return np.concatenate([low, high])

    def outline(self, per_edge: int = 8) -> Floats:
        """(12 * per_edge, 3) points along all edges, so that a box that is partly behind a camera still
        projects.
        """
        corners = self.corners()
        pairs = [(i, (i + 1) % 4) for i in range(4)]
        pairs += [(a + 4, b + 4) for a, b in pairs] + [(i, i + 4) for i in range(4)]
        part = np.linspace(0.0, 1.0, per_edge)[:, None]
        return np.concatenate([corners[a] * (1 - part) + corners[b] * part for a, b in pairs])


def fit_yaw(xy: Floats) -> float:
    """Direction of the sides of a cluster (N, 2), in (-45, 45] degrees of the ego axis.

    The closeness criterion (Zhang, Xu, Dong and Dolan, "Efficient L-shape fitting", 2017): sides run close
    to points. With few points only small angles are tried, because most vehicles nearby follow the road.
    """
    yaws = ALL_YAWS_RAD if len(xy) >= FREE_YAW_POINTS else ALIGNED_YAWS_RAD
    c, s = np.cos(yaws), np.sin(yaws)
    u = xy[:, :1] * c + xy[:, 1:] * s
    v = -xy[:, :1] * s + xy[:, 1:] * c
    to_side = np.minimum(_to_edge(u), _to_edge(v))
    closeness = (1.0 / np.maximum(to_side, EDGE_M)).sum(axis=0)
    # Between equals the straightest wins.
    return float(yaws[np.argmax(closeness - 1e-3 * np.abs(yaws) * len(xy))])


def _to_edge(values: Floats) -> Floats:
    edge: Floats = np.minimum(values.max(axis=0) - values, values - values.min(axis=0))
    return edge


def fit_vehicle(xy: Floats, sensor_xy: Floats, ground_m: float, height_m: float, kind: VehicleKind) -> Box3D:
    """Box of a vehicle whose near faces are seen: length and width grow away from the sensor to those of
    `kind`.
    """
    yaw = fit_yaw(xy)
    axes = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    low, high = (xy @ axes.T).min(axis=0), (xy @ axes.T).max(axis=0)
    across = int(high[1] - low[1] > max(high[0] - low[0], 1.3 * kind.width_m))
    sizes = (kind.length_m, kind.width_m)
    eye = axes @ sensor_xy
    for axis in (0, 1):
        low[axis], high[axis] = _grow(low[axis], high[axis], sizes[axis ^ across], eye[axis])
    centre = axes.T @ ((low + high) / 2)
    size = high - low
    if across:
        yaw, size = yaw + np.pi / 2, size[::-1]
    return Box3D(
        float(centre[0]), float(centre[1]), float(size[0]), float(size[1]), ground_m, ground_m + height_m, yaw
    )


def _grow(low: float, high: float, size: float, eye: float) -> tuple[float, float]:
    missing = size - (high - low)
    if missing <= 0:
        return low, high
    if low > eye:
        return low, low + size
    if high < eye:
        return high - size, high
    return low - missing / 2, high + missing / 2


def fit_upright(
    xy: Floats, sensor_xy: Floats, ground_m: float, height_m: float, size_m: tuple[float, float, float]
) -> Box3D:
    """Box of a pedestrian or cone: the seen face is the near half, so the centre lies a bit behind the
    points.
    """
    middle = (xy.min(axis=0) + xy.max(axis=0)) / 2
    ray = middle - sensor_xy
    ray = ray / max(float(np.hypot(*ray)), 1e-6)
    nearest = float(((xy - sensor_xy) @ ray).min())
    behind = nearest + size_m[0] / 2 - float((middle - sensor_xy) @ ray)
    centre = middle + ray * max(behind, 0.0)
    return Box3D(
        float(centre[0]), float(centre[1]), size_m[0], size_m[1], ground_m, ground_m + height_m,
        float(np.arctan2(ray[1], ray[0])),
    )  # fmt: skip
