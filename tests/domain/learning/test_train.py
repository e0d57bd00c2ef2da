from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from av_assets.domain.errors import ModelError
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.learning.run import Run
from av_assets.domain.learning.train import TrainSummary, train
from av_assets.policies.training import TrainingPolicy


def short(policy: TrainingPolicy, **changes: object) -> TrainingPolicy:
    return TrainingPolicy.model_validate(policy.model_dump() | {"epochs": 3} | changes)


def assert_equal(a: object, b: object) -> None:
    """Equal to the bit, through nested dicts and lists."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


def test_learns_objects_that_it_never_saw(trained: TrainSummary) -> None:
    assert trained.ended_by == "epochs"
    assert trained.step == trained.steps
    assert trained.val_map50 > 0.8


def test_reports_and_config_lie_beside_the_checkpoint(trained: TrainSummary, tiny: TrainingPolicy) -> None:
    folder = trained.checkpoint.parent
    history = json.loads((folder / "history.json").read_text())
    assert [row["epoch"] for row in history] == list(range(tiny.epochs))
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert TrainingPolicy.model_validate_json((folder / "config.json").read_bytes()).digest == tiny.digest
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("stop_after", [1, 3, 4, 7])
def test_stopped_and_resumed_equals_straight(
    stop_after: int, golden: Path, tiny: TrainingPolicy, tmp_path: Path
) -> None:
    policy = short(tiny)
    train(policy, golden, tmp_path / "straight", seed=3)
    steps: list[dict] = []
    first = train(
        policy,
        golden,
        tmp_path / "first",
        on_progress=steps.append,
        seed=3,
        stop=lambda: len(steps) >= stop_after,
    )
    assert first.ended_by == "stop"
    assert first.step == stop_after
    second = train(policy, golden, tmp_path / "second", resume=first.checkpoint, seed=3)
    assert second.ended_by == "epochs"
    straight, resumed = (ckpt.load(tmp_path / name / "checkpoint.pt") for name in ("straight", "second"))
    assert_equal(straight, resumed)
    for name in ("checkpoint.pt", "history.json", "config.json", "curves.png"):
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_time_budget_ends_a_run_that_can_be_resumed(
    golden: Path, tiny: TrainingPolicy, tmp_path: Path
) -> None:
    clock = iter(np.arange(0, 1e6, 10.0))
    summary = train(short(tiny, max_seconds=100), golden, tmp_path, now=lambda: float(next(clock)))
    assert summary.ended_by == "max_seconds"
    assert 0 < summary.step < summary.steps
    assert ckpt.load(summary.checkpoint)["step"] == summary.step


def test_progress_tells_speed_and_time_left(golden: Path, tiny: TrainingPolicy, tmp_path: Path) -> None:
    seen: list[dict] = []
    train(short(tiny, epochs=1), golden, tmp_path, on_progress=seen.append)
    assert [p["step"] for p in seen] == [1, 2, 3]
    assert seen[-1]["eta_s"] == 0
    wanted = {"step", "steps", "epoch", "loss", "samples_per_s", "eta_s", "wait_s", "compute_s"}
    assert set(seen[0]) == wanted


def test_another_dataset_is_refused_on_resume(
    trained: TrainSummary, golden: Path, tiny: TrainingPolicy, tmp_path: Path
) -> None:
    other = shutil.copytree(golden, tmp_path / "other")
    spec = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps(spec | {"version": "2025-06-09.1"}))
    with pytest.raises(ModelError) as caught:
        train(tiny, other, tmp_path / "out", resume=trained.checkpoint, seed=1)
    assert caught.value.code == "dataset_mismatch"


@pytest.mark.parametrize(("changes", "seed"), [({"batch_size": 5}, 1), ({}, 2)])
def test_another_config_or_seed_is_refused_on_resume(
    changes: dict, seed: int, trained: TrainSummary, golden: Path, tiny: TrainingPolicy, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        train(
            short(tiny, epochs=tiny.epochs, **changes), golden, tmp_path, resume=trained.checkpoint, seed=seed
        )
    assert caught.value.code == "config_mismatch"


def test_a_loss_that_is_not_finite_ends_the_run(
    golden: Path, tiny: TrainingPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = Run.learn

    def poisoned(self: Run, batch: object) -> float:
        if self.step == 4:
            with torch.no_grad():
                self.net.heads.bias.fill_(float("nan"))
        return learn(self, batch)

    monkeypatch.setattr(Run, "learn", poisoned)
    with pytest.raises(ModelError) as caught:
        train(short(tiny), golden, tmp_path)
    assert caught.value.code == "not_finite"
    # what is on disk is the sound state of the epoch before
    state = ckpt.load(tmp_path / "checkpoint.pt")
    assert state["step"] == 3
    assert all(torch.isfinite(v).all() for v in state["model"].values())


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn", None])
def test_torn_checkpoints_are_refused(damage: bytes | None, trained: TrainSummary, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(trained.checkpoint.read_bytes()[:5000] if damage is None else damage)
    with pytest.raises(ModelError) as caught:
        ckpt.load(path)
    assert caught.value.code == "bad_checkpoint"


def test_training_leaves_torch_as_it_was(trained: TrainSummary) -> None:
    assert not torch.are_deterministic_algorithms_enabled()
