"""What of a trace can be matched: positions that are there, no jumps of the receiver, not denser than needed.

Belongs here: choice of points. Does not belong here: roads.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.roads.plane import Floats, around, great_circle_m

if TYPE_CHECKING:
    from av_assets.domain.roads.graph import Ints
    from av_assets.policies.roads import MatchingNumbers

NO_POSITION, JUMP = "no position", "position jump"


def believable(
    times_ns: Ints, lon: Floats, lat: Floats, policy: MatchingNumbers
) -> tuple[Ints, dict[int, str]]:
    """Indices of the points that can be matched, in time order, and why the others cannot.

    Args:
        times_ns, lon, lat: (N,), any order; NaN where there is no position.
    """
    there = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90.0) & (np.abs(lon) <= 180.0)
    refused = {int(i): NO_POSITION for i in np.flatnonzero(~there)}
    kept = np.flatnonzero(there)
    kept = kept[np.argsort(times_ns[kept], kind="stable")]
    for run in _stray_runs(times_ns[kept], lon[kept], lat[kept], policy):
        refused.update({int(i): JUMP for i in kept[run]})
    return np.array([i for i in kept if int(i) not in refused], np.int64), refused


def _stray_runs(times_ns: Ints, lon: Floats, lat: Floats, policy: MatchingNumbers) -> list[slice]:
    """Short runs of points that cannot be reached from the run before at any credible speed."""
    if len(lon) < 2:
        return []
    far = great_circle_m(lon[:-1], lat[:-1], lon[1:], lat[1:])
    reach = np.maximum(policy.jump_m, policy.max_speed_mps * np.diff(times_ns) / 1e9)
    cuts = [0, *(np.flatnonzero(far > reach) + 1).tolist(), len(lon)]
    runs = [slice(a, b) for a, b in pairwise(cuts)]
    if len(runs) == 1:
        return []
    longest = max(runs, key=lambda run: run.stop - run.start)
    return [run for run in runs if run.stop - run.start <= policy.jump_points and run is not longest]


def thinned(times_ns: Ints, lon: Floats, lat: Floats, policy: MatchingNumbers) -> Ints:
    """Indices of points at least `spacing_m` or `spacing_s` apart, both ends of the trace and of every long hole."""
    if len(lon) == 0:
        return np.zeros(0, np.int64)
    pause_ns = round(policy.spacing_s * 1e9)
    hole = np.diff(times_ns) > pause_ns
    must = np.concatenate([[True], hole]) | np.concatenate([hole, [True]])
    # One plane for the whole trace is exact enough to choose by, and a loop over floats is quick.
    plane = around(lon[:1], lat.mean(keepdims=True), lon, lat)
    east, north = plane[0].tolist(), plane[1].tolist()
    clock = times_ns.tolist()
    kept, last, square = [0], 0, policy.spacing_m**2
    for i, forced in enumerate(must.tolist()):
        away = (east[i] - east[last]) ** 2 + (north[i] - north[last]) ** 2 >= square
        if i and (forced or away or clock[i] - clock[last] >= pause_ns):
            kept.append(i)
            last = i
    return np.array(kept, np.int64)


def smoothed(times_ns: Ints, values: Floats, policy: MatchingNumbers) -> Floats:
    """Centred running mean over `smoothing_s`: a dense trace is chosen from by where it goes, not by its noise."""
    half = round(policy.smoothing_s * 1e9) // 2
    first = np.searchsorted(times_ns, times_ns - half, side="left")
    last = np.searchsorted(times_ns, times_ns + half, side="left")
    last = np.maximum(last, np.arange(len(times_ns)) + 1)
    base = values[:1].sum()  # sums of small differences keep the digits that sums of degrees would lose
    total = np.concatenate([[0.0], np.cumsum(values - base)])
    return np.asarray(base + (total[last] - total[first]) / (last - first))
