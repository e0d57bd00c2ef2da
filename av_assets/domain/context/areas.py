"""Observations cut into files by area and month, so that a drive opens the few that may speak for it.

Belongs here: names of areas and files, and which of them are near. Does not belong here: nearness of single places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from av_assets.domain.context.observations import EARTH_RADIUS_M, distances_m, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av_assets.domain.context.weather import Moments
    from av_assets.domain.geometry.transforms import Array
    from av_assets.policies.context import MatchPolicy

AREA_DEG: Final = 5
AREA_RADIUS_M: Final = (
    EARTH_RADIUS_M * float(np.radians(AREA_DEG)) * 0.75
)  # from its middle to beyond its corners
FOLDER: Final = "observations"


def areas(latitude_deg: Array, longitude_deg: Array) -> list[str]:
    """The 5 degree squares that points (N,) lie in, e.g. `n50e010`: named by their south-west corner."""
    south = np.clip(np.floor(latitude_deg / AREA_DEG) * AREA_DEG, -90, 90 - AREA_DEG).astype(int)
    west = (np.floor((longitude_deg + 180.0) / AREA_DEG) * AREA_DEG % 360 - 180).astype(int)
    return [
        f"{'n' if la >= 0 else 's'}{abs(la):02d}{'e' if lo >= 0 else 'w'}{abs(lo):03d}"
        for la, lo in zip(south.tolist(), west.tolist(), strict=True)
    ]


def areas_near(latitude_deg: Array, longitude_deg: Array, distance_m: float) -> set[str]:
    """Areas that may hold a place within `distance_m` of one of the points (N,); rather one too many than too few."""
    corners = np.meshgrid(np.arange(-90, 90, AREA_DEG), np.arange(-180, 180, AREA_DEG), indexing="ij")
    middle_la, middle_lo = (corner.ravel().astype(np.float64) + AREA_DEG / 2 for corner in corners)
    points = np.unique(np.stack([latitude_deg, longitude_deg], axis=1), axis=0)
    near = np.zeros(len(middle_la), np.bool_)
    for part in np.array_split(points, len(points) // 1000 + 1):
        away = distances_m(part[:, 0], part[:, 1], middle_la, middle_lo)
        near |= (away <= distance_m + AREA_RADIUS_M).any(axis=0)
    return set(areas(middle_la[near], middle_lo[near]))


def by_area_and_month(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Path and rows of each file, `observations/<area>/<YYYY-MM>.parquet`, in the order of the paths."""
    if not rows.num_rows:
        return
    named = areas(values_of(rows, "latitude_deg"), values_of(rows, "longitude_deg"))
    keys = np.char.add(np.char.add(np.array(named), "/"), _months(rows["valid_ns"].to_numpy()))
    unique, group = np.unique(keys, return_inverse=True)
    for number, key in enumerate(unique.tolist()):
        yield f"{FOLDER}/{key}.parquet", rows.filter(pa.array(group == number))


def files_near(paths: Sequence[str], moments: Moments, policy: MatchPolicy) -> list[str]:
    """Those of the files that may hold an observation which speaks for one of the moments."""
    placed = np.isfinite(moments.latitude_deg) & np.isfinite(moments.longitude_deg)
    if not placed.any():
        return []
    reach_m = max(policy.max_station_distance_m, policy.max_grid_distance_m)
    near = areas_near(moments.latitude_deg[placed], moments.longitude_deg[placed], reach_m)
    times = moments.time_ns[placed]
    ends = np.array([times.min() - policy.time_tolerance_ns, times.max() + policy.time_tolerance_ns])
    first, last = _months(ends).tolist()
    found = []
    for path in sorted(paths):
        folder, *names = path.removesuffix(".parquet").split("/")
        if folder == FOLDER and names[0] in near and first <= names[1] <= last:
            found.append(path)
    return found


def _months(times_ns: np.ndarray) -> np.ndarray:
    """(N,) `YYYY-MM`, which sort as the months do."""
    return np.datetime_as_string(times_ns.astype("datetime64[ns]"), unit="M")
