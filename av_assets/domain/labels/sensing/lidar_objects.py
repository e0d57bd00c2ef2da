"""Objects in one lidar sweep: off the ground, cluster, fit a box, name it by its size.

Belongs here: one sweep to boxes in the ego frame. Does not belong here: cameras, time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.sensing.box_fit import Box3D, fit_upright, fit_vehicle
from av_assets.domain.labels.sensing.ground import heights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.policies.autolabels import AutolabelPolicy

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LidarObject:
    """One object: class, box in the ego frame, score 0..1, points that it was seen by."""

    cls: str
    box: Box3D
    score: float
    points: int


def find_objects(
    points_ego: Floats, plane: Floats, sensor_xy: Floats, policy: AutolabelPolicy
) -> list[LidarObject]:
    """Objects ahead of the sensor and to its sides, nearest first.

    Args:
        points_ego: (N, 4) x, y, z in the ego frame, intensity 0..1.
        plane: ground, of `ground_plane`.
        sensor_xy: (2,) place of the lidar in the ego frame.
    """
    height = heights(points_ego, plane)
    ray = points_ego[:, :2] - sensor_xy
    away = np.hypot(ray[:, 0], ray[:, 1])
    ahead = (np.abs(np.arctan2(ray[:, 1], ray[:, 0])) < policy.side_view_rad) & (away < policy.max_distance_m)
    ahead &= (height > policy.min_height_m) & (points_ego[:, 3] > policy.clutter_max_intensity)
    points, height, away = points_ego[ahead], height[ahead], away[ahead]
    canopy = points[height > policy.canopy_height_m, :2] - sensor_xy
    solid = ~_structure(points, height, policy)
    points, height, away = points[solid], height[solid], away[solid]
    sweep = _Sweep(points, height, away, plane, sensor_xy, policy)
    found = []
    for members in clusters(points[:, :2], sensor_xy, policy, policy.along_gap_m):
        for thing, xy in _things(sweep, members):
            if thing.score >= policy.min_score and not (
                thing.cls == "pedestrian" and _under_canopy(xy - sensor_xy, canopy, policy)
            ):
                found.append(thing)
    return sorted(found, key=lambda o: (np.hypot(o.box.x_m, o.box.y_m), o.box.x_m))


@dataclass(frozen=True)
class _Sweep:
    """The points off the ground of one sweep."""

    points: Floats
    height: Floats
    away: Floats
    plane: Floats
    eye: Floats
    policy: AutolabelPolicy

    def named(self, members: npt.NDArray[np.int64]) -> tuple[LidarObject | None, Floats]:
        """What the points are, and their middle."""
        xy, middle = self.points[members, :2], self.points[members, :2].mean(axis=0)
        ground = float(self.plane[:2] @ middle + self.plane[2])
        shine, nearest = self.points[members, 3], float(self.away[members].min())
        return _name(xy, self.height[members], shine, nearest, ground, self.eye, self.policy), middle


def _things(sweep: _Sweep, members: npt.NDArray[np.int64]) -> list[tuple[LidarObject, Floats]]:
    """What a cluster is: one thing, or people who stand so close that the gap of vehicles joined them."""
    whole, middle = sweep.named(members)
    if whole is not None and whole.cls == "vehicle":
        xy, policy = sweep.points[members, :2], sweep.policy
        parts = list(clusters(xy, sweep.eye, policy, policy.apart_gap_m))
        wide = [np.ptp(xy[part], axis=0).max() >= policy.apart_min_side_m for part in parts]
        # A wall along the line of sight falls apart too: into many pieces, each as slim as one beam.
        if 1 < len(parts) <= policy.apart_most and all(wide):
            named = [sweep.named(members[part]) for part in parts]
            people = [(thing, xy) for thing, xy in named if thing is not None and thing.cls != "vehicle"]
            if len(people) == len(parts):
                return people
    return [] if whole is None else [(whole, middle)]


def _under_canopy(ray: Floats, canopy: Floats, policy: AutolabelPolicy) -> bool:
    """Whether something high stands over a slim thing, or just before it on the line of sight, as a crown
    does.
    """
    away = max(float(np.hypot(*ray)), 1e-6)
    along = canopy @ ray / away - away
    across = np.abs(canopy[:, 0] * ray[1] - canopy[:, 1] * ray[0]) / away
    near = (
        (along > -policy.canopy_reach_m) & (along < 0.4) & (across < max(0.3, policy.across_gap_rad * away))
    )
    return bool(near.any())


def _structure(points_ego: Floats, height: Floats, policy: AutolabelPolicy) -> npt.NDArray[np.bool_]:
    """Points in the cells of buildings, trees and poles: something there is higher than any vehicle."""
    cells = np.floor(points_ego[:, :2] / policy.structure_cell_m).astype(np.int64)
    cells -= cells.min(axis=0, initial=0) - 1
    shape = tuple(int(n) for n in cells.max(axis=0, initial=0) + 2)
    grid = np.zeros(shape, dtype=bool)
    tall = height > policy.structure_height_m
    grid[cells[tall, 0], cells[tall, 1]] = True
    wide = grid.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            wide |= np.roll(grid, step, axis)
    inside: npt.NDArray[np.bool_] = wide[cells[:, 0], cells[:, 1]]
    return inside


def clusters(
    xy: Floats, sensor_xy: Floats, policy: AutolabelPolicy, along_gap_m: float
) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of the points (N, 2) of each cluster.

    Points are merged on a fine grid, cells are linked when they are close: across the line of sight by a
    gap that grows with distance as beams spread, along it by `along_gap_m`; vehicles need one that bridges bonnet and
    windscreen.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if len(xy) == 0:
        return
    _, inverse = np.unique(np.floor(xy / policy.voxel_m).astype(np.int64), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    count = np.bincount(inverse)
    centre = np.stack([np.bincount(inverse, xy[:, k]) / count for k in (0, 1)], axis=1)
    reach = max(along_gap_m, policy.across_gap_m, policy.across_gap_rad * policy.max_distance_m)
    pairs = cKDTree(centre).query_pairs(reach, output_type="ndarray")
    a, b = centre[pairs[:, 0]] - sensor_xy, centre[pairs[:, 1]] - sensor_xy
    middle = (a + b) / 2
    away = np.maximum(np.hypot(middle[:, 0], middle[:, 1]), 1e-6)
    along = ((b - a) * middle).sum(axis=1) / away
    across = ((b - a)[:, 0] * middle[:, 1] - (b - a)[:, 1] * middle[:, 0]) / away
    gap = np.maximum(policy.across_gap_m, policy.across_gap_rad * away)
    linked = pairs[(along / along_gap_m) ** 2 + (across / gap) ** 2 <= 1.0]
    graph = coo_array((np.ones(len(linked), dtype=bool), linked.T), shape=(len(centre), len(centre)))
    part = connected_components(graph, directed=False)[1][inverse]
    order = np.argsort(part, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
        if len(members) >= policy.min_points:
            yield members


def _name(
    xy: Floats,
    height: Floats,
    intensity: Floats,
    away_m: float,
    ground_m: float,
    eye: Floats,
    policy: AutolabelPolicy,
) -> LidarObject | None:
    """The class that fits the size; None where none does. The top may lie up to one beam above the highest
    point.
    """
    side = float(np.ptp(xy, axis=0).max())
    seen, unseen = float(height.max()), policy.beam_spacing_rad * away_m
    low, high = policy.cone_height_m
    shiny = float(np.median(intensity)) >= policy.cone_min_intensity
    if shiny and side <= policy.cone_max_side_m and low <= seen + unseen / 2 and seen <= high:
        box = fit_upright(xy, eye, ground_m, policy.cone_size_m[2], policy.cone_size_m)
        return LidarObject("cone", box, _score("cone", len(xy), policy), len(xy))
    low, high = policy.pedestrian_height_m
    if side <= policy.pedestrian_max_side_m and low <= seen + unseen / 2 and seen <= high and not shiny:
        tall = _height(seen, unseen, policy.pedestrian_size_m[2])
        box = fit_upright(xy, eye, ground_m, tall, policy.pedestrian_size_m)
        return LidarObject("pedestrian", box, _score("pedestrian", len(xy), policy), len(xy))
    if policy.vehicle_min_side_m <= side <= policy.vehicle_max_side_m and seen + unseen / 2 >= 0.6:
        kind = [k for k in policy.vehicle_kinds if seen + unseen / 2 >= k.min_height_m][-1]
        box = fit_vehicle(xy, eye, ground_m, _height(seen, unseen, kind.height_m), kind)
        if max(box.length_m, box.width_m) <= policy.vehicle_max_side_m and box.width_m <= 1.6 * kind.width_m:
            return LidarObject("vehicle", box, _score("vehicle", len(xy), policy), len(xy))
    return None


def _score(cls: str, points: int, policy: AutolabelPolicy) -> float:
    base = policy.base_scores[cls]
    return base + (1.0 - base) * min(1.0, points / policy.points_for_full_score)


def _height(seen_m: float, unseen_m: float, usual_m: float) -> float:
    """The usual height where what was seen allows it, else what was seen and half a beam."""
    if seen_m - 0.15 <= usual_m <= seen_m + unseen_m + 0.15:
        return usual_m
    return seen_m + unseen_m / 2
