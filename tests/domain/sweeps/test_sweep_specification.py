"""Specifications that contradict themselves are refused by name, and what W&B is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError
from searching import spec_of

from av_assets.domain.errors import PolicyError
from av_assets.domain.sweeps.study import distributions, values_of
from av_assets.domain.sweeps.wandb_config import wandb_sweep
from av_assets.policies.sweeps import SweepPolicy, training_policy

UNIT = {"kind": "float", "low": 0.001, "high": 1.0}
ASHA = {"kind": "asha", "min_epochs": 1, "eta": 3}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"space": {"learning_rate": UNIT | {"low": 2.0}}}, "must be below high"),
        ({"space": {"learning_rate": UNIT | {"low": 0.0, "log": True}}}, "begins above 0"),
        ({"space": {"learning_rate": UNIT | {"step": 0.1, "log": True}}}, "has no step"),
        ({"space": {"ema_decay": {"kind": "choice", "values": [0.9, 0.9]}}}, "twice"),
        ({"space": {"batch_sise": UNIT}}, "no fields of the training policy: batch_sise"),
        ({"space": {}}, "at least 1"),
        ({"fixed": {"learning_rate": 0.1, "epochs": 9}}, "learning_rate: fixed and searched"),
        ({"fixed": {"version": "2.0.0"}}, "no fields of the training policy: version"),
        ({"fixed": {"epochs": 0}}, "training policy refuses"),
        ({"space": {"input_width": {"kind": "choice", "values": [33, 64]}}}, "training policy refuses"),
        ({"budget": {"trials": 4}, "confirm": {"top": 2, "seeds": 2}}, "holds 4 trials"),
        ({"budget": {"compute_hours": 0.001}}, "holds 0 trials"),
        ({"budget": {"money": 0.0001}}, "holds 0 trials"),
        ({"budget": {"money": 5.0, "price_per_unit_hour": 0.0}}, "needs price_per_unit_hour"),
        ({"confirm": {"top": 3, "seeds": 0}}, "top needs seeds"),
        ({"confirm": {"top": 1, "seeds": 3}}, "at least two"),
        ({"constraints": [{"metric": "a"}]}, "give max, min or max_loss"),
        ({"constraints": [{"metric": "a", "max": 1.0, "min": 2.0}]}, "nothing is above 2.0 and below 1.0"),
        ({"constraints": [{"metric": "a", "max_loss": 0.1}]}, "needs a baseline"),
        ({"goals": [{"metric": "a", "direction": "maximize"}] * 2}, "named twice"),
        ({"pruning": ASHA | {"min_epochs": 10}}, "a trial has 9 epochs"),
        (
            {"pruning": ASHA, "fixed": {}, "space": {"epochs": {"kind": "int", "low": 2, "high": 9}}},
            "epochs cannot be searched",
        ),
        ({"sweep": "a.1"}, "pattern"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        spec_of(**changes)
    data = spec_of().model_dump(mode="json")
    data |= changes | {"budget": data["budget"] | changes.get("budget", {})}
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(PolicyError, match="policy_invalid"):
        SweepPolicy.load(path)


def test_every_kind_of_number_is_searched_and_comes_back_as_the_policy_wants_it() -> None:
    narrow, wide = (8, 16, 24, 32, 48), (16, 24, 48, 96, 128)
    spec = spec_of(
        space={
            "learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "batch_size": {"kind": "int", "low": 2, "high": 8, "step": 2},
            "widths": {"kind": "choice", "values": [narrow, wide]},
            "precision": {"kind": "choice", "values": ["float32", "bfloat16"]},
        }
    )
    found = distributions(spec)
    assert found["learning_rate"] == FloatDistribution(1e-4, 1e-2, log=True)
    assert found["batch_size"] == IntDistribution(2, 8, step=2)
    assert isinstance(found["widths"], CategoricalDistribution)
    params = {
        "learning_rate": 1e-3,
        "batch_size": 4,
        "widths": found["widths"].choices[1],
        "precision": "float32",
    }
    policy = training_policy(spec, values_of(spec, params))
    assert (policy.widths, policy.batch_size, policy.learning_rate) == (wide, 4, 1e-3)
    assert policy.epochs == 9
    assert policy.max_seconds < spec.budget.trial_seconds


def test_the_shipped_example_is_a_specification_whose_trials_are_affordable() -> None:
    spec = SweepPolicy.load()
    assert spec.budget.affordable_trials > spec.confirmations + spec.startup_trials


def test_wandb_is_told_what_it_has_words_for_and_the_rest_is_named() -> None:
    spec = spec_of(
        pruning=ASHA,
        constraints=[{"metric": "latency_p95_ms", "max": 20.0}],
        goals=[{"metric": "val_map50", "direction": "maximize"}],
        space={
            "learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "weight_decay": {"kind": "float", "low": 0.0, "high": 0.1, "step": 0.01},
            "batch_size": {"kind": "int", "low": 2, "high": 8, "step": 2},
            "feature_width": {"kind": "int", "low": 8, "high": 48},
            "ema_decay": {"kind": "choice", "values": [0.0, 0.99]},
        },
    )
    text = wandb_sweep(spec, "night.yaml", "golden")
    assert "constraint latency_p95_ms" in text.splitlines()[0]
    data = yaml.safe_load(text)
    assert data["command"] == ["av", "sweeps", "trial", "night.yaml", "${args_json}", "--dataset", "golden"]
    assert data["method"] == "bayes"
    assert data["metric"] == {"name": "val_map50", "goal": "maximize"}
    assert data["early_terminate"] == {"type": "hyperband", "min_iter": 1, "eta": 3}
    assert data["run_cap"] == spec.budget.trials
    assert data["parameters"] == {
        "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "weight_decay": {"distribution": "q_uniform", "min": 0.0, "max": 0.1, "q": 0.01},
        "batch_size": {"values": [2, 4, 6, 8]},
        "feature_width": {"distribution": "int_uniform", "min": 8, "max": 48},
        "ema_decay": {"values": [0.0, 0.99]},
        "epochs": {"value": 9},
    }
