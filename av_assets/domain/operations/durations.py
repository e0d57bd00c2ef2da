"""How long remaking takes: quantiles of what was measured, and the time on the wall with as many runs as pools allow.

Belongs here: figures from samples. Does not belong here: where samples come from, what is remade (`impact`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

UNKNOWN = "unknown (no run yet)"


class Quantiles(NamedTuple):
    """Seconds at p50 and p90 of `n` measured runs; both None where there was none."""

    n: int
    p50_s: float | None
    p90_s: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Quantiles:
        """Nearest-rank quantiles: each is a run that there was. Values that are no durations are left out."""
        held = sorted(s for s in seconds if math.isfinite(s) and s >= 0)
        if not held:
            return cls(0, None, None)
        return cls(len(held), *(held[max(0, math.ceil(share * len(held)) - 1)] for share in (0.5, 0.9)))


class Task(NamedTuple):
    """One partition to remake: what it is called, its pool, the tasks that must be done before."""

    name: tuple[str, str]
    pool: str
    after: tuple[tuple[str, str], ...] = ()


class Estimate(NamedTuple):
    """Time on the wall if everything is remade; `unknown` assets count as nothing, so that it is a lower bound."""

    p50_s: float
    p90_s: float
    unknown: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        return not self.unknown


def estimate(
    tasks: Sequence[Task], measured: Mapping[str, Quantiles], limits: Mapping[str, int], runs: int
) -> Estimate:
    """Wall time with at most `limits` tasks of a pool and `runs` tasks in all at once.

    p90 takes every task as slow as its asset's p90: a time that is rarely passed, not the p90 of the sum.
    """
    unknown = sorted({t.name[0] for t in tasks if measured.get(t.name[0], Quantiles.of([])).n == 0})

    def total(which: int) -> float:
        return makespan(
            tasks,
            {t.name: float(measured[t.name[0]][which] or 0.0) for t in tasks if t.name[0] in measured},
            limits,
            runs,
        )

    return Estimate(total(1), total(2), tuple(unknown))


def makespan(
    tasks: Sequence[Task], seconds: Mapping[tuple[str, str], float], limits: Mapping[str, int], runs: int
) -> float:
    """When the last task ends if each starts as soon as it may, the first in order first (Graham 1966).

    Tasks that wait for one that is not among `tasks` do not wait. A pool without a limit has `runs`.

    Raises:
        ValueError: tasks wait for each other in a circle, or nothing may ever run.
    """
    if runs < 1 or any(limit < 1 for limit in limits.values()):
        raise ValueError("nothing may ever run")
    rank = {task.name: number for number, task in enumerate(tasks)}
    waiting = {task.name: {name for name in task.after if name in rank} for task in tasks}
    followers: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, above in waiting.items():
        for one in above:
            followers.setdefault(one, []).append(name)
    ready: dict[str, list[int]] = {}
    for task in tasks:
        if not waiting[task.name]:
            heapq.heappush(ready.setdefault(task.pool, []), rank[task.name])
    busy: dict[str, int] = {}
    running: list[tuple[float, int]] = []
    now, done = 0.0, 0
    while done < len(tasks):
        while len(running) < runs:
            open_pools = [p for p, held in ready.items() if held and busy.get(p, 0) < limits.get(p, runs)]
            if not open_pools:
                break
            pool = min(open_pools, key=lambda p: ready[p][0])
            number = heapq.heappop(ready[pool])
            busy[pool] = busy.get(pool, 0) + 1
            heapq.heappush(running, (now + seconds.get(tasks[number].name, 0.0), number))
        if not running:
            raise ValueError("tasks wait for each other")
        now, number = heapq.heappop(running)
        ended = tasks[number]
        busy[ended.pool] -= 1
        done += 1
        for name in followers.get(ended.name, []):
            waiting[name].discard(ended.name)
            if not waiting[name]:
                follower = tasks[rank[name]]
                heapq.heappush(ready.setdefault(follower.pool, []), rank[name])
    return now
