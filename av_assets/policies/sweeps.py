"""What a sweep may try, what it may cost, and what its winner must keep: the specification of one search.

Belongs here: the ranges, the budget and the constraints, and refusing those that contradict each other. Does not belong
here: asking for trials, training, judging.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from av_assets.policies import Policy
from av_assets.policies.training import TrainingPolicy

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Scalar = bool | int | float | str
MAX_DIMENSIONS: Final = 64
TRAINING_SHARE: Final = 0.8
"""Of the time that a trial may take; the rest is for starting, for the last score and for measuring the latency."""
SWEEP_ID: Final = r"^[a-z0-9]+(-[a-z0-9]+)*$"
"""No dot: a dot parts the name of a sweep from the number of a trial."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FloatRange(_Part):
    """Real numbers from low to high, both included."""

    kind: Literal["float"]
    low: Annotated[float, Field(allow_inf_nan=False)]
    high: Annotated[float, Field(allow_inf_nan=False)]
    log: bool = False
    step: Positive | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _require_sound(self)
        return self


class IntRange(_Part):
    """Whole numbers from low to high, both included."""

    kind: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: Count | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _require_sound(self)
        return self


class Choice(_Part):
    """One of several values; lists (`widths`) are values too."""

    kind: Literal["choice"]
    values: Annotated[tuple[Scalar | tuple[Scalar, ...], ...], Field(min_length=2, max_length=256)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len({json.dumps(value) for value in self.values}) != len(self.values):
            raise ValueError("a value is there twice")
        return self


Dimension = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]


def _require_sound(found: FloatRange | IntRange) -> None:
    if found.low >= found.high:
        raise ValueError(f"low ({found.low}) must be below high ({found.high})")
    if found.log and found.low <= 0:
        raise ValueError("a logarithmic range begins above 0")
    if found.log and found.step is not None:
        raise ValueError("a logarithmic range has no step")


class Pruning(_Part):
    """Which trials end early: of those that reach a rung, one in `eta` goes on."""

    kind: Literal["asha", "hyperband", "none"]
    min_epochs: Count = Field(
        1, description="the first rung; the next ones lie at eta, eta^2, ... times as many"
    )
    eta: Annotated[int, Field(ge=2)] = 3


class Budget(_Part):
    """Hard limits. What a trial may take at most is reserved before it is launched."""

    trials: Count = Field(
        description="all that are launched: also confirmations and repetitions of failed ones"
    )
    trial_seconds: Positive = Field(description="a trial is ended by force when it takes longer than this")
    compute_hours: Positive = Field(description="hours of all trials times units_per_trial")
    unit: Literal["core", "gpu"]
    units_per_trial: Count
    price_per_unit_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    money: Positive | None = Field(description="null: not limited")
    currency: str = "EUR"

    @property
    def hours_per_trial(self) -> float:
        """Compute hours that a trial reserves."""
        return self.trial_seconds * self.units_per_trial / 3600

    @property
    def affordable_trials(self) -> int:
        """Trials that fit if each takes all that it may."""
        limits = [float(self.trials), self.compute_hours / self.hours_per_trial]
        if self.money is not None and self.price_per_unit_hour:
            limits.append(self.money / (self.hours_per_trial * self.price_per_unit_hour))
        return int(min(limits) + 1e-9)


class Goal(_Part):
    """A figure of a trial and which way is better; the first goal decides, all of them make the Pareto set."""

    metric: str
    direction: Literal["maximize", "minimize"]


class Constraint(_Part):
    """What a trial must keep to be chosen. A figure that is not known keeps nothing."""

    metric: str
    max: float | None = None
    min: float | None = None
    max_loss: Annotated[float, Field(ge=0)] | None = Field(
        None, description="may fall below the baseline's figure by this at most"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.max is None and self.min is None and self.max_loss is None:
            raise ValueError(f"{self.metric}: give max, min or max_loss")
        if self.max is not None and self.min is not None and self.max < self.min:
            raise ValueError(f"{self.metric}: nothing is above {self.min} and below {self.max}")
        return self


class Confirmation(_Part):
    """The best trials are taught again with other seeds; all seeds must give the same order."""

    top: Annotated[int, Field(ge=0)]
    seeds: Annotated[int, Field(ge=0)]


class SweepPolicy(Policy):
    """One search. Equal digest, dataset and order of trials: the same suggestions and seeds."""

    name: ClassVar[str] = "sweeps"

    sweep: Annotated[str, Field(pattern=SWEEP_ID, max_length=60)]
    week: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = Field(
        description="week of the golden dataset; null: the newest when the sweep is started"
    )
    baseline: str | None = Field(description="release that max_loss compares with, or production; null: none")
    seed: Annotated[int, Field(ge=0)]
    sampler: Literal["tpe", "random"]
    startup_trials: Count = Field(description="drawn at random before TPE looks at what came out")
    parallel: Count = Field(description="trials that may run at the same time")
    attempts: Count = Field(description="how often a trial that died is launched altogether")
    pruning: Pruning
    budget: Budget
    goals: Annotated[tuple[Goal, ...], Field(min_length=1, max_length=4)]
    constraints: tuple[Constraint, ...]
    confirm: Confirmation
    latency_runs: Count = Field(description="inferences behind latency_p95_ms")
    fixed: dict[str, Any] = Field(description="fields of the training policy that all trials change")
    space: Annotated[dict[str, Dimension], Field(min_length=1, max_length=MAX_DIMENSIONS)]

    @property
    def confirmations(self) -> int:
        return self.confirm.top * self.confirm.seeds

    @property
    def metrics(self) -> frozenset[str]:
        """Every figure that the specification asks of a trial."""
        return frozenset([*(g.metric for g in self.goals), *(c.metric for c in self.constraints)])

    @field_validator("space", "fixed")
    @classmethod
    def _fields_exist(cls, found: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(found) - set(TrainingPolicy.model_fields) | set(found) & {"version"}):
            raise ValueError(f"no fields of the training policy: {', '.join(unknown)}")
        return found

    @model_validator(mode="after")
    def _does_not_contradict_itself(self) -> Self:
        for reason in self._contradictions():
            raise ValueError(reason)
        return self

    def _contradictions(self) -> list[str]:
        both = sorted(set(self.space) & set(self.fixed))
        names = [goal.metric for goal in self.goals]
        fitting, needed = self.budget.affordable_trials, self.confirmations + 1
        compared = [c.metric for c in self.constraints if c.max_loss is not None]
        prunes = self.pruning.kind != "none"
        found = {
            f"{', '.join(both)}: fixed and searched at once": bool(both),
            "a goal is named twice": len(set(names)) != len(names),
            f"the budget holds {fitting} trials, the confirmations and one trial need {needed}": fitting
            < needed,
            "a limit of money needs price_per_unit_hour": self.budget.money is not None
            and not self.budget.price_per_unit_hour,
            f"{', '.join(compared)}: max_loss needs a baseline": bool(compared) and self.baseline is None,
            "epochs cannot be searched while pruning compares trials by epoch": prunes
            and "epochs" in self.space,
            "confirm: top needs seeds, and seeds need top": bool(self.confirm.top)
            != bool(self.confirm.seeds),
            "an order needs at least two: confirm.top is 1": self.confirm.top == 1,
        }
        return [reason for reason, wrong in found.items() if wrong] + self._training_contradictions()

    def _training_contradictions(self) -> list[str]:
        """What the training policy itself would refuse at the first value of every dimension."""
        first = {n: d.values[0] if isinstance(d, Choice) else d.low for n, d in self.space.items()}
        try:
            policy = training_policy(self, first)
        except ValueError as error:
            return [f"the training policy refuses the first point of the space: {error}"]
        if self.pruning.kind != "none" and self.pruning.min_epochs > policy.epochs:
            return [f"pruning.min_epochs is {self.pruning.min_epochs}, a trial has {policy.epochs} epochs"]
        return []


def training_policy(spec: SweepPolicy, values: dict[str, Any]) -> TrainingPolicy:
    """The training policy of one point of the space.

    Raises:
        ValueError: the training policy refuses it.
    """
    fields = TrainingPolicy.load().model_dump() | spec.fixed | values
    fields["max_seconds"] = min(float(fields["max_seconds"]), TRAINING_SHARE * spec.budget.trial_seconds)
    return TrainingPolicy.model_validate(fields)
