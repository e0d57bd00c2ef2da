"""The objective that sweeps are for: real, tiny trainings through the study."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState
from searching import spec_of, study_at
from short_training import short

from av_assets.domain.errors import PolicyError, TransientError
from av_assets.domain.sweeps.agent import agent_trial
from av_assets.domain.sweeps.asking import Launch, ask
from av_assets.domain.sweeps.teaching import Teaching, figures
from av_assets.domain.sweeps.trial import Ended, Report, run_trial
from av_assets.domain.sweeps.wandb_config import wandb_sweep
from av_assets.policies.sweeps import SweepPolicy
from av_assets.policies.training import TrainingPolicy


@pytest.fixture
def small(tiny: TrainingPolicy) -> SweepPolicy:
    """Two epochs of the tiny network; one number is searched."""
    fields = short(tiny, epochs=2).model_dump(mode="json")
    shipped = TrainingPolicy.load().model_dump(mode="json")
    changed = {n: v for n, v in fields.items() if v != shipped[n] and n not in ("version", "learning_rate")}
    return spec_of(
        fixed=changed,
        space={"learning_rate": {"kind": "float", "low": 0.0005, "high": 0.01, "log": True}},
        pruning={"kind": "asha", "min_epochs": 1, "eta": 2},
        constraints=[{"metric": "latency_p95_ms", "max": 10_000.0}],
        budget={"trials": 4, "trial_seconds": 200.0},
        latency_runs=3,
        attempts=2,
    )


def test_trials_teach_are_pruned_and_go_on_where_they_were_stopped(
    tmp_path: Path, golden: Path, small: SweepPolicy
) -> None:
    study = study_at(tmp_path, small)
    started = time.process_time()  # a busy machine takes nothing from the budget

    def run(launch: Launch, stopped: Callable[[], bool] = lambda: False, worse_by: float = 0.0) -> Ended:
        objective = Teaching(small, golden, tmp_path / f"{launch.origin}-{launch.seed}", stopped)

        def shifted(launch: Launch, report: Report) -> Mapping[str, float]:
            return objective(launch, lambda step, value: report(step, value - worse_by))

        return run_trial(study, small, launch.number, shifted, lambda: time.process_time() - started, {})

    [first] = ask(study, small)
    asked = iter([False, True])
    with pytest.raises(TransientError, match="interrupted"):
        run(first, lambda: next(asked, True))
    [again] = ask(study, small)
    assert again.resumes
    assert (tmp_path / f"{again.origin}-{again.seed}" / "checkpoint.pt").is_file()
    ended = run(again)
    assert ended.state == "complete"
    assert set(ended.steps) == {1, 2}
    assert {"val_map50", "parameters", "latency_p95_ms"} <= set(ended.metrics)
    history = json.loads((tmp_path / f"{again.origin}-{again.seed}" / "history.json").read_bytes())
    assert ended.value == history[-1]["val_map50"]
    trial = study.get_trials()[again.number]
    assert all(value <= 0 for value in trial.constraints.values())
    [last] = ask(study, small)
    pruned = run(last, worse_by=1.0)
    assert pruned.state == "pruned"
    assert study.get_trials()[last.number].state == TrialState.PRUNED
    assert set(pruned.steps) == {1}
    assert "latency_p95_ms" not in pruned.metrics


def test_figures_are_named_by_their_paths_and_unknown_ones_are_left_out() -> None:
    row = {
        "epoch": 3,
        "val_map50": 0.5,
        "val_map3d": None,
        "slices": {"night": {"val_map50": 0.4, "ok": True}},
    }
    assert figures(row) == {"epoch": 3.0, "val_map50": 0.5, "slices/night/val_map50": 0.4}


def test_what_the_agent_of_wandb_starts_is_taught_and_told_to_its_run(
    tmp_path: Path, golden: Path, small: SweepPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command as W&B's own agent makes it out of our configuration; its server alone is missing."""
    import wandb
    from click.testing import CliRunner
    from wandb.sdk.launch.sweeps import utils

    from av_assets.cli.main import main

    specification = tmp_path / "small.yaml"
    specification.write_text(yaml.safe_dump(small.model_dump(mode="json")))
    sweep = yaml.safe_load(wandb_sweep(small, str(specification), str(golden)))
    asked = {name: {"value": part["value"]} for name, part in sweep["parameters"].items() if "value" in part}
    asked["learning_rate"] = {"value": 0.002}
    values = utils.create_sweep_command_args({"args": asked})
    command = [part for word in utils.create_sweep_command(sweep["command"])
               for part in (values["args_json"] if word == "${args_json}" else [word])]  # fmt: skip
    assert command.pop(0) == "av"
    for name, value in {"WANDB_MODE": "offline", "WANDB_RUN_ID": "abc", "WANDB_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    wandb.teardown()  # it reads its environment once in a process
    done = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "out")], catch_exceptions=False)
    wandb.teardown()
    assert done.exit_code == 0, done.output
    assert "val_map50 " in done.output
    history = json.loads((tmp_path / "out" / "history.json").read_bytes())
    assert len(history) == 2
    assert list(tmp_path.glob("wandb/offline-run-*/run-abc.wandb"))


def test_an_agent_asks_for_what_the_specification_searches(tmp_path: Path, small: SweepPolicy) -> None:
    with pytest.raises(PolicyError) as caught:
        agent_trial(small, {"luck": 8}, tmp_path, tmp_path, lambda *told: None)
    assert caught.value.code == "foreign_values"
