"""Which trials are launched next: repetitions of those that died, new ones, and confirmations of the best.

Belongs here: the order of a sweep. Does not belong here: suggestions (`study`), limits (`budget`), running (`trial`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from av_assets.domain.errors import EvidenceError
from av_assets.domain.sweeps.budget import REFUSED, may_launch
from av_assets.domain.sweeps.leaders import explored, leaders
from av_assets.domain.sweeps.seeds import seed_of
from av_assets.domain.sweeps.study import distributions, values_of
from av_assets.policies.sweeps import SweepPolicy

Kind = Literal["explore", "confirm"]
KIND, ORIGIN, SEED, REASON = "kind", "origin", "trial_seed", "reason"
LAUNCHED: Final = "launched"
DIED: Final = "died"
"""Attribute of a trial whose process ended without a word."""


@dataclass(frozen=True)
class Launch:
    """A trial that is to run.

    Attributes:
        origin: the trial that it repeats or confirms; itself where it does neither.
        resumes: whether it goes on where its origin stopped.
    """

    number: int
    values: dict[str, Any]
    seed: int
    kind: Kind
    origin: int

    @property
    def resumes(self) -> bool:
        return self.kind == "explore" and self.origin != self.number


def ask(study: optuna.Study, spec: SweepPolicy) -> list[Launch]:
    """As many trials as may start now; they are reserved when this returns.

    No limit of the budget is passed, whoever asks at the same time. That no more than `parallel` run, and none more
    often than `attempts`, holds for one who asks alone, as a sensor does.
    """
    found: list[Launch] = []
    while len(running(study)) < spec.parallel and _prepare(study, spec):
        # What was enqueued comes first; a trial without a seed is a new one.
        asked = study.ask(distributions(spec))
        if SEED not in asked.user_attrs:
            _mark(asked, "explore", asked.number, seed_of(spec.seed, "trial", asked.number))
        launched = _decide(study, spec, asked.number)
        if not launched:
            break
        found += launched
    return found


def take_up(study: optuna.Study, spec: SweepPolicy) -> list[Launch]:
    """Decide about trials that somebody asked for and died before deciding; nobody may be asking at the same time."""
    left = [trial.number for trial in running(study) if LAUNCHED not in trial.user_attrs]
    return [launch for number in left for launch in _decide(study, spec, number)]


def running(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def is_over(study: optuna.Study, spec: SweepPolicy) -> bool:
    """Whether nothing runs and nothing more may be launched."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
    return not waiting and not _next(study, spec)


def launch_of(study: optuna.Study, spec: SweepPolicy, number: int) -> Launch:
    """A trial that was launched.

    Raises:
        EvidenceError: no_such_trial.
    """
    trial = trial_of(study, number)
    held = trial.user_attrs
    if LAUNCHED not in held:
        raise EvidenceError(
            f"trial {number} of {spec.sweep} was not launched",
            code="no_such_trial",
            remedy="trials are launched by the sensor; av sweeps status shows them",
        )
    return Launch(number, values_of(spec, trial.params), held[SEED], held[KIND], held[ORIGIN])


def trial_of(study: optuna.Study, number: int) -> FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise EvidenceError(f"{study.study_name} has no trial {number}", code="no_such_trial")
    return trials[number]


def fail(study: optuna.Study, number: int, reason: str) -> bool:
    """Count a trial that ended without a word as failed; false where it has ended already."""
    if trial_of(study, number).state.is_finished():
        return False
    handle = _handle(study, number)
    handle.set_user_attr(DIED, True)
    handle.set_user_attr(REASON, reason)
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    return True


def _prepare(study: optuna.Study, spec: SweepPolicy) -> bool:
    """Whether there is something to launch; a repetition or a confirmation is enqueued for it."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if waiting:
        return True
    wanted = _next(study, spec)
    if wanted is None:
        return False
    if wanted != "new":
        trial, attributes = wanted
        study.enqueue_trial(trial.params, user_attrs=attributes)
    return True


Wanted = Literal["new"] | tuple[FrozenTrial, dict[str, Any]] | None


def _next(study: optuna.Study, spec: SweepPolicy) -> Wanted:
    """What comes next, or None: repetitions first, then new trials, then confirmations."""
    trials = study.get_trials(deepcopy=False)
    number = len(trials)
    repeated = _to_repeat(trials, spec)
    if repeated is not None:
        kept_back = spec.confirmations if repeated.user_attrs[KIND] == "explore" else 0
        if may_launch(trials, number, spec.budget, kept_back):
            names = (KIND, ORIGIN, SEED)
            return repeated, {name: repeated.user_attrs[name] for name in names}
    if not _confirming(trials) and may_launch(trials, number, spec.budget, spec.confirmations):
        return "new"
    if any(not trial.state.is_finished() for trial in explored(trials)):
        return None  # who is best is not known yet
    confirmed = _to_confirm(trials, spec)
    return confirmed if confirmed and may_launch(trials, number, spec.budget) else None


def _confirming(trials: Sequence[FrozenTrial]) -> bool:
    """Whether the best were chosen already: what came later could not be confirmed beside them."""
    return any(trial.user_attrs.get(KIND) == "confirm" for trial in trials)


def _to_repeat(trials: Sequence[FrozenTrial], spec: SweepPolicy) -> FrozenTrial | None:
    """The first trial that died and whose attempts are not used up."""
    attempts: dict[tuple[Any, ...], list[FrozenTrial]] = {}
    for trial in trials:
        if LAUNCHED in trial.user_attrs or not trial.state.is_finished():
            held = trial.user_attrs
            attempts.setdefault((held.get(KIND), held.get(ORIGIN), held.get(SEED)), []).append(trial)
    for tried in attempts.values():
        if len(tried) < spec.attempts and all(t.user_attrs.get(DIED) for t in tried):
            return tried[-1]
    return None


def _to_confirm(
    trials: Sequence[FrozenTrial], spec: SweepPolicy
) -> tuple[FrozenTrial, dict[str, Any]] | None:
    """The next pair of one of the best and a new seed; every one of the best gets the same new seeds."""
    there = {
        (t.user_attrs.get(ORIGIN), t.user_attrs.get(SEED))
        for t in trials
        if t.user_attrs.get(KIND) == "confirm"
    }
    for index in range(spec.confirm.seeds):
        seed = seed_of(spec.seed, "confirm", index)
        for best in leaders(trials, spec)[: spec.confirm.top]:
            if (best.number, seed) not in there:
                return best, {KIND: "confirm", ORIGIN: best.number, SEED: seed}
    return None


def _decide(study: optuna.Study, spec: SweepPolicy, number: int) -> list[Launch]:
    """Launch a trial that has a number, or give it up where it does not fit."""
    trials = study.get_trials(deepcopy=False)
    trial, handle = trials[number], _handle(study, number)
    kept_back = spec.confirmations if trial.user_attrs.get(KIND) == "explore" else 0
    whole = set(trial.params) == set(spec.space) and SEED in trial.user_attrs
    if whole and may_launch(trials, number, spec.budget, kept_back):
        handle.set_user_attr(LAUNCHED, True)
        return [launch_of(study, spec, number)]
    handle.set_user_attr(REFUSED, "budget" if whole else "never described")
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    return []


def _mark(trial: optuna.Trial, kind: Kind, origin: int, seed: int) -> None:
    for name, value in ((KIND, kind), (ORIGIN, origin), (SEED, seed)):
        trial.set_user_attr(name, value)


def _handle(study: optuna.Study, number: int) -> optuna.Trial:
    return optuna.Trial(study, trial_of(study, number)._trial_id)
