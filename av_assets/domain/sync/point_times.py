"""When each point of a sweep was measured: per-point times of any unit and origin as ns after the stamp.

Belongs here: the meaning of time columns. Does not belong here: where columns stand (pointclouds), deskew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIME_FIELDS = ("t", "time", "time_offset", "offset_time", "timestamp", "time_stamp", "timeOffset")
RING_FIELDS = ("ring", "channel", "line", "laser_id", "ring_id", "row")
UNITS_S = (1e-9, 1e-6, 1e-3, 1.0)
NS_PER_S = 1_000_000_000
# Units lie a factor of 1000 apart, so bounds that lie closer together let at most one of them pass.
SPAN_OF_PERIOD = (0.02, 1.25)  # a cloud cut to one sector still spans some of the turn
SPAN_S = (0.002, 1.0)  # without a known period: sweeps of 1 Hz to 500 Hz


def sweep_unit_s(times: NDArray[np.float64], period_ns: int = 0) -> float | None:
    """The unit in which these finite times span one sweep, None where none does (such as all times equal).

    Args:
        times: (N,) as the driver wrote them, relative or absolute.
        period_ns: time between sweeps; 0 where it is not known.
    """
    if not len(times):
        return None
    shortest_s, longest_s = _bounds_s(period_ns)
    span = float(times.max() - times.min())
    return next((unit for unit in UNITS_S if shortest_s <= span * unit <= longest_s), None)


def offsets_ns(
    times: NDArray[np.float64], unit_s: float, stamp_ns: int, period_ns: int = 0
) -> NDArray[np.int64] | None:
    """(N,) ns after `stamp_ns` at which each point was measured; None where the span is longer than a sweep.

    Times within a sweep of zero are offsets already. Others are absolute: of the clock of the stamp if that
    puts them within two sweeps of it, else of some other clock, and then the first point takes the stamp.
    Points whose time is no number take the stamp as well.
    """
    finite = np.isfinite(times)
    known = times[finite]
    if not len(known):
        return None
    longest_s = _bounds_s(period_ns)[1]
    low, high = float(known.min()), float(known.max())
    if (high - low) * unit_s > longest_s:
        return None
    if max(abs(low), abs(high)) * unit_s <= longest_s:
        origin = 0.0
    else:
        # Seconds since 1970 as float64 resolve 0.24 us; subtracting before scaling loses no more than that.
        of_stamp = stamp_ns / NS_PER_S / unit_s
        is_same_clock = max(abs(low - of_stamp), abs(high - of_stamp)) * unit_s <= 2 * longest_s
        origin = of_stamp if is_same_clock else low
    offsets = np.where(finite, times - origin, 0.0) * (unit_s * NS_PER_S)
    return np.rint(offsets).astype(np.int64)


def _bounds_s(period_ns: int) -> tuple[float, float]:
    if not period_ns:
        return SPAN_S
    period_s = period_ns / NS_PER_S
    return SPAN_OF_PERIOD[0] * period_s, SPAN_OF_PERIOD[1] * period_s
