"""Workers of a sweep that are killed at any moment lose no trial, spoil no journal and pass no limit."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import yaml
from optuna.trial import TrialState

from av_assets.domain.sweeps.asking import fail, is_over, running, take_up
from av_assets.domain.sweeps.budget import spent
from av_assets.domain.sweeps.journal import open_storage
from av_assets.domain.sweeps.leaders import leaders
from av_assets.domain.sweeps.study import open_study
from av_assets.policies.sweeps import SweepPolicy

PROJECT = Path(__file__).parents[2]
KILLS = 8


def specification(path: Path) -> SweepPolicy:
    data = SweepPolicy.load().model_dump(mode="json") | {
        "sweep": "killed",
        "parallel": 2,
        "attempts": 2,
        "fixed": {"epochs": 9},
        "space": {"learning_rate": {"kind": "float", "low": 0.001, "high": 1.0}},
        "constraints": [],
        "confirm": {"top": 2, "seeds": 1},
    }
    data["budget"] |= {"trials": 60, "trial_seconds": 36.0, "compute_hours": 0.4, "money": None}
    path.write_text(yaml.safe_dump(data))
    return SweepPolicy.load(path)


def worker(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.faults.known_sweep"]
    named = [str(folder / name) for name in ("study.journal", "spec.yaml", "ledger")]
    return subprocess.Popen([*command, *named], cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)})


def lines(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_workers_that_are_killed_lose_no_trial_and_pass_no_limit(tmp_path: Path) -> None:
    spec = specification(tmp_path / "spec.yaml")
    rng = random.Random(20250602)
    killed = 0
    for _ in range(KILLS):
        before, process = len(lines(tmp_path / "ledger")), worker(tmp_path)
        while process.poll() is None and len(lines(tmp_path / "ledger")) < before + 1:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.15))
        if process.poll() is None:
            process.kill()
            killed += 1
        process.wait()
        study = open_study(open_storage(tmp_path / "study.journal"), spec)
        take_up(study, spec)
        for trial in running(study):
            fail(study, trial.number, "its process was killed")
    assert killed == KILLS
    assert worker(tmp_path).wait(120) == 0
    study = open_study(open_storage(tmp_path / "study.journal"), spec)
    assert is_over(study, spec)
    trials, launched = study.get_trials(), lines(tmp_path / "ledger")
    assert len(launched) == len(set(launched)), "no trial was run twice"
    assert len(launched) <= spec.budget.trials
    assert spent(trials, spec.budget).within(spec.budget)
    died = [t for t in trials if t.user_attrs.get("died")]
    assert died
    again = {t.user_attrs.get("origin") for t in trials if t.number != t.user_attrs.get("origin")}
    assert {t.user_attrs["origin"] for t in died} <= again
    assert all(t.state != TrialState.RUNNING for t in trials)
    assert leaders(trials, spec)[0].value > 0.99  # type: ignore[operator]


def test_a_trial_ends_when_the_run_that_started_it_was_killed(tmp_path: Path) -> None:
    child = (
        "import os, time; from av_assets.training.trial_worker import end_with_parent; end_with_parent();"
        f"open({str(tmp_path / 'new')!r}, 'w').write(str(os.getpid()));"
        f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pid')!r}); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    run = subprocess.Popen([sys.executable, "-c", parent], cwd=PROJECT)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    run.kill()
    run.wait()
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(pid)


def _lives(pid: int) -> bool:
    """Whether the process runs; one that ended and that nobody waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
