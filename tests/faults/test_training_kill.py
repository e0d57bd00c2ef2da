"""Training that is killed again and again ends with the bytes of training that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from golden_folder import golden_folder

from av_assets.domain.learning import checkpoint as ckpt
from av_assets.policies.training import TrainingPolicy
from av_assets.training.checkpoints import WORKER, checkpoints
from tests.faults.training_lake import DRIVES, golden_lake, release_of, tiny_policy

KILLS = 20
REPORTS = ("checkpoint.pt", "history.json", "config.json", "environment.json", "curves.png")


class Trainer:
    """Processes that train; each gets one job."""

    def __init__(self, process: subprocess.Popen[str], common: dict[str, Any]) -> None:
        self._process, self._common = process, common

    def start(self, moment: str, out: Path) -> int:
        """Give a job; returns the id of its process."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**self._common, "moment": moment, "out": str(out)}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def end(self) -> int:
        """How the process ended: 0, or minus the signal."""
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@contextmanager
def trainer(policy: TrainingPolicy, dataset: Path) -> Iterator[Trainer]:
    common = {"config": policy.model_dump(mode="json"), "dataset": str(dataset), "seed": 3}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.killed_training"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )
    with process:
        yield Trainer(process, common)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


def moments(rng: random.Random) -> Iterator[str]:
    """Where the next process dies; each gets at least one step further than it began, or dies before that."""
    while True:
        kind = rng.choice(("step", "step", "write", "renamed", "outside"))
        yield kind if kind == "outside" else f"{kind}:{rng.randint(1, 3)}"


def test_killed_twenty_times_it_ends_with_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    dataset = golden_folder(tmp_path / "golden", DRIVES, frames=8)
    # a failure every few milliseconds is expected: a checkpoint after every step, as long as Young is obeyed
    policy = tiny_policy(epochs=15, batch_size=2, hours_between_failures=1e-9)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    rng, kinds, kills = random.Random(11), set[str](), 0
    with trainer(policy, dataset) as training:
        training.start("never", straight)
        assert training.end() == 0
        for moment in moments(rng):
            pid = training.start(moment, killed)
            if moment == "outside":
                time.sleep(rng.uniform(0.05, 0.6))
                os.kill(pid, signal.SIGKILL)
            assert training.end() == -signal.SIGKILL
            kinds.add(moment.partition(":")[0])
            kills += 1
            if kills == KILLS:
                break
        assert ckpt.load(killed / "checkpoint.pt")["step"] < 60  # it was killed before it was through
        training.start("never", killed)
        assert training.end() == 0
    assert kinds == {"step", "write", "renamed", "outside"}
    for name in REPORTS:
        assert (straight / name).read_bytes() == (killed / name).read_bytes(), name


def test_a_worker_that_vanishes_is_tried_again_by_the_run_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tiny_policy(epochs=12, batch_size=2, hours_between_failures=1e-9)
    monkeypatch.setattr(TrainingPolicy, "load", classmethod(lambda cls, path=None: policy))
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    lake, golden = golden_lake(tmp_path)
    killed: list[int] = []

    def kill_one() -> None:
        """The worker, as soon as the lake holds a checkpoint of the middle of its run."""
        until = time.monotonic() + 120
        while time.monotonic() < until and not killed:
            for key in list(lake.store.keys("segments/")):
                if (
                    key.endswith("state/newest.json")
                    and json.loads(lake.store.get(key) or b"{}").get("step", 0) > 5
                ):
                    workers = [p for p in psutil.Process().children(recursive=True) if WORKER in p.cmdline()]
                    for worker in workers:
                        worker.send_signal(signal.SIGKILL)
                        killed.append(worker.pid)
                    return
            time.sleep(0.02)

    with dg.DagsterInstance.ephemeral() as instance:
        release = release_of(golden, instance)
        hunter = threading.Thread(target=kill_one)
        hunter.start()
        result = dg.materialize(
            [checkpoints],
            instance=instance,
            partition_key=release,
            resources={"lake": lake, "pipes": dg.PipesSubprocessClient()},
        )
        hunter.join()
        said = [r.event_log_entry.user_message for r in instance.get_records_for_run(result.run_id).records]
    assert killed
    assert result.success
    assert result.retry_attempts_for_node("checkpoints") == 1
    first_steps = [
        int(line.partition("first_step ")[2].split(",")[0]) for line in said if "first_step" in line
    ]
    assert len(first_steps) == 2
    assert first_steps[0] == 0 < first_steps[1]

    made = lake.require("checkpoints", release)
    straight = tmp_path / "straight"
    (tmp_path / "dataset").mkdir()
    dataset = lake.checkout(golden, tmp_path / "dataset")
    with trainer(policy, dataset) as training:
        training._common["seed"] = 13
        training.start("never", straight)
        assert training.end() == 0
    for name in REPORTS:
        assert lake.read_bytes(made, name) == (straight / name).read_bytes(), name
