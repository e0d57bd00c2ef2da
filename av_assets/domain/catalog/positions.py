"""Positions that a vehicle can have been at: receivers without a fix and jumps taken out, and counted.

Belongs here: cleaning latitudes and longitudes. Does not belong here: lines, cells and routes (route).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.policies.catalog import CatalogPolicy

EARTH_M = 6_371_008.8  # mean radius, IUGG
MAX_PIECES = 2000  # of a trace, between jumps: bounds the search


@dataclass(frozen=True)
class Positions:
    """What is left of a trace.

    Attributes:
        ns: times, strictly rising, shape (n,).
        latitude_deg, longitude_deg: shape (n,); longitudes run on beyond 180 where a drive crosses the antimeridian.
        reason: why positions are missing, or ""; names how many were dropped.
    """

    ns: NDArray[np.int64]
    latitude_deg: NDArray[np.float64]
    longitude_deg: NDArray[np.float64]
    reason: str

    def __len__(self) -> int:
        return len(self.ns)


def clean_positions(
    ref_ns: NDArray[np.int64],
    latitude_deg: NDArray[np.float64] | None,
    longitude_deg: NDArray[np.float64] | None,
    policy: CatalogPolicy,
) -> Positions:
    """The positions of a drive that are on earth and reachable from one another.

    A trace is cut wherever it moves faster than `jump_speed_mps`; of the pieces, the chain with the most positions
    whose members can be reached from each other in time is kept. A single wild fix, a wild first fix, and a minute in
    another country are all dropped; a tunnel is not.

    Args:
        ref_ns: times, rising, shape (n,); latitude_deg, longitude_deg: shape (n,), NaN where unknown, or None.
    """
    if latitude_deg is None or longitude_deg is None:
        return _none("no GNSS position")
    known = np.isfinite(latitude_deg) & np.isfinite(longitude_deg)
    if not known.any():
        return _none("no GNSS position")
    on_earth = known & (np.abs(latitude_deg) <= 90) & (np.abs(longitude_deg) <= 180)
    valid = on_earth & ~_null_island(latitude_deg, longitude_deg, policy.null_island_m)
    reasons = _counted(int((known & ~valid).sum()), "without a fix (off the earth or at 0, 0)")
    ns, latitude, longitude = ref_ns[valid], latitude_deg[valid], longitude_deg[valid]
    kept = _reachable(ns, latitude, longitude, policy)
    reasons += _counted(int((~kept).sum()), "dropped as GNSS jumps")
    if not kept.any():
        return _none("; ".join(reasons))
    unwrapped = np.rad2deg(np.unwrap(np.deg2rad(longitude[kept])))
    return Positions(ns[kept], latitude[kept], unwrapped, "; ".join(reasons))


def distance_m(
    latitude_a: NDArray[np.float64],
    longitude_a: NDArray[np.float64],
    latitude_b: NDArray[np.float64],
    longitude_b: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Great-circle distances by the haversine formula (Sinnott 1984), degrees in, shape of the arguments."""
    a, b = np.deg2rad(latitude_a), np.deg2rad(latitude_b)
    east = np.deg2rad(np.asarray(longitude_b) - longitude_a)
    chord = np.sin((b - a) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(east / 2) ** 2
    found: NDArray[np.float64] = 2 * EARTH_M * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))
    return found


def _none(reason: str) -> Positions:
    empty = np.empty(0)
    return Positions(np.empty(0, np.int64), empty, empty, reason)


def _counted(number: int, what: str) -> list[str]:
    return [f"{number} position{'s' if number > 1 else ''} {what}"] if number else []


def _null_island(
    latitude: NDArray[np.float64], longitude: NDArray[np.float64], radius_m: float
) -> NDArray[np.bool_]:
    reach_deg = np.rad2deg(radius_m / EARTH_M)
    with np.errstate(invalid="ignore"):
        near: NDArray[np.bool_] = (np.abs(latitude) <= reach_deg) & (np.abs(longitude) <= reach_deg)
    return near


def _reachable(
    ns: NDArray[np.int64],
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    policy: CatalogPolicy,
) -> NDArray[np.bool_]:
    """Which positions belong to the heaviest chain of pieces; the earlier one of equals."""
    if len(ns) == 0:
        return np.zeros(0, bool)
    step_m = distance_m(latitude[:-1], longitude[:-1], latitude[1:], longitude[1:])
    cuts = np.flatnonzero(step_m > _limit_m(np.diff(ns), policy)) + 1
    starts, ends = np.r_[0, cuts], np.r_[cuts, len(ns)]  # pieces are [start, end)
    if len(starts) > MAX_PIECES:  # noise all over: only the longest pieces can be a trace
        longest = np.sort(np.argsort(starts - ends, kind="stable")[:MAX_PIECES])
        starts, ends = starts[longest], ends[longest]
    weight, before = (ends - starts).astype(np.int64), np.full(len(starts), -1)
    for number in range(1, len(starts)):
        last, first = ends[:number] - 1, starts[number]
        gap_m = distance_m(latitude[last], longitude[last], latitude[first], longitude[first])
        usable = gap_m <= _limit_m(ns[first] - ns[last], policy)
        if usable.any():
            best = int(np.argmax(np.where(usable, weight[:number], -1)))
            weight[number] += weight[best]
            before[number] = best
    kept, piece = np.zeros(len(ns), bool), int(np.argmax(weight))
    while piece >= 0:
        kept[starts[piece] : ends[piece]] = True
        piece = int(before[piece])
    return kept


def _limit_m(later_ns: NDArray[np.int64], policy: CatalogPolicy) -> NDArray[np.float64]:
    limit: NDArray[np.float64] = np.asarray(later_ns, np.float64) / 1e9 * policy.jump_speed_mps
    return limit + policy.position_noise_m
