"""Bringing samples of one stream to reference times: nearest, interpolated or held.

All functions take samples in any order, search the whole stream and never look at wall time. Index -1
and NaN mean
"nothing there". Belongs here: matching of stamps and numbers. Does not belong here: payloads, or
choosing the grid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from av_assets.domain.geometry.transforms import slerp
from av_assets.domain.sync.grid import Ns, period_of

Array = NDArray[np.float64]
NONE = -1


class Match(NamedTuple):
    """Per reference time: `sample` is its position in the stream (-1: none) and `delta_ns` = sample -
    reference (0 where none)."""

    sample: Ns
    delta_ns: Ns


def nearest(
    ref_ns: Ns, stamps_ns: Ns, tolerance_ns: int, phase_ns: int = 0, one_to_one: bool = False
) -> Match:
    """The sample nearest to each ref_ns + phase_ns, if it is within tolerance_ns of it; a tie goes to
    the earlier.

    With `one_to_one` no sample is used twice and order is kept: as many matches as possible, then the
    smallest sum
    of distances. `ref_ns` must be sorted; `stamps_ns` need not be.
    """
    order = np.argsort(stamps_ns, kind="stable")
    sorted_ns, target_ns = stamps_ns[order], ref_ns + phase_ns
    chosen = _nearest_sorted(target_ns, sorted_ns)
    if len(sorted_ns):
        far = np.abs(sorted_ns[chosen] - target_ns) > tolerance_ns
        chosen = np.where(far, NONE, chosen)
    used = chosen[chosen >= 0]
    if one_to_one and len(np.unique(used)) < len(used):
        chosen = _assign(target_ns, sorted_ns, tolerance_ns)
    return _match(chosen, order, ref_ns, stamps_ns)


def hold(ref_ns: Ns, stamps_ns: Ns, max_age_ns: int) -> Match:
    """The latest sample at or before each reference time, if it is at most max_age_ns old."""
    order = np.argsort(stamps_ns, kind="stable")
    sorted_ns = stamps_ns[order]
    chosen = np.searchsorted(sorted_ns, ref_ns, side="right") - 1
    if len(sorted_ns):
        chosen = np.where(ref_ns - sorted_ns[np.maximum(chosen, 0)] > max_age_ns, NONE, chosen)
    return _match(chosen, order, ref_ns, stamps_ns)


def _match(chosen: NDArray, order: NDArray, ref_ns: Ns, stamps_ns: Ns) -> Match:
    found = chosen >= 0
    index = np.full(len(ref_ns), NONE, np.int64)
    delta_ns = np.zeros(len(ref_ns), np.int64)
    index[found] = order[chosen[found]]
    delta_ns[found] = stamps_ns[index[found]] - ref_ns[found]
    return Match(index, delta_ns)


def _nearest_sorted(target_ns: Ns, sorted_ns: Ns) -> Ns:
    """Position of the nearest element for each target; the first of equal elements."""
    if not len(sorted_ns):
        return np.full(len(target_ns), NONE, np.int64)
    right = np.searchsorted(sorted_ns, target_ns, side="left")
    left = np.maximum(right - 1, 0)
    right = np.minimum(right, len(sorted_ns) - 1)
    earlier = target_ns - sorted_ns[left] <= sorted_ns[right] - target_ns
    best = np.where(earlier | (sorted_ns[right] < target_ns), left, right)
    best = np.where(sorted_ns[left] > target_ns, left, best)
    return np.searchsorted(sorted_ns, sorted_ns[best], side="left").astype(np.int64)


def _assign(target_ns: Ns, sorted_ns: Ns, tolerance_ns: int) -> Ns:
    """Monotone one-to-one assignment by dynamic programming over the samples within tolerance of each target.

    `best[j]` is (matches, -distance) using samples before position j; `last[i][k]` the sample that
    reference i takes
    when samples before window start + k + 1 may be used. Time and memory: targets x samples inside the
    tolerance.
    """
    starts = np.searchsorted(sorted_ns, target_ns - tolerance_ns, side="left").tolist()
    ends = np.searchsorted(sorted_ns, target_ns + tolerance_ns, side="right").tolist()
    targets, samples = target_ns.tolist(), sorted_ns.tolist()
    best: list[tuple[int, int]] = [(0, 0)]
    last: list[list[int]] = []
    for target, start, end in zip(targets, starts, ends, strict=True):
        best.extend([best[-1]] * (end + 1 - len(best)))
        taken: list[int] = []
        before, holder = best[start], NONE
        value = before
        for j in range(start, end):
            candidate = (before[0] + 1, before[1] - abs(samples[j] - target))
            before = best[j + 1]
            if candidate > value:
                value, holder = candidate, j
            if best[j + 1] >= value:
                value, holder = best[j + 1], NONE
            best[j + 1] = value
            taken.append(holder)
        last.append(taken)
    return _trace_back(starts, ends, last, len(best) - 1)


def _trace_back(starts: list[int], ends: list[int], last: list[list[int]], limit: int) -> Ns:
    chosen = np.full(len(last), NONE, np.int64)
    for i in range(len(last) - 1, -1, -1):
        position = min(limit, ends[i]) - starts[i] - 1
        if position >= 0 and last[i][position] >= 0:
            chosen[i] = limit = last[i][position]
    return chosen


def measured_phase(ref_ns: Ns, stamps_ns: Ns) -> int:
    """The usual offset of samples to the reference, in ns within half a period of the faster of both.

    The circular mean finds the cycle (offsets near half a period come with both signs), the median
    around it the
    value. Zero where there is too little to say.
    """
    offsets_ns = pair_offsets(ref_ns, stamps_ns)
    periods = [p for p in (period_of(ref_ns), period_of(np.sort(stamps_ns))) if p > 0]
    if not len(offsets_ns) or not periods:
        return 0
    period_ns = min(periods)
    angles = offsets_ns * (2 * np.pi / period_ns)
    centre_ns = np.angle(np.exp(1j * angles).mean()) * period_ns / (2 * np.pi)
    around_ns = (offsets_ns - centre_ns + period_ns / 2) % period_ns - period_ns / 2
    return round(float(centre_ns + np.median(around_ns)))


def pair_offsets(ref_ns: Ns, stamps_ns: Ns, phase_ns: int = 0) -> Ns:
    """Sample - (reference + phase) for every element of the slower side and its nearest on the faster
    side, in ns.

    No tolerance is applied: a dropped frame shows as an offset of a whole period. Only times that both
    sides cover
    count.
    """
    stamps_ns, target_ns = np.unique(stamps_ns), ref_ns + phase_ns
    if not len(stamps_ns) or not len(target_ns):
        return np.empty(0, np.int64)
    ref_slower = period_of(target_ns) >= period_of(stamps_ns)
    slow, fast = (target_ns, stamps_ns) if ref_slower else (stamps_ns, target_ns)
    margin = max(period_of(fast), 1)
    slow = slow[(slow >= fast[0] - margin) & (slow <= fast[-1] + margin)]
    offsets = fast[_nearest_sorted(slow, fast)] - slow
    return np.asarray(offsets if ref_slower else -offsets)


def interpolate(
    ref_ns: Ns, stamps_ns: Ns, values: ArrayLike, max_gap_ns: int, period: float | None = None
) -> Array:
    """Linear interpolation of values (N,) at ref_ns -> (M,), NaN outside the samples or inside a gap >
    max_gap_ns.

    Args:
        period: of an angle (2 pi, or 360): the shorter way round is taken, the result lies in
        [-period/2, period/2).

    Samples that are NaN do not count. Of several samples of one stamp the smallest value counts.
    """
    stamps, numbers = _clean(stamps_ns, np.asarray(values, np.float64).reshape(-1, 1))
    low, high, share = _brackets(ref_ns, stamps, max_gap_ns)
    found = low >= 0
    result = np.full(len(ref_ns), np.nan)
    start, step = numbers[low[found], 0], numbers[high[found], 0] - numbers[low[found], 0]
    if period is not None:
        step = (step + period / 2) % period - period / 2
    result[found] = start + share[found] * step
    if period is not None:
        result[found] = (result[found] + period / 2) % period - period / 2
    return result


def interpolate_rotations(ref_ns: Ns, stamps_ns: Ns, xyzw: ArrayLike, max_gap_ns: int) -> Array:
    """SLERP of unit quaternions (N, 4) at ref_ns -> (M, 4), NaN where `interpolate` would give NaN."""
    stamps, quaternions = _clean(stamps_ns, np.asarray(xyzw, np.float64).reshape(-1, 4))
    low, high, share = _brackets(ref_ns, stamps, max_gap_ns)
    found = low >= 0
    result = np.full((len(ref_ns), 4), np.nan)
    if found.any():
        result[found] = slerp(quaternions[low[found]], quaternions[high[found]], share[found])
    return result


def _clean(stamps_ns: Ns, values: Array) -> tuple[Ns, Array]:
    """Sorted by stamp (then by value, so that input order cannot matter), without NaN and repeated stamps."""
    finite = np.isfinite(values).all(axis=1)
    stamps, values = stamps_ns[finite], values[finite]
    order = np.lexsort((*values.T[::-1], stamps))
    stamps, first = np.unique(stamps[order], return_index=True)
    return stamps, values[order][first]


def _brackets(ref_ns: Ns, stamps_ns: Ns, max_gap_ns: int) -> tuple[Ns, Ns, Array]:
    """Positions of the samples around each time (-1: none, or too far apart) and the share of the way."""
    last = len(stamps_ns) - 1
    low = np.searchsorted(stamps_ns, ref_ns, side="right") - 1
    if last < 0:
        return np.full(len(ref_ns), NONE, np.int64), low, np.zeros(len(ref_ns))
    exact = (low >= 0) & (stamps_ns[np.maximum(low, 0)] == ref_ns)
    high = np.where(exact, low, np.minimum(low + 1, last))
    span_ns = stamps_ns[high] - stamps_ns[np.maximum(low, 0)]
    usable = (low >= 0) & (exact | ((low < last) & (span_ns <= max_gap_ns)))
    share = np.where(span_ns > 0, (ref_ns - stamps_ns[np.maximum(low, 0)]) / np.maximum(span_ns, 1), 0.0)
    return np.where(usable, low, NONE).astype(np.int64), high, share
