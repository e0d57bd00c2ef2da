"""No trial and no second above the limits, whoever asks at the same time; a journal that a killed writer left torn."""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from searching import quadratic, spec_of, study_at

from av_assets.domain.sweeps.asking import LAUNCHED, ask, fail, is_over, running, take_up
from av_assets.domain.sweeps.budget import SECONDS, spent
from av_assets.domain.sweeps.journal import mend, open_storage
from av_assets.domain.sweeps.study import open_study
from av_assets.domain.sweeps.trial import run_trial

SECONDS_OF_A_TRIAL = 36.0


def work(
    place: Path, spec: object, seed: int, plan: list[str], taken: list[float], errors: list[str]
) -> None:
    """Ask, run, and sometimes die without a word, until nothing more may be launched."""
    study = study_at(place, spec)  # type: ignore[arg-type]
    for turn in range(200):
        launches = ask(study, spec)  # type: ignore[arg-type]
        for launch in launches:
            how = plan[(seed + turn + launch.number) % len(plan)]
            if how == "dies":
                taken.append(SECONDS_OF_A_TRIAL)
                fail(study, launch.number, "killed")
            else:
                taken.append(float(how))
                run_trial(study, spec, launch.number, quadratic, lambda how=how: float(how), {})  # type: ignore[arg-type, misc]
        if not launches and (is_over(study, spec) or turn > 100):  # type: ignore[arg-type]
            return
    errors.append("it never ended")


@settings(max_examples=12)
@given(
    workers=st.integers(1, 4),
    parallel=st.integers(1, 5),
    limits=st.fixed_dictionaries(
        {
            "trials": st.integers(3, 12),
            "compute_hours": st.floats(0.031, 0.2),
            "money": st.one_of(st.none(), st.floats(0.031, 0.2)),
        }
    ),
    confirm=st.sampled_from([(0, 0), (2, 1)]),
    plan=st.lists(st.sampled_from(["dies", "0.5", "17", "36"]), min_size=1, max_size=5),
)
def test_no_limit_is_passed_by_workers_that_ask_at_the_same_time(
    workers: int, parallel: int, limits: dict[str, float], confirm: tuple[int, int], plan: list[str]
) -> None:
    top, seeds = confirm
    budget = {"trial_seconds": SECONDS_OF_A_TRIAL, "units_per_trial": 1, "price_per_unit_hour": 1.0, **limits}
    spec = spec_of(budget=budget, parallel=parallel, confirm={"top": top, "seeds": seeds}, startup_trials=50)
    taken: list[float] = []
    errors: list[str] = []
    with TemporaryDirectory() as folder:
        crew = [
            threading.Thread(target=work, args=(Path(folder), spec, n, plan, taken, errors))
            for n in range(workers)
        ]
        for one in crew:
            one.start()
        for one in crew:
            one.join()
        study = study_at(Path(folder), spec)
        trials = study.get_trials()
    assert not errors
    assert len(taken) <= spec.budget.trials
    assert sum(taken) / 3600 <= spec.budget.compute_hours + 1e-9
    assert spec.budget.money is None or sum(taken) / 3600 <= spec.budget.money + 1e-9
    assert sum(LAUNCHED in t.user_attrs for t in trials) == len(taken)
    assert spent(trials, spec.budget).compute_hours == pytest.approx(sum(taken) / 3600)
    assert taken, "the budget holds at least one"


def test_a_trial_more_would_have_passed_the_limit(tmp_path: Path) -> None:
    """The limits are used up, not only kept: 10 trials of 36 s are an hour tenth."""
    spec = spec_of(budget={"compute_hours": 0.1, "trial_seconds": 36.0})
    study = study_at(tmp_path, spec)
    for expected in range(10):
        [launch] = ask(study, spec)
        assert launch.number == expected
        run_trial(study, spec, launch.number, quadratic, lambda: 36.0, {})
    assert not ask(study, spec)
    assert is_over(study, spec)


def test_what_quick_trials_leave_over_is_given_to_others(tmp_path: Path) -> None:
    spec = spec_of(budget={"compute_hours": 0.1, "trial_seconds": 36.0, "trials": 15})
    study = study_at(tmp_path, spec)
    while launches := ask(study, spec):
        run_trial(study, spec, launches[0].number, quadratic, lambda: 1.0, {})
    assert len(study.get_trials()) == 15


def test_at_most_so_many_run_at_once_and_all_of_them_are_reserved(tmp_path: Path) -> None:
    spec = spec_of(parallel=3, budget={"trials": 4})
    study = study_at(tmp_path, spec)
    assert [launch.number for launch in ask(study, spec)] == [0, 1, 2]
    assert not ask(study, spec)
    fail(study, 1, "killed")
    assert [launch.origin for launch in ask(study, spec)] == [1]
    fail(study, 0, "killed")
    assert not ask(study, spec), "the fourth was the last"
    assert {t.number for t in running(study)} == {2, 3}


def test_one_that_was_asked_for_by_somebody_who_died_is_launched_by_the_next(tmp_path: Path) -> None:
    from av_assets.domain.sweeps.study import distributions

    spec = spec_of(parallel=2)
    study = study_at(tmp_path, spec)
    half = study.ask(distributions(spec))  # and nothing more: no seed, no decision
    whole = study.ask(distributions(spec))
    whole.set_user_attr("kind", "explore")
    whole.set_user_attr("origin", whole.number)
    whole.set_user_attr("trial_seed", 5)
    assert not ask(study_at(tmp_path, spec), spec), "two are on their way"
    [launch] = take_up(study_at(tmp_path, spec), spec)
    assert (launch.number, launch.seed) == (whole.number, 5)
    assert study.get_trials()[half.number].user_attrs["refused"] == "never described"
    assert spent(study.get_trials(), spec.budget).trials == 1


@pytest.mark.parametrize("torn", [b'{"op_code": 5, "wor', b"\x00" * 70_000, b""])
def test_half_a_line_of_a_killed_writer_spoils_nothing(tmp_path: Path, torn: bytes) -> None:
    spec = spec_of(budget={"trials": 4})
    study = study_at(tmp_path, spec)
    [launch] = ask(study, spec)
    run_trial(study, spec, launch.number, quadratic, lambda: 2.0, {})
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(torn)
    study.set_user_attr("seen", "by a writer that was there already")
    again = study_at(tmp_path, spec)
    assert again.user_attrs["seen"]
    assert again.get_trials()[0].value == study.get_trials()[0].value
    assert journal.read_bytes().startswith(whole)
    assert again.get_trials()[0].user_attrs[SECONDS] == 2.0


@given(st.binary(max_size=300), st.binary(max_size=300).filter(lambda b: b"\n" not in b))
@settings(max_examples=50)
def test_mending_keeps_every_whole_line(kept: bytes, torn: bytes) -> None:
    kept = kept + b"\n" if kept else b""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        path.write_bytes(kept + torn)
        mend(path)
        assert path.read_bytes() == kept


def test_a_database_holds_a_study_as_a_journal_does(tmp_path: Path) -> None:
    spec = spec_of(budget={"trials": 5})
    found = []
    for place in (tmp_path / "study.journal", f"sqlite:///{tmp_path}/study.db"):
        study = open_study(open_storage(place), spec)
        while launches := ask(study, spec):
            run_trial(study, spec, launches[0].number, quadratic, lambda: 1.0, {})
        found.append([(t.params, t.value, t.state) for t in study.get_trials()])
    assert found[0] == found[1]
    assert len(found[0]) == 5
