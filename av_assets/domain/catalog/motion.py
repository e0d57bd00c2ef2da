"""How a vehicle moved: distance, speeds, standing and stops, braking.

Belongs here: figures of one speed trace. Does not belong here: events (domain/events), positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.policies.catalog import CatalogPolicy


def speed_profile(
    ref_ns: NDArray[np.int64], speed_mps: NDArray[np.float64] | None, policy: CatalogPolicy
) -> dict[str, float | int | None]:
    """distance_m, mean, max, p50 and p95 of speed, standing_share and stops; None where speed is unknown.

    Distance is the trapezoid integral of |speed| over the times at which it was known; a gap of more than
    `speed_max_gap_s` counts for nothing. A stop is a standstill of `stop_min_s` or more that follows movement.

    Args:
        ref_ns: times, rising, shape (n,); speed_mps: shape (n,), NaN where unknown, or None.
    """
    names = ("distance_m", "mean_speed_mps", "max_speed_mps", "p50_speed_mps", "p95_speed_mps")
    nothing: dict[str, float | int | None] = dict.fromkeys((*names, "standing_share", "stops"))
    if speed_mps is None or not (known := np.isfinite(speed_mps)).any():
        return nothing
    ns, speed = ref_ns[known], np.abs(speed_mps[known])
    found = nothing | {
        "mean_speed_mps": float(speed.mean()),
        "max_speed_mps": float(speed.max()),
        "p50_speed_mps": float(np.percentile(speed, 50)),
        "p95_speed_mps": float(np.percentile(speed, 95)),
        "standing_share": float((speed <= policy.standing_mps).mean()),
        "stops": _stops(ns, speed, policy),
    }
    step_s = np.diff(ns) / 1e9
    usable = (step_s > 0) & (step_s <= policy.speed_max_gap_s)
    if usable.any():
        metres = (speed[:-1] + speed[1:]) / 2 * step_s
        found["distance_m"] = float(metres[usable].sum())
    return found


def _stops(ns: NDArray[np.int64], speed: NDArray[np.float64], policy: CatalogPolicy) -> int:
    standing = speed <= policy.standing_mps
    breaks = np.r_[True, np.diff(ns) > policy.speed_max_gap_s * 1e9]
    stops, since, moved = 0, None, False
    for at_ns, stands, gap in zip(ns.tolist(), standing.tolist(), breaks.tolist(), strict=True):
        if gap:
            since, moved = None, False  # what happened meanwhile is not known
        if not stands:
            since, moved = None, True
        elif since is None:
            since = at_ns
        if since is not None and moved and at_ns - since >= policy.stop_min_s * 1e9:
            stops, moved = stops + 1, False
    return stops


def max_deceleration_mps2(
    ref_ns: NDArray[np.int64],
    accel_mps2: NDArray[np.float64] | None,
    speed_mps: NDArray[np.float64] | None,
    policy: CatalogPolicy,
) -> float | None:
    """The strongest braking, >= 0; None where neither acceleration nor speed is known.

    Of the recorded acceleration, a median of three samples, so that one spike is no braking; else of the change of
    speed over `decel_window_s`.
    """
    if accel_mps2 is not None and np.isfinite(accel_mps2).any():
        held = accel_mps2[np.isfinite(accel_mps2)]
        windows = np.lib.stride_tricks.sliding_window_view(held, 3) if len(held) >= 3 else held[:, None]
        return max(0.0, -float(np.median(windows, axis=1).min()))
    if speed_mps is None:
        return None
    known = np.isfinite(speed_mps)
    ns, speed = ref_ns[known], speed_mps[known]
    if len(ns) < 2:
        return None
    later = np.searchsorted(ns, ns + round(policy.decel_window_s * 1e9))
    usable = later < len(ns)
    usable[usable] &= (ns[later[usable]] - ns[usable]) <= policy.speed_max_gap_s * 1e9
    if not usable.any():
        return None
    change = (speed[later[usable]] - speed[usable]) / ((ns[later[usable]] - ns[usable]) / 1e9)
    return max(0.0, -float(change.min()))
