"""Drivable area in the picture: the road as the lidar sees it, less what stands on it.

Asphalt is darker to a lidar than kerb, sidewalk and grass, and paint is brighter than all: the road is the
dark strip that the vehicle stands on. Its two edges are parabolas in the ego frame, a row of cones closes
what lies behind it. Belongs here: edges and mask. Does not belong here: objects themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from av_assets.domain.geometry.projection import project_ego_points
from av_assets.domain.labels.sensing.ground import heights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.labels.sensing.box_fit import Box3D
    from av_assets.domain.labels.sensing.views import View
    from av_assets.policies.autolabels import AutolabelPolicy

Floats = npt.NDArray[np.float64]
LEAST_BINS = 4
EDGE_POINTS = 2


def road_edges(points_ego: Floats, plane: Floats, policy: AutolabelPolicy) -> tuple[Floats, Floats] | None:
    """Coefficients (c0, c1, c2) of y(x) of the left and right edge, ego frame; None where no road is seen.

    points_ego (N, 4) with intensity. In bins along x the edge is half way between the last road point and
    the first point beside the road; a robust fit with one common curvature joins the bins.
    """
    low = np.abs(heights(points_ego, plane)) < policy.ground_tolerance_m
    x, y, shine = points_ego[low, 0], points_ego[low, 1], points_ego[low, 3]
    beside = (shine > policy.road_max_intensity) & (shine < policy.paint_min_intensity)
    samples: list[tuple[int, float, float]] = []
    for start in np.arange(-policy.road_reach_m / 2, policy.road_reach_m, policy.road_bin_m):
        inside = (x >= start) & (x < start + policy.road_bin_m)
        for side, sign in ((0, 1.0), (1, -1.0)):
            edge = _edge(sign * y[inside], beside[inside], policy.road_max_width_m)
            if edge is not None:
                samples.append((side, start + policy.road_bin_m / 2, sign * edge))
    return _fit(samples, policy)


def _edge(side_m: Floats, beside: npt.NDArray[np.bool_], most_m: float) -> float | None:
    """Distance of the edge on one side: where the counts of wrong points on either hand are least."""
    within = (side_m > 0) & (side_m < most_m)
    place, beside = side_m[within], beside[within]
    order = np.argsort(place, kind="stable")
    place, beside = place[order], beside[order]
    if beside.sum() < EDGE_POINTS or (~beside).sum() < EDGE_POINTS:
        return None
    inner = np.concatenate([[0], np.cumsum(beside)])
    outer = np.concatenate([[0], np.cumsum(~beside)])
    cut = int(np.argmin(inner + outer[-1] - outer))
    if cut in (0, len(place)):
        return None
    return float(place[cut - 1] + place[cut]) / 2 if place[cut] - place[cut - 1] < 2.5 else None


def _fit(
    samples: Sequence[tuple[int, float, float]], policy: AutolabelPolicy
) -> tuple[Floats, Floats] | None:
    """Both edges at once: own offset each, common slope and curvature; large residuals lose weight
    (Huber).
    """
    if min(sum(s[0] == side for s in samples) for side in (0, 1)) < LEAST_BINS:
        return None
    side, x, y = (np.array(values, dtype=np.float64) for values in zip(*samples, strict=True))
    design = np.stack([side == 0, side == 1, x, x**2], axis=1).astype(np.float64)
    weight = np.ones(len(x))
    for _ in range(8):
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
        weight = 0.2 / np.maximum(np.abs(y - design @ solution), 0.2)
    if not policy.road_min_width_m <= solution[0] - solution[1] <= policy.road_max_width_m:
        return None
    left: Floats = np.asarray(solution[[0, 2, 3]], dtype=np.float64)
    right: Floats = np.asarray(solution[[1, 2, 3]], dtype=np.float64)
    return left, right


def close_behind_cones(
    edges: tuple[Floats, Floats], cones: Sequence[Box3D], policy: AutolabelPolicy
) -> tuple[Floats, Floats]:
    """Move an edge inward to a row of cones on its side of the vehicle."""
    moved: list[Floats] = list(edges)
    for side, sign in ((0, 1.0), (1, -1.0)):
        row = [c for c in cones if 0 < sign * c.y_m < sign * _at(edges[side], c.x_m)]
        if len(row) >= policy.cone_row_min:
            offset = np.median([c.y_m - (_at(edges[side], c.x_m) - edges[side][0]) for c in row])
            moved[side] = np.array([offset, *edges[side][1:]])
    return moved[0], moved[1]


def off_road_m(edges: tuple[Floats, Floats], box: Box3D) -> float:
    """How far the middle of a box lies outside the road, negative inside."""
    return max(box.y_m - _at(edges[0], box.x_m), _at(edges[1], box.x_m) - box.y_m)


def _at(edge: Floats, x: float) -> float:
    return float(edge[0] + edge[1] * x + edge[2] * x * x)


def drivable_mask(
    edges: tuple[Floats, Floats], plane: Floats, objects: Sequence[Box3D], view: View, reach_m: float
) -> npt.NDArray[np.uint8]:
    """(height, width) 0/255: the ground between the edges as far as `reach_m`, less the outlines of
    objects.
    """
    import cv2

    x = np.geomspace(view.first_ground_x_m, reach_m, 60)
    ring = []
    for edge, stations in ((edges[0], x), (edges[1], x[::-1])):
        y = edge[0] + edge[1] * stations + edge[2] * stations**2
        ring.append(np.stack([stations, y, plane[0] * stations + plane[1] * y + plane[2]], axis=1))
    mask = np.zeros((view.height, view.width), dtype=np.uint8)
    pixels, _ = project_ego_points(np.concatenate(ring), view.ego_SE3_camera, view.k, view.distortion)
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if len(pixels) >= 3:
        cv2.fillPoly(mask, [np.rint(np.clip(pixels, -10_000, 10_000)).astype(np.int32)], (255,))
    for thing in objects:
        outline = view.project_outline(thing)
        if outline is not None:
            hull = cv2.convexHull(np.rint(np.clip(outline, -10_000, 10_000)).astype(np.int32))
            cv2.fillConvexPoly(mask, hull, (0,))
    return mask


def encode_mask(mask: npt.NDArray[np.uint8]) -> bytes:
    """PNG, one channel."""
    import cv2

    return bytes(cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1])


def decode_mask(data: bytes) -> npt.NDArray[np.uint8]:
    """(height, width) uint8 of a PNG mask."""
    import cv2

    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
