"""One trial: an objective is asked for its figures, told when it is not worth going on, and kept in the study.

The objective is a parameter: teaching a network is one (`teaching`), a known function in a test is another.
Belongs here: reporting, pruning, constraints, the end of a trial. Does not belong here: what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import optuna
from optuna.trial import TrialState

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.domain.sweeps.asking import DIED, REASON, Launch, launch_of, trial_of
from av_assets.domain.sweeps.budget import SECONDS
from av_assets.domain.sweeps.leaders import METRICS, UNKNOWN, violations
from av_assets.domain.sweeps.study import epochs_of
from av_assets.policies.sweeps import SweepPolicy

Report = Callable[[int, float], bool]
"""Takes the epochs done and the first goal's value then; true: stop, this trial is not worth more."""
UNKNOWN_VIOLATION: Final = 1e9
"""How an unknown figure is written down where only finite numbers are taken."""


class Objective(Protocol):
    """What a trial does: gives its figures by name, among them the first goal's."""

    def __call__(self, launch: Launch, report: Report) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Ended:
    """How a trial ended: "complete", "pruned" or "failed"."""

    state: str
    value: float | None
    metrics: dict[str, float]
    violations: dict[str, float]
    steps: dict[int, float]
    reason: str = ""


def run_trial(
    study: optuna.Study,
    spec: SweepPolicy,
    number: int,
    objective: Objective,
    elapsed_s: Callable[[], float],
    baseline: Mapping[str, float],
) -> Ended:
    """Run a launched trial and keep its end in the study.

    Args:
        elapsed_s: seconds since the trial's process began.
        baseline: figures that `max_loss` compares with.

    Raises:
        EvidenceError: no_such_trial; trial_has_ended.
        Exception: whatever the objective raised, after the trial was counted as failed.
    """
    launch = launch_of(study, spec, number)
    found = trial_of(study, number)
    if found.state.is_finished():
        raise EvidenceError(
            f"trial {number} of {spec.sweep} has ended as {found.state.name.lower()}", code="trial_has_ended"
        )
    trial = optuna.Trial(study, found._trial_id)
    # In its last epoch there is nothing left to save: such a trial is complete. A confirmation is never ended early.
    last = epochs_of(spec, launch.values) if launch.kind == "explore" else 0
    reporter = Reporter(trial, last)
    try:
        metrics = dict(objective(launch, reporter))
        value = metrics.get(spec.goals[0].metric)
        if not reporter.pruned and (value is None or not math.isfinite(value)):
            raise EvidenceError(f"the trial gave no {spec.goals[0].metric}", code="no_value")
    except BaseException as error:
        if isinstance(error, TransientError):
            trial.set_user_attr(DIED, True)  # it may be launched again
        _end(study, trial, elapsed_s(), TrialState.FAIL, None, f"{type(error).__name__}: {error}"[:500])
        raise
    broken = {} if reporter.pruned else violations(spec.constraints, metrics, baseline)
    for name, amount in broken.items():
        trial.set_constraint(name, UNKNOWN_VIOLATION if amount == UNKNOWN else amount)
    finite = {name: float(v) for name, v in metrics.items() if math.isfinite(v)}
    trial.set_user_attr(METRICS, finite)
    state = TrialState.PRUNED if reporter.pruned else TrialState.COMPLETE
    _end(study, trial, elapsed_s(), state, None if reporter.pruned else value)
    return Ended(state.name.lower(), value, finite, broken, reporter.values)


class Reporter:
    """Tells the study about each epoch once, and asks it whether to go on."""

    def __init__(self, trial: optuna.Trial, prunes_before: int) -> None:
        self._trial, self._prunes_before = trial, prunes_before
        self.pruned = False
        self.values: dict[int, float] = {}

    def __call__(self, step: int, value: float) -> bool:
        if step not in self.values and not self.pruned:
            self.values[step] = value
            self._trial.report(value, step)
            self.pruned = step < self._prunes_before and self._trial.should_prune()
        return self.pruned


def _end(
    study: optuna.Study,
    trial: optuna.Trial,
    seconds: float,
    state: TrialState,
    value: Any,
    reason: str = "",
) -> None:
    trial.set_user_attr(SECONDS, seconds)
    if reason:
        trial.set_user_attr(REASON, reason)
    study.tell(trial, value, state=state, skip_if_finished=True)
