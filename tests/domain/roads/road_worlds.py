"""Small road networks in metres and traces on them, for the tests of roads.

Belongs here: building features and noisy traces. Does not belong here: tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from av_assets.domain.roads.features import Feature
from av_assets.domain.roads.plane import METRES_A_DEGREE

ORIGIN = (48.0, 11.0)
Point = tuple[float, float]


def geodetic(
    east_m: np.ndarray, north_m: np.ndarray, origin: Point = ORIGIN
) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude of points of the tests' plane."""
    lat = origin[0] + np.asarray(north_m, float) / METRES_A_DEGREE
    return lat, origin[1] + np.asarray(east_m, float) / METRES_A_DEGREE / np.cos(np.deg2rad(origin[0]))


class World:
    """Ways between named places; equal places are one node."""

    def __init__(self, origin: Point = ORIGIN, turned_rad: float = 0.0) -> None:
        self._origin, self._turned = origin, turned_rad
        self._ids: dict[Point, int] = {}
        self.features: list[Feature] = []

    def road(self, *points: Point, way: int | None = None, **tags: str) -> int:
        number = way or len(self.features) + 1
        ids = tuple(self._ids.setdefault(p, len(self._ids) + 1) for p in points)
        lat, lon = self.place(np.array(points, float))
        said = {"highway": "residential", **{k.replace("__", ":"): v for k, v in tags.items()}}
        self.features.append(
            Feature(
                number, 0, ids,
                tuple(round(v * 1e7) for v in lon.tolist()), tuple(round(v * 1e7) for v in lat.tolist()),
                tuple(sorted(said.items())),
            )
        )  # fmt: skip
        return number

    def place(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latitude, longitude of (N, 2) points."""
        c, s = np.cos(self._turned), np.sin(self._turned)
        return geodetic(
            points[:, 0] * c - points[:, 1] * s, points[:, 0] * s + points[:, 1] * c, self._origin
        )


def grid(columns: int, rows: int, step_m: float = 150.0) -> World:
    """Straight streets: ways 1..rows run east, the others north."""
    world = World()
    for r in range(rows):
        world.road(*((c * step_m, r * step_m) for c in range(columns)))
    for c in range(columns):
        world.road(*((c * step_m, r * step_m) for r in range(rows)))
    return world


def drive(
    points: Sequence[Point],
    speed_mps: float = 12.0,
    rate_hz: float = 1.0,
    noise_m: float = 0.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Times (ns) and (N, 2) positions in metres along a polyline."""
    corners = np.array(points, float)
    s = np.concatenate([[0.0], np.cumsum([np.hypot(*(b - a)) for a, b in pairwise(corners)])])
    t = np.arange(0.0, s[-1] / speed_mps, 1.0 / rate_hz)
    xy = np.stack([np.interp(t * speed_mps, s, corners[:, i]) for i in (0, 1)], axis=1)
    xy += np.random.default_rng(seed).normal(0.0, noise_m, xy.shape) if noise_m else 0.0
    return (t * 1e9).astype(np.int64), xy
