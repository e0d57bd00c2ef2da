from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from short_training import short

from av_assets.domain.errors import ModelError
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.learning.train import TrainSummary, train
from av_assets.policies.training import TrainingPolicy


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


@pytest.fixture(scope="module")
def straight(golden: Path, tiny: TrainingPolicy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stopped."""
    out = tmp_path_factory.mktemp("straight")
    train(short(tiny, epochs=2), golden, out, seed=3)
    return out


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_stopped_and_resumed_equals_straight(
    stop_after: int, straight: Path, golden: Path, tiny: TrainingPolicy, tmp_path: Path
) -> None:
    """In the middle of an epoch, at its end and just after."""
    policy = short(tiny, epochs=2)
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
    assert_equal(ckpt.load(straight / "checkpoint.pt"), ckpt.load(second.checkpoint))
    for name in ("checkpoint.pt", "history.json", "config.json", "curves.png", "environment.json"):
        assert (straight / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


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
    wanted = {"step", "steps", "epoch", "loss", "samples_per_s", "eta_s", "wait_s", "compute_s", "wait_share"}
    assert set(seen[0]) == wanted
    assert 0 <= seen[-1]["wait_share"] <= 1


def test_facts_are_told_before_the_first_step(golden: Path, tiny: TrainingPolicy, tmp_path: Path) -> None:
    said: list[tuple[str, dict]] = []
    train(
        short(tiny, epochs=1),
        golden,
        tmp_path,
        on_start=lambda facts: said.append(("start", facts)),
        on_progress=lambda progress: said.append(("step", progress)),
    )
    assert [kind for kind, _ in said] == ["start", "step", "step", "step"]
    facts = said[0][1]
    assert (facts["samples"], facts["steps"], facts["effective_batch"], facts["processes"]) == (12, 3, 4, 1)


def test_each_epoch_is_scored_as_a_whole_and_by_slice(tmp_path: Path, tiny: TrainingPolicy) -> None:
    from golden_folder import golden_folder

    drives = {"drive-a": "train", "drive-b": "val", "drive-c": "val"}
    (tmp_path / "golden").mkdir()
    root = golden_folder(tmp_path / "golden", drives, frames=4)
    train(short(tiny, epochs=2), root, tmp_path / "out")
    for row in json.loads((tmp_path / "out" / "history.json").read_text()):
        assert set(row["slices"]) == {"light=day", "light=night", "weather=clear", "zone=urban"}
        assert row["slices"]["zone=urban"]["val_map50"] == row["val_map50"]
        assert all(0 <= scores["val_map50"] <= 1 for scores in row["slices"].values())


def test_steps_with_float16_and_bfloat16_learn_too(
    golden: Path, tiny: TrainingPolicy, tmp_path: Path
) -> None:
    for precision in ("bfloat16", "float16"):
        summary = train(short(tiny, epochs=4, precision=precision), golden, tmp_path / precision, seed=1)
        history = json.loads((tmp_path / precision / "history.json").read_text())
        assert history[-1]["loss"] < 0.8 * history[0]["loss"]
        scaler = ckpt.load(summary.checkpoint)["scaler"]
        assert ("scale" in scaler) == (precision == "float16")


def test_a_compiled_network_learns_the_same(golden: Path, tiny: TrainingPolicy, tmp_path: Path) -> None:
    """The backend that compiles nothing but takes the same way through the network."""
    losses = {}
    for backend in ("off", "aot_eager"):
        train(short(tiny, epochs=1, compile=backend), golden, tmp_path / backend, seed=1)
        history = json.loads((tmp_path / backend / "history.json").read_text())
        losses[backend] = history[-1]["loss"]
    assert losses["aot_eager"] == pytest.approx(losses["off"], rel=1e-4)


def test_a_step_of_two_micro_batches_is_no_step_of_one(
    golden: Path, tiny: TrainingPolicy, tmp_path: Path
) -> None:
    summary = train(short(tiny, epochs=1, batch_size=2, micro_batches=3), golden, tmp_path)
    assert summary.steps == 2  # 12 samples, 6 a step
    state = ckpt.load(summary.checkpoint)
    counts = {int(v) for k, v in state["model"].items() if k.endswith("num_batches_tracked")}
    assert counts == {2}


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
        train(tiny.model_copy(update=changes), golden, tmp_path, resume=trained.checkpoint, seed=seed)
    assert caught.value.code == "config_mismatch"


def test_training_leaves_torch_as_it_was(trained: TrainSummary) -> None:
    assert not torch.are_deterministic_algorithms_enabled()
