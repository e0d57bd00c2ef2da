"""One process and two compute the same steps: real process groups, started by torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from short_training import short

from av_assets.domain.errors import ModelError
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.learning.distributed import World
from av_assets.domain.learning.train import train
from av_assets.policies.training import TrainingPolicy

SEED = 5
SCRIPT = Path(__file__).with_name("processes.py")
State = dict[str, Any]


@pytest.fixture(scope="module")
def shared(tiny: TrainingPolicy) -> TrainingPolicy:
    """Two micro batches of three a step; no power of two, so that an order of addition could show."""
    return short(tiny, epochs=2, batch_size=3, micro_batches=2)


@pytest.fixture(scope="module")
def alone(shared: TrainingPolicy, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process that accumulates."""
    out = tmp_path_factory.mktemp("alone")
    train(shared, golden, out, seed=SEED)
    return out


@pytest.fixture(scope="module")
def together(shared: TrainingPolicy, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with two processes: ddp and fsdp, straight and stopped, in the first epoch and in the second."""
    out = tmp_path_factory.mktemp("together")
    fsdp = {"distribution": "fsdp"}
    jobs = {
        "ddp": {"config": shared},
        "ddp-half": {"config": shared, "stop_after": 1},
        "ddp-resumed": {"config": shared, "resume": str(out / "ddp-half" / ckpt.CHECKPOINT_FILE)},
        "fsdp": {"config": shared.model_copy(update=fsdp)},
        "fsdp-half": {"config": shared.model_copy(update=fsdp), "stop_after": 3},
        "fsdp-resumed": {
            "config": shared.model_copy(update=fsdp),
            "resume": str(out / "fsdp-half" / ckpt.CHECKPOINT_FILE),
        },
    }
    common = {"dataset": str(golden), "seed": SEED}
    listed = [
        {**job, **common, "out": str(out / name), "config": job["config"].model_dump(mode="json")}
        for name, job in jobs.items()
    ]
    torchrun(2, json.dumps(listed))
    return out


def torchrun(processes: int, *arguments: str) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    done = subprocess.run(
        [sys.executable, *command, f"--nproc-per-node={processes}", str(SCRIPT), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[:6000]


def assert_same(a: State, b: State) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def assert_near(a: State, b: State, share: float = 0.02) -> None:
    """Each tensor, by its length: Adam makes steps of one size out of gradients however small, so single elements
    whose gradient is rounding noise may go either way."""
    assert a.keys() == b.keys()
    for name, value in a.items():
        mine, theirs = value.double(), b[name].double()
        scale = max(float(mine.norm()), 0.1 * mine.numel() ** 0.5)
        assert float((mine - theirs).norm()) <= share * scale, name


def test_two_processes_and_one_that_accumulates_have_the_same_gradients(
    together: Path, shared: TrainingPolicy, golden: Path, tmp_path: Path
) -> None:
    """After one step Adam's first moment is the gradient, times one number."""
    steps: list[dict[str, Any]] = []
    train(shared, golden, tmp_path, seed=SEED, on_progress=steps.append, stop=lambda: len(steps) == 1)
    one, two = ckpt.load(tmp_path / "checkpoint.pt"), ckpt.load(together / "ddp-half" / "checkpoint.pt")
    assert (one["world_size"], two["world_size"], two["step"]) == (1, 2, 1)
    assert one["optimizer"]["state"].keys() == two["optimizer"]["state"].keys()
    for number, moments in one["optimizer"]["state"].items():
        mine, theirs = moments["exp_avg"], two["optimizer"]["state"][number]["exp_avg"]
        assert float((mine - theirs).norm()) <= 1e-5 * max(float(mine.norm()), 1e-6)
    assert one["loss_sums"] == pytest.approx(two["loss_sums"], rel=1e-6)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_and_one_that_accumulates_end_with_the_same_weights(
    kind: str, alone: Path, together: Path
) -> None:
    one, two = ckpt.load(alone / "checkpoint.pt"), ckpt.load(together / kind / "checkpoint.pt")
    assert_near(one["model"], two["model"])
    assert_near(one["ema"], two["ema"])
    losses = [[row["loss"] for row in state["history"]] for state in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_statistics_of_normalisation_are_those_of_all_micro_batches(alone: Path, together: Path) -> None:
    one, two = (ckpt.load(p / "checkpoint.pt")["model"] for p in (alone, together / "ddp"))
    running = [name for name in one if name.endswith(("running_mean", "running_var"))]
    assert running
    assert_near({n: one[n] for n in running}, {n: two[n] for n in running})
    counts = [name for name in one if name.endswith("num_batches_tracked")]
    steps = ckpt.load(alone / "checkpoint.pt")["step"]
    assert {int(state[name]) for state in (one, two) for name in counts} == {steps}


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_resume_to_the_bit(kind: str, together: Path) -> None:
    straight, resumed = (ckpt.load(together / n / "checkpoint.pt") for n in (kind, f"{kind}-resumed"))
    assert straight["step"] == resumed["step"]
    assert_same(straight["model"], resumed["model"])
    assert_same(straight["ema"], resumed["ema"])
    assert straight["history"] == resumed["history"]


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_one_process_takes_up_what_two_left(
    kind: str, alone: Path, together: Path, shared: TrainingPolicy, golden: Path, tmp_path: Path
) -> None:
    train(shared, golden, tmp_path, together / f"{kind}-half" / "checkpoint.pt", seed=SEED)
    straight, resumed = (ckpt.load(folder / "checkpoint.pt") for folder in (alone, tmp_path))
    assert (resumed["world_size"], resumed["step"]) == (1, straight["step"])
    assert_near(straight["model"], resumed["model"])


def test_micro_batches_that_cannot_be_shared_out_are_refused(shared: TrainingPolicy) -> None:
    with pytest.raises(ModelError) as caught:
        World(torch.device("cpu"), 0, 3).accumulation(shared)
    assert caught.value.code == "world_size"
