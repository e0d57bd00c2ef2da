"""The state of a training run: what a step changes, what a checkpoint holds, what a resumed run takes back.

Belongs here: optimiser, schedule, moving average, their saving and restoring. Does not belong here: the order
of things (`train`), losses, layers.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import torch

from av_assets.domain.errors import ModelError
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.models.dataset import Batch, GoldenFrames
from av_assets.domain.models.losses import total_loss
from av_assets.domain.models.network import PerceptionNet
from av_assets.policies.training import TrainingPolicy

POSITION: Final = ("epoch", "batch_in_epoch", "step", "loss_sums", "history")


class Run:
    """The mutable state of a run; `step` counts from the first run, not from the resumption."""

    def __init__(self, config: TrainingPolicy, frames: GoldenFrames, seed: int) -> None:
        self.config, self.seed = config, seed
        self.dataset_digest, self.classes = frames.digest, frames.classes
        self.batches_per_epoch = math.ceil(len(frames) / config.batch_size)
        self.steps = self.batches_per_epoch * config.epochs
        self.net = PerceptionNet(len(frames.classes), config).to(memory_format=torch.channels_last)
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        plain = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: self._rate(step))
        self.ema = {k: v.clone() for k, v in self.net.state_dict().items()} if config.ema_decay else {}
        self.step = self.epoch = self.batch_in_epoch = 0
        self.loss_sums: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []

    def _rate(self, step: int) -> float:
        """Share of the peak learning rate: linear warm-up, then cosine."""
        warmup = max(1, round(self.config.warmup_share * self.steps))
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, self.steps - warmup))
        floor = self.config.final_learning_rate_share
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    def learn(self, batch: Batch) -> float:
        """One step of gradient descent.

        Raises:
            ModelError: the loss or a gradient is not finite; the weights are those of the step before.
        """
        self.net.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            heads = self.net(batch.picture)
        loss, parts = total_loss(heads, batch, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.config.max_gradient_norm)
        if not (math.isfinite(float(loss.detach())) and math.isfinite(float(norm))):
            raise ModelError(
                f"loss or gradient is not finite at step {self.step}",
                code="not_finite",
                remedy="lower learning_rate or look for broken labels; the last checkpoint is sound",
            )
        self.optimizer.step()
        self.scheduler.step()
        self.step, self.batch_in_epoch = self.step + 1, self.batch_in_epoch + 1
        for name, part in {"loss": float(loss.detach()), **parts}.items():
            self.loss_sums[name] = self.loss_sums.get(name, 0.0) + part
        self._average()
        return float(loss.detach())

    def _average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        # state_dict gives detached tensors: nothing here is recorded for gradients
        for name, value in self.net.state_dict().items() if self.ema else ():
            if value.is_floating_point():
                self.ema[name].lerp_(value, 1 - decay)
            else:
                self.ema[name].copy_(value)

    def averaged_net(self) -> PerceptionNet:
        net = PerceptionNet(len(self.classes), self.config)
        net.to(memory_format=torch.channels_last)
        net.load_state_dict(self.ema or self.net.state_dict())
        net.eval()
        return net

    def end_epoch(self, val_map50: float | None) -> None:
        means = {name: total / self.batches_per_epoch for name, total in self.loss_sums.items()}
        rate = self.scheduler.get_last_lr()[0]
        self.history.append({"epoch": self.epoch, **means, "learning_rate": rate, "val_map50": val_map50})
        self.epoch, self.batch_in_epoch, self.loss_sums = self.epoch + 1, 0, {}

    def save(self, path: Path) -> None:
        state = {
            "model": self.net.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "config": self.config.model_dump(mode="json"),
            "config_digest": self.config.digest,
            "classes": list(self.classes),
        }
        plain = ("seed", "dataset_digest", *POSITION)
        ckpt.save(path, state | {name: getattr(self, name) for name in plain})

    def restore(self, path: Path) -> None:
        """Go on from `path`.

        Raises:
            ModelError: it belongs to another dataset, config or seed.
        """
        state = ckpt.load(path)
        for code, mine, theirs in (
            ("dataset_mismatch", self.dataset_digest, state["dataset_digest"]),
            ("config_mismatch", (self.config.digest, self.seed), (state["config_digest"], state["seed"])),
        ):
            if mine != theirs:
                remedy = "start a new run, or give back what the checkpoint was made from"
                raise ModelError(
                    f"checkpoint has {theirs}, this run {mine}", code=code, file=path, remedy=remedy
                )
        self.net.load_state_dict(state["model"])
        self.ema = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["torch_rng"])
        for name in POSITION:
            setattr(self, name, state[name])
