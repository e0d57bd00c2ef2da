"""Metres between positions: the sphere for lengths, a tangent plane at each position for what is near it.

Belongs here: distances. Does not belong here: roads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG
METRES_A_DEGREE = float(np.deg2rad(EARTH_RADIUS_M))


def great_circle_m(lon_a: Floats, lat_a: Floats, lon_b: Floats, lat_b: Floats) -> Floats:
    """Haversine distance of positions in degrees; shapes broadcast."""
    half_lat, half_lon = np.deg2rad(lat_b - lat_a) / 2, np.deg2rad(lon_b - lon_a) / 2
    h = np.sin(half_lat) ** 2 + np.cos(np.deg2rad(lat_a)) * np.cos(np.deg2rad(lat_b)) * np.sin(half_lon) ** 2
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(h, 1.0))))


def around(lon_0: Floats, lat_0: Floats, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """East and north (m) of positions on the plane that touches at (lon_0, lat_0); exact to 1e-4 within a kilometre."""
    east = (lon - lon_0) * METRES_A_DEGREE * np.cos(np.deg2rad(lat_0))
    return east, (lat - lat_0) * METRES_A_DEGREE


def reach_deg(lat: Floats, metres: float) -> tuple[Floats, Floats]:
    """Half width in degrees of longitude and latitude of a box that holds all within `metres`."""
    north = np.full_like(lat, metres / METRES_A_DEGREE)
    slimmest = np.minimum(np.abs(lat) + north, 89.9)
    return north / np.cos(np.deg2rad(slimmest)), north
