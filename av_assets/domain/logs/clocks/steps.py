"""Where a clock steps: changes of the offset between two clocks that stay.

Belongs here: the search for steps in one series of offsets. Does not belong here: slopes (`lines`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.logs.clocks.lines import NANOSECONDS, window_edges

if TYPE_CHECKING:
    from av_assets.domain.logs.clocks.lines import Floats, Ns
    from av_assets.policies.clocks import ClockPolicy

MAX_CANDIDATES = 512
JITTER_FACTOR = 4
FAR = 10  # confirmation looks so many times `step_persist_s` around
MAX_SIDE = 2048  # messages looked at on one side of a step
Slice = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """From the message `first` on (and from `log_ns`), the offset is larger by `size_ns`."""

    first: int
    log_ns: int
    size_ns: float


def find_steps(log_ns: Ns, offset_ns: Floats, policy: ClockPolicy) -> tuple[Step, ...]:
    """Where the offset changes and stays changed, in time order; at most `policy.max_steps`, the largest.

    Args:
        log_ns: (N,) ascending. offset_ns: (N,) log time minus sensor time, less any constant.

    A gap, a stall that drains afterwards, and a late message move the offset for a moment only: both sides
    are measured by their low quantile, next to the step and half of `step_persist_s` away from it.
    """
    change = np.abs(np.diff(offset_ns))
    edges = window_edges(len(offset_ns), policy)
    lows = np.array([_lowest(offset_ns[a:b], policy) for a, b in edges])
    jitter_ns = float(np.median([np.median(offset_ns[a:b]) for a, b in edges] - lows))
    reach_ns = policy.step_persist_s * NANOSECONDS / 2
    found: list[Step] = []
    for candidate in _candidates(change, edges, lows, policy):
        if len(found) >= policy.max_steps:
            break
        if _near(candidate, log_ns, found, reach_ns, policy.step_messages):
            continue
        if abs(_size(candidate, log_ns, offset_ns, jitter_ns, policy)) < policy.min_step_s * NANOSECONDS:
            continue
        first = _localise(candidate, log_ns, offset_ns, policy)
        size = _size(first, log_ns, offset_ns, jitter_ns, policy)
        near = _near(first, log_ns, found, reach_ns, policy.step_messages)
        if abs(size) >= policy.min_step_s * NANOSECONDS and not near:
            found.append(Step(first, _boundary(first, log_ns), size))
    return tuple(sorted(found, key=lambda step: step.first))


def _candidates(change: Floats, edges: list[Slice], lows: Floats, policy: ClockPolicy) -> list[int]:
    """First messages after a possible step, the largest change first: single messages, and, where jitter
    hides them, the edges of windows whose lower envelopes differ."""
    limit = policy.min_step_s * NANOSECONDS / 2
    single = np.flatnonzero(change >= limit)
    if len(single) > MAX_CANDIDATES:
        single = single[np.argpartition(-change[single], MAX_CANDIDATES)[:MAX_CANDIDATES]]
    apart = np.flatnonzero(np.abs(np.diff(lows)) >= limit)
    starts = np.array([a for a, _ in edges], np.intp)
    first = np.unique(np.concatenate([single + 1, starts[apart + 1], starts[apart][starts[apart] > 0]]))
    return [int(i) for i in first[np.argsort(-change[first - 1], kind="stable")]]


def _boundary(first: int, log_ns: Ns) -> int:
    """The log time that parts messages before and after a step; where several messages share one log time,
    the side that the fewer are on loses them."""
    begin, end = (int(np.searchsorted(log_ns, log_ns[first], side)) for side in ("left", "right"))
    return int(log_ns[first]) + int(first - begin > end - first)


def _near(first: int, log_ns: Ns, found: list[Step], reach_ns: float, messages: int) -> bool:
    return any(
        abs(first - step.first) < messages or abs(int(log_ns[first]) - step.log_ns) < reach_ns
        for step in found
    )


def _size(first: int, log_ns: Ns, offset_ns: Floats, jitter_ns: float, policy: ClockPolicy) -> float:
    """Change of the lower envelope at `first`: the smallest of what near and far slices say, 0 where they
    disagree or where jitter, here or usually, is of that size."""
    sides = _slices(first, log_ns, policy)
    if not all(sides):
        return 0.0
    levels = [[_lowest(offset_ns[a:b], policy) for a, b in side] for side in sides]
    sizes = [late - early for early in levels[0] for late in levels[1]]
    near = [
        float(np.median(offset_ns[slice(*side[0])])) - lows[0]
        for side, lows in zip(sides, levels, strict=True)
    ]
    smallest = min(sizes, key=abs)
    agree = all(size * smallest > 0 for size in sizes)
    return smallest if agree and abs(smallest) > JITTER_FACTOR * max(jitter_ns, *near) else 0.0


def _lowest(offset_ns: Floats, policy: ClockPolicy) -> float:
    """The low quantile, but never above the third smallest: messages that queued up during a stall arrive
    together, outnumber the others, and are late all but the last."""
    rank = min(int(policy.low_quantile * (len(offset_ns) - 1)), 2)
    return float(np.partition(offset_ns, rank)[rank])


def _slices(first: int, log_ns: Ns, policy: ClockPolicy) -> tuple[list[Slice], list[Slice]]:
    """Index ranges before and after a step: next to it, and half of `step_persist_s` away where the log has
    enough messages there."""
    half, least, count = round(policy.step_persist_s * NANOSECONDS / 2), policy.step_messages, len(log_ns)
    if first < least or count - first < least:
        return [], []
    last, start = int(log_ns[first - 1]), int(log_ns[first])
    if last - int(log_ns[0]) < half or int(log_ns[-1]) - start < half:
        return [], []  # too little on one side to know that the change stays
    near = min(int(np.searchsorted(log_ns, last - half, "left")), first - least)
    far = int(np.searchsorted(log_ns, last - 2 * half, "left"))
    before = [(max(near, first - MAX_SIDE), first)] + ([(far, near)] if near - far >= least else [])
    near = max(int(np.searchsorted(log_ns, start + half, "right")), first + least)
    far = int(np.searchsorted(log_ns, start + 2 * half, "right"))
    after = [(first, min(near, first + MAX_SIDE))] + ([(near, far)] if far - near >= least else [])
    return before, after


def _localise(first: int, log_ns: Ns, offset_ns: Floats, policy: ClockPolicy) -> int:
    """The split into two levels that explains the messages around `first` best (least absolute error, each
    message counting at most as one wrong side)."""
    before, after = _slices(first, log_ns, policy)
    begin, end = before[0][0], after[0][1]
    part = offset_ns[begin:end]
    levels = [_lowest(offset_ns[a:b], policy) for a, b in (before[0], after[0])]
    most = abs(levels[1] - levels[0])
    old, new = (np.minimum(np.abs(part - level), most) for level in levels)
    cost = np.concatenate([[0.0], np.cumsum(old)]) + np.concatenate([np.cumsum(new[::-1])[::-1], [0.0]])
    return begin + int(np.clip(cost.argmin(), 1, len(part) - 1))


def confirmed(
    steps: tuple[Step, ...], log_ns: Ns, offset_ns: Floats, slope: float, policy: ClockPolicy
) -> tuple[Step, ...]:
    """Steps that the lower envelope far around them shows, too, once the drift of `slope` (ns per ns) is taken
    off; the least sure one goes first, because its neighbours then see farther.

    This is what tells a step from a time of heavy jitter, and from a gap in the log of a drifting clock.
    """
    rest = offset_ns - slope * (log_ns - log_ns[0]).astype(np.float64)
    reach_ns = round(FAR * policy.step_persist_s * NANOSECONDS)
    while steps:
        bounds = [0, *(step.first for step in steps), len(log_ns)]
        shares = []
        for i, step in enumerate(steps):
            begin = max(bounds[i], int(np.searchsorted(log_ns, log_ns[step.first - 1] - reach_ns)))
            end = min(bounds[i + 2], int(np.searchsorted(log_ns, log_ns[step.first] + reach_ns, "right")))
            size = _lowest(rest[step.first : end], policy) - _lowest(rest[begin : step.first], policy)
            least = max(policy.min_step_s * NANOSECONDS, abs(step.size_ns) / 2)
            shares.append(size * np.sign(step.size_ns) / least)
        weakest = int(np.argmin(shares))
        if shares[weakest] >= 1:
            break
        steps = steps[:weakest] + steps[weakest + 1 :]
    return steps
