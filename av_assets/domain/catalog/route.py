"""Where a drive went: a simplified line, H3 cells and a name for its route.

Belongs here: geometry of clean positions. Does not belong here: cleaning them (positions), maps and roads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.catalog.positions import EARTH_M, distance_m

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.domain.catalog.positions import Positions
    from av_assets.policies.catalog import CatalogPolicy

CELL_RESOLUTION, ROUTE_RESOLUTION, END_RESOLUTION = 9, 8, 7
STEP_M = 5.0  # between looks at the cell: how far a cell is driven through is known to this


@dataclass(frozen=True)
class Route:
    """Attributes:
    geometry_wkb: LineString, longitude before latitude (WGS 84); None of fewer than two positions.
    cells: H3 cells of resolution 9, each once, in the order of the first visit.
    route_id: `<start cell, res 7>-<end cell, res 7>-<6 hex digits of the ordered cells of res 8>`.
    reason: what is not whole, or "".
    """

    geometry_wkb: bytes | None
    cells: list[str]
    route_id: str | None
    reason: str


def route_of(positions: Positions, policy: CatalogPolicy) -> Route:
    """Line, cells and name of a drive's clean positions; all None without positions.

    The name uses the median of the first and last seconds and only cells that the line runs through for a while, so
    that noise seldom changes it; where a route starts just at a border, it still may.
    """
    if len(positions) == 0:
        return Route(None, [], None, "")
    line = _simplified(positions, policy)
    latitude, longitude = _dense(line)
    cells = _distinct(_cells(latitude, longitude, CELL_RESOLUTION))
    reason = ""
    if len(cells) > policy.max_cells:
        chosen = np.linspace(0, len(cells) - 1, policy.max_cells).round().astype(int)
        reason = f"{policy.max_cells} of {len(cells)} cells are listed"
        cells = [cells[number] for number in chosen]
    wkb = None
    if len(line) > 1:
        from shapely import LineString, to_wkb

        wkb = to_wkb(LineString(line[:, ::-1]))
    else:
        reason = "only one position: no line"
    return Route(wkb, cells, _route_id(positions, policy), reason)


def cell_of(latitude_deg: float, longitude_deg: float, resolution: int = CELL_RESOLUTION) -> str:
    """The H3 cell (lower-case hexadecimal) of a position."""
    import h3

    return str(h3.latlng_to_cell(latitude_deg, (longitude_deg + 180) % 360 - 180, resolution))


def _simplified(positions: Positions, policy: CatalogPolicy) -> NDArray[np.float64]:
    """Latitude and longitude in degrees, shape (k, 2): Douglas-Peucker in metres, coarser until it fits."""
    from shapely import LineString

    north_m = np.deg2rad(positions.latitude_deg) * EARTH_M
    shrink = max(float(np.cos(np.deg2rad(positions.latitude_deg).mean())), 1e-6)
    east_m = np.deg2rad(positions.longitude_deg) * EARTH_M * shrink
    points = np.stack([east_m, north_m], axis=1)
    if len(points) == 1:
        return np.stack([positions.latitude_deg, positions.longitude_deg], axis=1)
    line: Any = LineString(points)
    tolerance_m = policy.simplify_m
    kept = np.asarray(line.simplify(tolerance_m, preserve_topology=False).coords)
    while len(kept) > policy.max_line_points:
        tolerance_m *= 2
        kept = np.asarray(line.simplify(tolerance_m, preserve_topology=False).coords)
    return np.rad2deg(np.stack([kept[:, 1], kept[:, 0] / shrink], axis=1) / EARTH_M)


def _dense(line: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The line with a point every STEP_M at most."""
    if len(line) == 1:
        return line[:, 0], line[:, 1]
    steps_m = distance_m(line[:-1, 0], line[:-1, 1], line[1:, 0], line[1:, 1])
    along_m = np.r_[0.0, np.cumsum(steps_m)]
    wanted_m = np.linspace(0, along_m[-1], int(along_m[-1] // STEP_M) + 2)
    return np.interp(wanted_m, along_m, line[:, 0]), np.interp(wanted_m, along_m, line[:, 1])


def _cells(latitude: NDArray[np.float64], longitude: NDArray[np.float64], resolution: int) -> list[str]:
    return [cell_of(float(a), float(b), resolution) for a, b in zip(latitude, longitude, strict=True)]


def _distinct(cells: list[str]) -> list[str]:
    return list(dict.fromkeys(cells))


def _smooth(positions: Positions, seconds: float) -> Positions:
    """Means over about `seconds`: noise makes a line longer, and a route is measured by length."""
    if len(positions) < 3:
        return positions
    period_ns = float(np.median(np.diff(positions.ns)))
    half = min(round(seconds * 1e9 / max(period_ns, 1.0)) // 2, len(positions) // 2)
    every = np.arange(len(positions))
    reach = np.minimum(np.minimum(every, every[::-1]), half)  # shorter towards the ends, so that these stay

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.r_[0.0, np.cumsum(values - values[0])]
        held: NDArray[np.float64] = (total[every + reach + 1] - total[every - reach]) / (2 * reach + 1)
        held += values[0]
        return held

    return replace(
        positions, latitude_deg=mean(positions.latitude_deg), longitude_deg=mean(positions.longitude_deg)
    )


def _route_id(positions: Positions, policy: CatalogPolicy) -> str:
    latitude, longitude = _dense(_simplified(_smooth(positions, policy.route_smooth_s), policy))
    cells = _cells(latitude, longitude, ROUTE_RESOLUTION)
    step_m = distance_m(latitude[:-1], longitude[:-1], latitude[1:], longitude[1:])
    driven_m: dict[str, float] = {}
    passed: dict[
        str, None
    ] = {}  # in the order in which enough of each was driven: a touch before counts for nothing
    for cell, metres in zip(cells[1:], step_m, strict=True):
        driven_m[cell] = driven_m.get(cell, 0.0) + float(metres)
        if driven_m[cell] >= policy.route_cell_min_m:
            passed.setdefault(cell)
    digest = hashlib.sha256(" ".join(passed).encode()).hexdigest()[:6]
    margin_ns = round(policy.route_end_s * 1e9)
    first = positions.ns <= positions.ns[0] + margin_ns
    last = positions.ns >= positions.ns[-1] - margin_ns
    ends = (
        cell_of(
            float(np.median(positions.latitude_deg[chosen])),
            float(np.median(positions.longitude_deg[chosen])),
            END_RESOLUTION,
        )
        for chosen in (first, last)
    )
    return "-".join([*ends, digest])
