"""Ground under the vehicle: a robust plane through low points, and the height of every point above it.

Belongs here: that plane. Does not belong here: roads and kerbs (drivable), objects.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
REACH_M, SIDE_M, FIRST_GUESS_M = 40.0, 12.0, 0.6
ROUNDS, LEAST_POINTS = 4, 30


def ground_plane(points_ego: Floats, tolerance_m: float) -> Floats:
    """(a, b, c) of z = a x + b y + c in the ego frame: least squares on points that stay near the plane.

    points_ego (N, >= 3). Starts from z = 0, where the ego frame has the ground, and narrows; too few low
    points keep that start.
    """
    x, y, z = points_ego[:, 0], points_ego[:, 1], points_ego[:, 2]
    near = (np.abs(x) < REACH_M) & (np.abs(y) < SIDE_M) & (np.abs(z) < FIRST_GUESS_M)
    design = np.stack([x[near], y[near], np.ones(int(near.sum()))], axis=1)
    low = z[near]
    plane = np.zeros(3)
    for limit in np.geomspace(FIRST_GUESS_M, tolerance_m, ROUNDS):
        kept = np.abs(low - design @ plane) < limit
        if kept.sum() < LEAST_POINTS:
            break
        plane = np.linalg.lstsq(design[kept], low[kept], rcond=None)[0]
    return plane


def heights(points_ego: Floats, plane: Floats) -> Floats:
    """(N,) height above the plane in metres."""
    result: Floats = points_ego[:, 2] - points_ego[:, :2] @ plane[:2] - plane[2]
    return result
