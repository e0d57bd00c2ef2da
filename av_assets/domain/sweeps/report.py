"""What came out of a sweep, in figures: who won, what it cost, which numbers matter, whether other seeds agree.

Belongs here: the contents of report.json, the leaderboard and the proposed training policy. Does not belong here:
pictures, publishing.
"""

from __future__ import annotations

import json
from typing import Any, Final

import optuna
import pyarrow as pa
import yaml
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from av_assets.domain.sweeps.budget import REFUSED, SECONDS, spent
from av_assets.domain.sweeps.leaders import METRICS, is_feasible, leaders, pareto, stability
from av_assets.domain.sweeps.seeds import seed_of
from av_assets.domain.sweeps.study import values_of
from av_assets.policies.sweeps import SweepPolicy, training_policy

LEADERBOARD: Final = pa.schema(
    [
        pa.field("sweep", pa.string()),
        pa.field("number", pa.int64()),
        pa.field("kind", pa.string()),
        pa.field("origin", pa.int64()),
        pa.field("state", pa.string()),
        pa.field("place", pa.int64()),  # among the trials that may win; null for all others
        pa.field("value", pa.float64()),  # of the first goal; null where the trial did not end by itself
        pa.field("feasible", pa.bool_()),
        pa.field("on_front", pa.bool_()),
        pa.field("epochs", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("reason", pa.string()),
        pa.field("values", pa.string()),  # JSON: the fields of the training policy that it changed
        pa.field("metrics", pa.string()),  # JSON
        pa.field("constraints", pa.string()),  # JSON: by how much each is broken; 0 or less is kept
    ]
)
MIN_FOR_FANOVA: Final = 4


def sweep_report(study: optuna.Study, spec: SweepPolicy) -> dict[str, Any]:
    """report.json: the counts, the cost, the winner, the front, the order under other seeds and the importances."""
    trials = study.get_trials(deepcopy=False)
    launched = [t for t in trials if REFUSED not in t.user_attrs]
    used, budget = spent(trials, spec.budget), spec.budget
    steady = stability(trials, spec)
    best = chosen(trials, spec)
    return {
        "sweep": spec.sweep,
        "specification": spec.digest,
        "trials": {
            state: sum(_state(t) == state for t in launched) for state in sorted({*map(_state, launched)})
        },
        "spent": {
            "trials": [used.trials, budget.trials],
            "compute_hours": [used.compute_hours, budget.compute_hours],
            "money": [used.money, budget.money],
            "unit": budget.unit,
            "currency": budget.currency,
        },
        "best": None if best is None else _summary(best, spec),
        "reason": "" if best else "no trial ended by itself and keeps every constraint",
        "front": [_summary(t, spec) for t in pareto(trials, spec)] if len(spec.goals) > 1 else [],
        "stability": steady,
        "importance": importance(study, spec),
    }


def chosen(trials: list[FrozenTrial], spec: SweepPolicy) -> FrozenTrial | None:
    """The winner: best by the mean over all its seeds where the best were taught again, else the first of them."""
    found = leaders(trials, spec)
    means = stability(trials, spec)["means"]
    if not found:
        return None
    sign = -1 if spec.goals[0].direction == "maximize" else 1
    again = [t for t in found if str(t.number) in means]
    return min(again, key=lambda t: (sign * means[str(t.number)], t.number)) if again else found[0]


def leaderboard(study: optuna.Study, spec: SweepPolicy) -> pa.Table:
    """Every trial that was launched, those that may win first."""
    trials = study.get_trials(deepcopy=False)
    places = {t.number: place for place, t in enumerate(leaders(trials, spec), start=1)}
    front = {t.number for t in pareto(trials, spec)}
    launched = [t for t in trials if REFUSED not in t.user_attrs]
    ordered = sorted(launched, key=lambda t: (places.get(t.number, len(trials) + 1), t.number))
    rows = [_row(t, spec, places.get(t.number), t.number in front) for t in ordered]
    return pa.Table.from_pylist(rows, schema=LEADERBOARD)


def proposed_policy(study: optuna.Study, spec: SweepPolicy) -> str | None:
    """The winner as YAML of a training policy with the next version; None without a winner."""
    best = chosen(study.get_trials(deepcopy=False), spec)
    if best is None:
        return None
    from av_assets.policies.training import TrainingPolicy

    shipped = TrainingPolicy.load()
    major, minor, _ = (int(part) for part in shipped.version.split("."))
    fields = training_policy(spec, values_of(spec, best.params)).model_dump(mode="json")
    fields |= {"version": f"{major}.{minor + 1}.0", "max_seconds": shipped.max_seconds}
    text: str = yaml.safe_dump(fields, sort_keys=False)
    return text


def importance(study: optuna.Study, spec: SweepPolicy) -> dict[str, Any]:
    """Share of each number in the outcome, by fANOVA (whole space) and PED-ANOVA (reaching the best), or why not."""
    complete = [
        t
        for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if t.user_attrs.get("kind") == "explore"
    ]
    if len(complete) < MIN_FOR_FANOVA or len({t.value for t in complete}) < 2:
        return {"reason": f"{len(complete)} trials ran to their end, {MIN_FOR_FANOVA} that differ are needed"}
    sign = -1.0 if spec.goals[0].direction == "maximize" else 1.0
    only = optuna.create_study(direction="minimize")
    only.add_trials([_copied(t, sign) for t in complete])
    fanova = FanovaImportanceEvaluator(seed=seed_of(spec.seed, "importance"))
    # A tenth of few trials is one: PED-ANOVA wants several at the top.
    top = PedAnovaImportanceEvaluator(target_quantile=max(0.1, min(0.5, 5 / len(complete))))
    return {
        "trials": len(complete),
        "fanova": _shares(only, fanova),
        "ped_anova": _shares(only, top),
    }


def _shares(study: optuna.Study, evaluator: Any) -> dict[str, float]:
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in sorted(found.items(), key=lambda item: -item[1])}


def _copied(trial: FrozenTrial, sign: float) -> FrozenTrial:
    return optuna.trial.create_trial(
        params=trial.params, distributions=trial.distributions, value=sign * float(trial.value or 0.0)
    )


def _summary(trial: FrozenTrial, spec: SweepPolicy) -> dict[str, Any]:
    return {
        "number": trial.number,
        "value": trial.value,
        "values": values_of(spec, trial.params),
        "metrics": trial.user_attrs.get(METRICS, {}),
        "seed": trial.user_attrs.get("trial_seed"),
    }


def _row(trial: FrozenTrial, spec: SweepPolicy, place: int | None, on_front: bool) -> dict[str, Any]:
    held, ended = trial.user_attrs, trial.state.is_finished()
    return {
        "sweep": spec.sweep,
        "number": trial.number,
        "kind": held.get("kind"),
        "origin": held.get("origin"),
        "state": _state(trial),
        "place": place,
        "value": trial.value if trial.state == TrialState.COMPLETE else None,
        "feasible": is_feasible(trial, spec) if trial.state == TrialState.COMPLETE else None,
        "on_front": on_front,
        "epochs": trial.last_step,
        "seed": held.get("trial_seed"),
        "seconds": held.get(SECONDS) if ended else None,
        "reason": held.get("reason", ""),
        "values": json.dumps(values_of(spec, trial.params), sort_keys=True),
        "metrics": json.dumps(held.get(METRICS, {}), sort_keys=True),
        "constraints": json.dumps(trial.constraints, sort_keys=True),
    }


def _state(trial: FrozenTrial) -> str:
    return "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()
