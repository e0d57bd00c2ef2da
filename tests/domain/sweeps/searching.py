"""Sweeps over known functions through the machinery that teaches networks: no network, no waiting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna

from av_assets.domain.sweeps.asking import Launch, ask
from av_assets.domain.sweeps.journal import open_storage
from av_assets.domain.sweeps.study import open_study
from av_assets.domain.sweeps.trial import Ended, Report, run_trial
from av_assets.policies.sweeps import SweepPolicy

EPOCHS = 9
BEST = {"learning_rate": 0.3, "weight_decay": 0.7}


def spec_of(**changes: Any) -> SweepPolicy:
    """Two numbers between 0 and 1, room for everything; `budget` and `confirm` may be given in part."""
    shipped = SweepPolicy.load().model_dump()
    unit = {"kind": "float", "low": 0.001, "high": 1.0}
    data = shipped | {
        "sweep": "known",
        "parallel": 1,
        "startup_trials": 10,
        "fixed": {"epochs": EPOCHS},
        "space": dict.fromkeys(BEST, unit),
        "goals": [{"metric": "val_map50", "direction": "maximize"}],
        "constraints": [],
        "pruning": {"kind": "none", "min_epochs": 1, "eta": 3},
        "confirm": {"top": 0, "seeds": 0},
    }
    room = {"trials": 40, "trial_seconds": 36.0, "compute_hours": 10.0, "money": None}
    budget = shipped["budget"] | room | changes.pop("budget", {})
    return SweepPolicy.model_validate(data | {"budget": budget} | changes)


def quadratic(launch: Launch, report: Report) -> Mapping[str, float]:
    """1 at BEST, and on the way there a little less each epoch earlier."""
    top = 1.0 - sum((float(launch.values[name]) - best) ** 2 for name, best in BEST.items())
    for epoch in range(1, EPOCHS + 1):
        if report(epoch, top - 0.1 * (EPOCHS - epoch) / EPOCHS):
            break
    return {"val_map50": top, "parameters": 1000.0 * float(launch.values["learning_rate"])}


def study_at(place: Path, spec: SweepPolicy) -> optuna.Study:
    return open_study(open_storage(place / "study.journal"), spec)


def sweep(
    study: optuna.Study,
    spec: SweepPolicy,
    objective: Callable[[Launch, Report], Mapping[str, float]] = quadratic,
    seconds: float = 1.0,
    at_most: int = 10_000,
    baseline: Mapping[str, float] | None = None,
) -> dict[int, Ended]:
    """Ask and run until nothing more may be launched."""
    ended: dict[int, Ended] = {}
    while len(ended) < at_most and (launches := ask(study, spec)):
        for launch in launches:
            ended[launch.number] = run_trial(
                study, spec, launch.number, objective, lambda: seconds, baseline or {}
            )
    return ended
