"""The road: a gently curved centreline with lanes, kerbs and sidewalks in (s, d) coordinates.

s runs along the centreline in metres, d is the offset to its left. World frame: metres, z up, ground at 0.
Belongs here: geometry of the road. Does not belong here: what drives or stands on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LANE_WIDTH_M = 3.5
LANES_D_M = {"right": -5.25, "left": -1.75, "oncoming": 1.75, "far": 5.25}
KERB_D_M = 7.2
SIDEWALK_END_D_M = 10.6
DASH_M, DASH_PERIOD_M = 3.0, 9.0
GRID_START_M, GRID_END_M = -400.0, 1500.0


@dataclass(frozen=True)
class Road:
    """A sampled centreline, one sample a metre."""

    s_m: Array
    x_m: Array
    y_m: Array
    heading_rad: Array

    @classmethod
    def make(cls, seed: int) -> Road:
        """A sine of headings: curve radii stay above about 350 m."""
        rng = np.random.default_rng([seed, 1])
        s = np.arange(GRID_START_M, GRID_END_M + 0.5, 1.0)
        period = rng.uniform(280.0, 420.0)
        swing = rng.uniform(0.06, 0.12)
        heading = swing * np.sin(2 * np.pi * (s / period + rng.uniform()))
        x = np.concatenate([[0.0], np.cumsum(np.cos((heading[1:] + heading[:-1]) / 2))])
        y = np.concatenate([[0.0], np.cumsum(np.sin((heading[1:] + heading[:-1]) / 2))])
        return cls(s, x, y, heading)

    def pose(self, s_m: Array | float, d_m: Array | float) -> tuple[Array, Array, Array]:
        """World x, y and heading of points at (s, d); shapes broadcast."""
        s, d = np.broadcast_arrays(np.asarray(s_m, float), np.asarray(d_m, float))
        heading = np.interp(s, self.s_m, self.heading_rad)
        x = np.interp(s, self.s_m, self.x_m) - d * np.sin(heading)
        y = np.interp(s, self.s_m, self.y_m) + d * np.cos(heading)
        return x, y, heading

    def locate(self, x_m: Array, y_m: Array) -> tuple[Array, Array]:
        """(s, d) of world points near the road; exact to a few centimetres because curves are gentle."""
        s = np.interp(x_m, self.x_m, self.s_m)
        for _ in range(2):
            x, y, heading = self.pose(s, 0.0)
            s = s + (x_m - x) * np.cos(heading) + (y_m - y) * np.sin(heading)
        x, y, heading = self.pose(s, 0.0)
        return s, (y_m - y) * np.cos(heading) - (x_m - x) * np.sin(heading)
