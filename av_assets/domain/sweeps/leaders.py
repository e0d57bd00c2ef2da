"""Who is best: only trials that ran to their end and keep every constraint are compared.

Belongs here: order, constraints, the Pareto set, whether other seeds agree. Does not belong here: pictures, files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from optuna.trial import FrozenTrial, TrialState

from av_assets.policies.sweeps import Constraint, Goal, SweepPolicy

METRICS: Final = "metrics"
UNKNOWN: Final = math.inf
"""Violation of a constraint whose figure, or whose baseline, is not known."""


def violations(
    constraints: Sequence[Constraint], metrics: Mapping[str, float], baseline: Mapping[str, float]
) -> dict[str, float]:
    """By how much each constraint is broken; 0 or less is kept."""
    found: dict[str, float] = {}
    for one in constraints:
        value = metrics.get(one.metric)
        known = value is not None and math.isfinite(value)
        if one.max is not None:
            found[f"{one.metric} <= {one.max}"] = value - one.max if known and value is not None else UNKNOWN
        if one.min is not None:
            found[f"{one.metric} >= {one.min}"] = one.min - value if known and value is not None else UNKNOWN
        if one.max_loss is not None:
            was = baseline.get(one.metric)
            named = f"{one.metric} >= baseline - {one.max_loss}"
            compared = known and value is not None and was is not None
            found[named] = was - one.max_loss - value if compared else UNKNOWN  # type: ignore[operator]
    return found


def is_feasible(trial: FrozenTrial, spec: SweepPolicy) -> bool:
    """Whether the trial was judged by every constraint and keeps them all."""
    held = trial.constraints
    return len(held) >= len(spec.constraints) and all(value <= 0 for value in held.values())


def explored(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials of the search itself, without confirmations and without what was never launched."""
    return [t for t in trials if t.user_attrs.get("kind") == "explore" and "refused" not in t.user_attrs]


def leaders(trials: Sequence[FrozenTrial], spec: SweepPolicy) -> list[FrozenTrial]:
    """Complete trials that keep every constraint, the best first; of equals the earlier one is better."""
    sign = -1.0 if spec.goals[0].direction == "maximize" else 1.0
    found = [t for t in explored(trials) if t.state == TrialState.COMPLETE and is_feasible(t, spec)]
    return sorted(found, key=lambda t: (sign * (t.value or 0.0), t.number))


def pareto(trials: Sequence[FrozenTrial], spec: SweepPolicy) -> list[FrozenTrial]:
    """Those of the leaders that no other one beats in every goal, by number; a trial without a figure is left out."""
    known = [(t, _costs(t, spec.goals)) for t in leaders(trials, spec)]
    rows = [(t, costs) for t, costs in known if costs is not None]
    front = [t for t, costs in rows if not any(_dominates(other, costs) for _, other in rows)]
    return sorted(front, key=lambda t: t.number)


def _costs(trial: FrozenTrial, goals: Sequence[Goal]) -> tuple[float, ...] | None:
    metrics = trial.user_attrs.get(METRICS, {})
    values = [metrics.get(goal.metric) for goal in goals]
    if any(value is None or not math.isfinite(value) for value in values):
        return None
    return tuple(-v if goal.direction == "maximize" else v for v, goal in zip(values, goals, strict=True))


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def stability(trials: Sequence[FrozenTrial], spec: SweepPolicy) -> dict[str, Any]:
    """Whether the best trials come out in the same order with every other seed.

    Gives the state ("stable", "unstable", "not_asked", "incomplete"), the order by the sweep's own seeds and by each
    new seed, and the mean of each trial over all its seeds.
    """
    best = leaders(trials, spec)[: spec.confirm.top]
    again = [t for t in trials if t.user_attrs.get("kind") == "confirm" and t.state == TrialState.COMPLETE]
    values = {t.number: {"own": float(t.value or 0.0)} for t in best}
    for trial in again:
        if (origin := trial.user_attrs["origin"]) in values:
            values[origin][str(trial.user_attrs["trial_seed"])] = float(trial.value or 0.0)
    seeds = sorted({seed for held in values.values() for seed in held})
    whole = len(best) >= 2 and all(len(held) == spec.confirm.seeds + 1 for held in values.values())
    sign = -1 if spec.goals[0].direction == "maximize" else 1
    # Strictly better, or the seed does not confirm that order.
    agree = whole and all(
        sign * values[a.number][seed] < sign * values[b.number][seed]
        for a, b in pairwise(best)
        for seed in seeds
    )
    state = "stable" if agree else "unstable" if whole else "incomplete"
    return {
        "state": state if spec.confirmations else "not_asked",
        "order": [t.number for t in best],
        "values": {str(number): held for number, held in values.items()},
        "means": {str(number): sum(held.values()) / len(held) for number, held in values.items()},
    }
