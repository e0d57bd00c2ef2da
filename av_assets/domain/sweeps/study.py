"""A sweep as an Optuna study: its space, its sampler, its pruner.

The suggestion for trial n depends on the seed, on n and on the trials that are there when it is asked for, and on
nothing that lives in a process: a sweep that was killed goes on as if it had not been.
Belongs here: translating a specification. Does not belong here: budgets, running trials.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from av_assets.domain.sweeps.seeds import seed_of
from av_assets.policies.sweeps import Choice, FloatRange, SweepPolicy
from av_assets.policies.training import TrainingPolicy

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_study(storage: BaseStorage, spec: SweepPolicy) -> optuna.Study:
    """The study of a sweep, made where it is missing."""
    return optuna.create_study(
        study_name=spec.sweep,
        storage=storage,
        direction=spec.goals[0].direction,
        sampler=NumberedSampler(lambda number: _sampler(spec, number)),
        pruner=_pruner(spec),
        load_if_exists=True,
    )


def distributions(spec: SweepPolicy) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for name, part in spec.space.items():
        if isinstance(part, Choice):
            found[name] = CategoricalDistribution([_stored(value) for value in part.values])
        elif isinstance(part, FloatRange):
            found[name] = FloatDistribution(part.low, part.high, log=part.log, step=part.step)
        else:
            found[name] = IntDistribution(part.low, part.high, log=part.log, step=part.step or 1)
    return found


def values_of(spec: SweepPolicy, params: dict[str, Any]) -> dict[str, Any]:
    """Optuna's parameters as fields of the training policy."""
    lists = {
        name: {_stored(value): value for value in part.values}
        for name, part in spec.space.items()
        if isinstance(part, Choice)
    }
    return {name: lists[name][value] if name in lists else value for name, value in params.items()}


def epochs_of(spec: SweepPolicy, values: dict[str, Any]) -> int:
    """Epochs of a trial that nothing ends early."""
    return int({**spec.fixed, **values}.get("epochs", TrainingPolicy.load().epochs))


def _stored(value: Any) -> Any:
    """Optuna keeps single values only: a list is kept as its text."""
    return json.dumps(value) if isinstance(value, tuple) else value


def _pruner(spec: SweepPolicy) -> BasePruner:
    pruning = spec.pruning
    if pruning.kind == "asha":
        return SuccessiveHalvingPruner(pruning.min_epochs, pruning.eta)
    if pruning.kind == "hyperband":
        return HyperbandPruner(pruning.min_epochs, epochs_of(spec, {}), pruning.eta)
    return NopPruner()


def _sampler(spec: SweepPolicy, number: int) -> BaseSampler:
    seed = seed_of(spec.seed, "suggest", number)
    if spec.sampler == "random":
        return RandomSampler(seed)
    return TPESampler(seed=seed, n_startup_trials=spec.startup_trials)


class NumberedSampler(BaseSampler):
    """Asks another sampler for each trial number, made for that number alone."""

    def __init__(self, make: Callable[[int], BaseSampler]) -> None:
        self._make = make

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._make(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._make(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        # Several parameters of one trial, and one seed: the name parts them.
        number = seed_of(trial.number, param_name)
        return self._make(number).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._make(trial.number).after_trial(study, trial, state, values)
