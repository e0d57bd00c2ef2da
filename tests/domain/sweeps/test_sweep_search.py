"""What a sweep finds, what it prunes, and that being killed changes nothing."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from searching import BEST, EPOCHS, quadratic, spec_of, study_at, sweep

from av_assets.domain.errors import EvidenceError, TransientError
from av_assets.domain.sweeps.asking import ask, fail, is_over, running
from av_assets.domain.sweeps.leaders import explored, leaders, pareto, stability
from av_assets.domain.sweeps.report import chosen, sweep_report
from av_assets.domain.sweeps.trial import run_trial

ASHA = {"kind": "asha", "min_epochs": 1, "eta": 3}


def test_tpe_finds_the_top_of_a_known_quadratic_within_the_budget(tmp_path: Path) -> None:
    spec = spec_of(budget={"trials": 40})
    study = study_at(tmp_path, spec)
    ended = sweep(study, spec)
    best = chosen(study.get_trials(), spec)
    assert len(ended) == 40
    assert best is not None
    assert math.dist([best.params[n] for n in BEST], BEST.values()) < 0.08
    at_random = spec_of(budget={"trials": 40}, sampler="random", sweep="at-random")
    other = study_at(tmp_path, at_random)
    sweep(other, at_random)
    assert best.value > leaders(other.get_trials(), at_random)[0].value  # type: ignore[operator]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("pruning", [ASHA, {"kind": "none"}])
def test_the_same_seed_gives_the_same_trials_and_another_one_others(
    tmp_path: Path, sampler: str, pruning: dict[str, object]
) -> None:
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        spec = spec_of(sampler=sampler, pruning=pruning, seed=seed, budget={"trials": 25})
        study = study_at(tmp_path / name, spec)
        sweep(study, spec)
        found.append([(t.params, t.user_attrs["trial_seed"], t.state) for t in study.get_trials()])
    assert found[0] == found[1]
    assert not {str(one[0]) for one in found[0]} & {str(one[0]) for one in found[2]}
    assert len({seed for _, seed, _ in found[0]}) == 25


def test_a_sweep_that_is_opened_anew_for_every_trial_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    spec = spec_of(pruning=ASHA, budget={"trials": 30})
    whole = study_at(tmp_path / "whole", spec)
    sweep(whole, spec)
    for _ in range(30):
        assert sweep(study_at(tmp_path / "parts", spec), spec, at_most=1)
    parts = study_at(tmp_path / "parts", spec)
    assert not ask(parts, spec)
    assert is_over(parts, spec)
    for a, b in zip(whole.get_trials(), parts.get_trials(), strict=True):
        rungs = {k: v for k, v in a.system_attrs.items() if k.startswith("completed_rung_")}
        assert rungs == {k: v for k, v in b.system_attrs.items() if k.startswith("completed_rung_")}
        assert (a.params, a.state, a.value, a.intermediate_values) == (
            (b.params, b.state, b.value, b.intermediate_values)
        )
    assert {t.state for t in parts.get_trials()} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize("kind", ["asha", "hyperband"])
def test_a_pruned_trial_ends_early_and_never_wins(tmp_path: Path, kind: str) -> None:
    """Those that are bad at first would be the best at the end: pruning must keep them from winning all the same."""

    def late(launch: object, report: object) -> dict[str, float]:
        quality = float(launch.values["learning_rate"])  # type: ignore[attr-defined]
        for epoch in range(1, EPOCHS + 1):
            if report(epoch, -quality if epoch < EPOCHS else quality):  # type: ignore[operator]
                return {"val_map50": 100.0 + quality}  # whatever it would have become
        return {"val_map50": quality}

    spec = spec_of(pruning={"kind": kind, "min_epochs": 1, "eta": 3}, budget={"trials": 40})
    study = study_at(tmp_path, spec)
    sweep(study, spec, late)
    trials = study.get_trials()
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
    assert len(pruned) > 10
    assert all((t.last_step or 0) < EPOCHS for t in pruned)
    assert all(t.state == TrialState.COMPLETE for t in leaders(trials, spec))
    best = chosen(trials, spec)
    assert best is not None
    assert best.state == TrialState.COMPLETE
    assert best.value == max(t.value or 0 for t in trials if t.state == TrialState.COMPLETE)


def test_asha_lets_one_in_eta_pass_a_rung(tmp_path: Path) -> None:
    spec = spec_of(sampler="random", pruning=ASHA, budget={"trials": 90}, attempts=1)
    study = study_at(tmp_path, spec)
    sweep(study, spec)
    reached = [
        sum(f"completed_rung_{rung}" in t.system_attrs for t in study.get_trials()) for rung in range(3)
    ]
    assert reached[0] == 90
    # It decides as results come in, so that more than a third pass while few are known.
    assert 90 / 3 <= reached[1] <= 90 / 2
    assert reached[2] < reached[1]


def test_constraints_are_kept_by_the_winner_and_an_unknown_figure_keeps_none(tmp_path: Path) -> None:
    limits = [{"metric": "parameters", "max": 200.0}, {"metric": "slices/night/val_map50", "max_loss": 0.05}]
    spec = spec_of(constraints=limits, baseline="w20250602-1a2b3c4d", budget={"trials": 60})

    def measured(launch: object, report: object) -> dict[str, float]:
        night = float(launch.values["weight_decay"])  # type: ignore[attr-defined]
        found = dict(quadratic(launch, report))  # type: ignore[arg-type]
        return found | ({"slices/night/val_map50": night} if launch.number % 10 else {})  # type: ignore[attr-defined]

    study = study_at(tmp_path, spec)
    sweep(study, spec, measured, baseline={"slices/night/val_map50": 0.85})
    trials = study.get_trials()
    allowed = leaders(trials, spec)
    assert allowed
    for trial in allowed:
        assert trial.params["learning_rate"] <= 0.2
        assert trial.params["weight_decay"] >= 0.8
        assert trial.number % 10
    best = chosen(trials, spec)
    assert best is not None
    # The best within the limits lies in their corner, and not at the top of the hill.
    assert math.dist([best.params[n] for n in BEST], (0.2, 0.8)) < 0.12
    without = study_at(tmp_path / "without", spec)
    sweep(without, spec, measured)
    assert not leaders(without.get_trials(), spec), "no baseline, nothing to compare with"


def test_tpe_looks_where_the_constraints_hold(tmp_path: Path) -> None:
    shares = []
    for limits in ([{"metric": "parameters", "max": 200.0}], []):
        spec = spec_of(constraints=limits, budget={"trials": 60})
        study = study_at(tmp_path / str(len(limits)), spec)
        sweep(study, spec)
        late = study.get_trials()[20:]
        shares.append(sum(t.params["learning_rate"] <= 0.2 for t in late) / len(late))
    assert shares[0] > shares[1] + 0.2


def test_the_pareto_set_is_the_one_that_optuna_finds(tmp_path: Path) -> None:
    goals = [
        {"metric": "val_map50", "direction": "maximize"},
        {"metric": "parameters", "direction": "minimize"},
    ]
    spec = spec_of(goals=goals, sampler="random", budget={"trials": 50})
    study = study_at(tmp_path, spec)
    sweep(study, spec)
    oracle = optuna.create_study(directions=["maximize", "minimize"])
    for trial in study.get_trials():
        metrics = trial.user_attrs["metrics"]
        oracle.add_trial(
            optuna.trial.create_trial(values=[metrics["val_map50"], metrics["parameters"]], params={})
        )
    front = [t.number for t in pareto(study.get_trials(), spec)]
    assert front == sorted(t.number for t in oracle.best_trials)
    assert 1 < len(front) < 50


@pytest.mark.parametrize(("noise", "state"), [(0.0, "stable"), (1.0, "unstable")])
def test_the_best_are_taught_again_and_their_order_has_to_hold(
    tmp_path: Path, noise: float, state: str
) -> None:
    spec = spec_of(confirm={"top": 3, "seeds": 4}, budget={"trials": 30}, sampler="random")

    def shaken(launch: object, report: object) -> dict[str, float]:
        found = dict(quadratic(launch, report))  # type: ignore[arg-type]
        shift = (launch.seed + launch.origin * 7919) % 1000 / 1000  # type: ignore[attr-defined]
        return found | {"val_map50": found["val_map50"] + noise * shift}

    study = study_at(tmp_path, spec)
    ended = sweep(study, spec, shaken)
    trials = study.get_trials()
    again = [t for t in trials if t.user_attrs["kind"] == "confirm"]
    assert len(ended) == 30
    assert len(again) == 12
    own = {t.number: t for t in explored(trials)}
    for trial in again:
        assert trial.params == own[trial.user_attrs["origin"]].params
        assert trial.user_attrs["trial_seed"] != own[trial.user_attrs["origin"]].user_attrs["trial_seed"]
    assert stability(trials, spec)["state"] == state
    assert sweep_report(study, spec)["stability"]["state"] == state


def test_importance_names_the_number_that_matters(tmp_path: Path) -> None:
    spec = spec_of(sampler="random", budget={"trials": 60})

    def mostly(launch: object, report: object) -> dict[str, float]:
        values = launch.values  # type: ignore[attr-defined]
        return {"val_map50": 10 * values["learning_rate"] + 0.1 * values["weight_decay"]}

    study = study_at(tmp_path, spec)
    sweep(study, spec, mostly)
    found = sweep_report(study, spec)["importance"]
    for kind in ("fanova", "ped_anova"):
        assert found[kind]["learning_rate"] > 0.8
        assert sum(found[kind].values()) == pytest.approx(1)
    few = spec_of(sweep="few", budget={"trials": 2})
    other = study_at(tmp_path, few)
    sweep(other, few)
    assert "2 trials" in sweep_report(other, few)["importance"]["reason"]


def test_what_died_is_launched_again_with_the_same_values_and_seed_and_no_oftener_than_allowed(
    tmp_path: Path,
) -> None:
    spec = spec_of(budget={"trials": 6}, attempts=2)
    study = study_at(tmp_path, spec)
    [first] = ask(study, spec)
    assert fail(study, first.number, "its process was killed")
    assert not fail(study, first.number, "again"), "it has ended"
    [second] = ask(study, spec)
    assert second.resumes
    assert (second.values, second.seed, second.origin) == (first.values, first.seed, first.number)
    fail(study, second.number, "its process was killed")
    [third] = ask(study, spec)
    assert third.origin == third.number
    assert third.values != first.values
    with pytest.raises(TransientError):
        run_trial(study, spec, third.number, _interrupted, lambda: 1.0, {})
    [fourth] = ask(study, spec)
    assert fourth.origin == third.number, "one that was asked to end goes on later"
    with pytest.raises(ZeroDivisionError):
        run_trial(study, spec, fourth.number, lambda launch, report: {"val_map50": 1 / 0}, lambda: 1.0, {})
    [fifth] = ask(study, spec)
    assert fifth.origin == fifth.number, "an error would come again"
    assert [t.state.name for t in study.get_trials()] == ["FAIL"] * 4 + ["RUNNING"]
    assert [t.number for t in running(study)] == [fifth.number]


def _interrupted(launch: object, report: object) -> dict[str, float]:
    raise TransientError("the trial was asked to end", code="interrupted")


def test_a_trial_without_a_number_or_that_has_ended_is_refused(tmp_path: Path) -> None:
    spec = spec_of()
    study = study_at(tmp_path, spec)
    with pytest.raises(EvidenceError, match="no_such_trial"):
        run_trial(study, spec, 0, quadratic, lambda: 1.0, {})
    sweep(study, spec, at_most=1)
    with pytest.raises(EvidenceError, match="trial_has_ended"):
        run_trial(study, spec, 0, quadratic, lambda: 1.0, {})
    [launch] = ask(study, spec)
    with pytest.raises(EvidenceError, match="no_value"):
        run_trial(study, spec, launch.number, lambda *_: {"val_map50": math.nan}, lambda: 1.0, {})
