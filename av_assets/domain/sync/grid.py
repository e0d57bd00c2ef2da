"""The reference grid: the moments that rows of a shard stand for.

Belongs here: choosing the reference and laying out its times. Does not belong here: matching other
streams to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from av_assets.domain.errors import SyncError

if TYPE_CHECKING:
    from collections.abc import Mapping

Ns = NDArray[np.int64]
NS_PER_S = 1_000_000_000

ReferenceKind = Literal["lidar", "camera", "fixed"]


class ReferenceGrid(NamedTuple):
    """`ref_ns` is strictly increasing int64; `role` is the stream that gave it, None for a fixed rate."""

    kind: ReferenceKind
    role: str | None
    ref_ns: Ns
    period_ns: int


def to_ns(stamps: ArrayLike) -> Ns:
    """int64 nanoseconds. Floats are seconds and are rounded once, to the nearest nanosecond."""
    values = np.asarray(stamps)
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    return np.rint(values.astype(np.float64) * NS_PER_S).astype(np.int64)


def period_of(stamps_ns: Ns) -> int:
    """Median spacing of sorted stamps in ns; 0 for fewer than two different stamps."""
    gaps = np.diff(stamps_ns)
    gaps = gaps[gaps > 0]
    return int(np.median(gaps)) if len(gaps) else 0


def fixed_grid(start_ns: int, end_ns: int, rate_hz: float) -> Ns:
    """Times start_ns + k / rate_hz inside the half-open [start_ns, end_ns).

    Each is computed from k and rounded once, so that rounding never adds up; shifting the span shifts
    the grid.
    """
    count = max(0, int(np.ceil((end_ns - start_ns) * rate_hz / NS_PER_S)) + 1)
    times = start_ns + np.rint(np.arange(count, dtype=np.float64) * (NS_PER_S / rate_hz)).astype(np.int64)
    return times[times < end_ns]


def reference_grid(
    lidars: Mapping[str, Ns],
    cameras: Mapping[str, Ns],
    span_ns: tuple[int, int],
    rate_hz: float,
    prefer: str | None = None,
) -> ReferenceGrid:
    """Lidar sweeps where there is a lidar, else a camera, else a fixed rate over the half-open span.

    Args:
        lidars, cameras: role -> sensor stamps, any order; empty streams do not count.
        prefer: a role to take if it exists; otherwise the first role of the kind in name order.

    Raises:
        SyncError: empty_span, when there is neither stream nor time.
    """
    for kind, streams in (("lidar", lidars), ("camera", cameras)):
        roles = sorted(role for role, stamps in streams.items() if len(stamps))
        if roles:
            role = prefer if prefer in roles else roles[0]
            ref_ns = np.unique(to_ns(streams[role]))
            return ReferenceGrid("lidar" if kind == "lidar" else "camera", role, ref_ns, period_of(ref_ns))
    ref_ns = fixed_grid(span_ns[0], span_ns[1], rate_hz)
    if not len(ref_ns):
        raise SyncError("no stream spans any time", code="empty_span")
    return ReferenceGrid("fixed", None, ref_ns, round(NS_PER_S / rate_hz))
