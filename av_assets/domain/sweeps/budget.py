"""Hard limits without a lock: what a trial may take at most is reserved before it is launched.

Trials are numbered by the storage. Trial n may be launched when the trials below n, each at what it took or, while that
is not known, at all that it may take, leave room for n. No trial ever takes more than it reserved, so whoever decides
at the same time, and in whichever order, the sum of all that are launched stays below every limit: it was below when
the highest of them was launched, and the others only got cheaper since.
Belongs here: that arithmetic. Does not belong here: launching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from optuna.trial import FrozenTrial

from av_assets.policies.sweeps import Budget

REFUSED: Final = "refused"
"""Attribute of a trial that was never launched, with the reason; it costs nothing."""
SECONDS: Final = "seconds"
"""Attribute of a trial that ended by itself: what it took. One that was killed took all that it reserved."""
_TOLERANCE: Final = 1e-9


@dataclass(frozen=True)
class Spent:
    """What was used up or is reserved."""

    trials: int
    compute_hours: float
    money: float

    def within(self, budget: Budget) -> bool:
        money = budget.money is None or self.money <= budget.money + _TOLERANCE
        return (
            self.trials <= budget.trials and self.compute_hours <= budget.compute_hours + _TOLERANCE and money
        )


def spent(trials: Sequence[FrozenTrial], budget: Budget, extra: int = 0) -> Spent:
    """What `trials` have used up or reserved, and `extra` more of which nothing is known."""
    launched = [trial for trial in trials if REFUSED not in trial.user_attrs]
    hours = sum(_hours(trial, budget) for trial in launched) + extra * budget.hours_per_trial
    return Spent(len(launched) + extra, hours, hours * budget.price_per_unit_hour)


def may_launch(trials: Sequence[FrozenTrial], number: int, budget: Budget, kept_back: int = 0) -> bool:
    """Whether trial `number` fits beside those below it, with `kept_back` more trials of full cost after it."""
    below = [trial for trial in trials if trial.number < number]
    return spent(below, budget, extra=1 + kept_back).within(budget)


def _hours(trial: FrozenTrial, budget: Budget) -> float:
    seconds = trial.user_attrs.get(SECONDS) if trial.state.is_finished() else None
    taken = budget.trial_seconds if seconds is None else min(float(seconds), budget.trial_seconds)
    return taken * budget.units_per_trial / 3600
