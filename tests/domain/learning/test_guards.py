"""Runs that would waste time end early and say why; a step that is not finite leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from short_training import short
from torch import Tensor

from av_assets.domain.errors import ModelError
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.learning import run as runs
from av_assets.domain.learning import train as training
from av_assets.domain.learning.train import train
from av_assets.policies.training import TrainingPolicy

Batch = Mapping[str, Tensor]


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sample 5 (of 12) gives a loss that is not finite, whichever batch it is in; the samples that were met."""
    met: list[int] = []
    honest = runs.forward

    def forward(
        net: torch.nn.Module, batch: Batch, config: TrainingPolicy
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = honest(net, batch, config)
        if 5 in batch["sample"].tolist():
            met.append(5)
            return loss * float("nan"), parts
        return loss, parts

    monkeypatch.setattr(runs, "forward", forward)
    return met


def test_a_loss_that_is_not_finite_ends_the_run_and_names_its_samples(
    golden: Path, tiny: TrainingPolicy, tmp_path: Path, poisoned: list[int]
) -> None:
    steps: list[dict] = []
    with pytest.raises(ModelError) as caught:
        train(short(tiny), golden, tmp_path, on_progress=steps.append)
    assert caught.value.code == "not_finite"
    assert f"step {len(steps)}" in caught.value.reason
    assert "drive-a" in caught.value.reason
    assert "row 5" in caught.value.reason
    assert poisoned == [5]
    if steps:
        assert ckpt.load(tmp_path / "checkpoint.pt")["step"] <= len(steps)


def test_what_is_on_disk_when_a_run_ends_is_the_sound_state_before(
    golden: Path, tiny: TrainingPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = runs.Run.learn

    def spoilt(self: runs.Run, batch: Batch) -> float:
        if self.step == 4:
            with torch.no_grad():
                self.net.heads.bias.fill_(float("nan"))
        return learn(self, batch)

    monkeypatch.setattr(runs.Run, "learn", spoilt)
    with pytest.raises(ModelError) as caught:
        train(short(tiny), golden, tmp_path)
    assert caught.value.code == "not_finite"
    state = ckpt.load(tmp_path / "checkpoint.pt")
    assert 0 < state["step"] <= 4
    assert all(torch.isfinite(v).all() for v in state["model"].values())


def test_by_policy_such_a_step_is_left_out_without_a_trace(
    golden: Path, tiny: TrainingPolicy, tmp_path: Path, poisoned: list[int]
) -> None:
    summary = train(short(tiny, on_not_finite="skip", sanity_steps=0), golden, tmp_path)
    assert summary.ended_by == "epochs"
    state = ckpt.load(summary.checkpoint)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [row["skipped_steps"] for row in history] == [1, 1, 1]
    assert all(torch.isfinite(v).all() for v in (*state["model"].values(), *state["ema"].values()))
    tracked = {int(v) for k, v in state["model"].items() if k.endswith("num_batches_tracked")}
    assert tracked == {summary.steps - 3}
    assert len(poisoned) == 3


def test_skipping_has_an_end(golden: Path, tiny: TrainingPolicy, tmp_path: Path, poisoned: list[int]) -> None:
    policy = short(tiny, on_not_finite="skip", max_skipped_steps=0)
    with pytest.raises(ModelError) as caught:
        train(policy, golden, tmp_path)
    assert caught.value.code == "not_finite"


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        ("frozen", "teaches nothing"),
        ("nan", "the loss of the first batch is nan"),
        ("cut", "no gradient reaches"),
    ],
)
def test_a_first_batch_that_teaches_nothing_ends_the_run_before_its_first_step(
    sabotage: str,
    words: str,
    golden: Path,
    tiny: TrainingPolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from av_assets.domain.learning import guards

    honest = guards.forward

    def forward(
        net: torch.nn.Module, batch: Batch, config: TrainingPolicy
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = honest(net, batch, config)
        changed = {
            "frozen": loss * 0 + 1,
            "nan": loss * float("nan"),
            "cut": loss.detach() + net.heads.bias.sum(),
        }
        return changed[sabotage], parts

    monkeypatch.setattr(guards, "forward", forward)
    steps: list[dict] = []
    with pytest.raises(ModelError) as caught:
        train(short(tiny), golden, tmp_path, on_progress=steps.append)
    assert caught.value.code == "sanity_failed"
    assert words in caught.value.reason
    assert steps == []


def test_the_check_of_the_first_batch_leaves_no_trace(
    golden: Path, tiny: TrainingPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[list[float]] = []
    check = training.check_sanity
    monkeypatch.setattr(training, "check_sanity", lambda *given: checked.append(check(*given)))
    for steps in (0, 6):
        train(short(tiny, epochs=1, sanity_steps=steps), golden, tmp_path / str(steps))
    [losses] = checked
    assert len(losses) == 7
    assert min(losses) < losses[0]
    mine, theirs = (ckpt.load(tmp_path / n / "checkpoint.pt")["model"] for n in ("0", "6"))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
