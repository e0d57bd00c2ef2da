"""The state of a training run: what a step changes, what a checkpoint holds, what a resumed run takes back.

Belongs here: network, optimiser, schedule, averages, one step, their saving and restoring. Does not belong here: the
order of things (`train`), losses, layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from av_assets.domain.errors import ModelError
from av_assets.domain.learning.averaging import BatchStatistics, MovingWeights
from av_assets.domain.learning.distributed import World, exchanging, placed, spread, whole, whole_state
from av_assets.domain.learning.guards import Batch, forward, not_finite
from av_assets.domain.learning.precision import grad_scaler, random_states, set_random_states
from av_assets.domain.learning.schedule import learning_rate_share
from av_assets.domain.models.network import PerceptionNet
from av_assets.policies.training import TrainingPolicy

POSITION: Final = ("epoch", "batch_in_epoch", "step", "skipped_steps", "loss_sums", "history", "best")


class Lesson(NamedTuple):
    """What a run learns from, as far as its state depends on it."""

    classes: tuple[str, ...]
    dataset_digest: str
    batches_per_epoch: int
    name_of: Callable[[int], str]  # of a sample, by its position in the index


class Run:
    """The mutable state of a run; `step` counts from the first run, not from the resumption."""

    def __init__(self, config: TrainingPolicy, lesson: Lesson, seed: int, world: World) -> None:
        self.config, self.lesson, self.seed, self.world = config, lesson, seed, world
        self.accumulation = world.accumulation(config)
        self.steps = lesson.batches_per_epoch * config.epochs
        self.net = self._new_net()
        self.spread_net = spread(self.net, config, world)
        self.ema = MovingWeights(self.net, config.ema_decay)  # after spreading: sharded as the weights are
        self.statistics = BatchStatistics(self.net)
        self.model = self._compiled()
        self.optimizer = self._new_optimizer()
        self.scaler = grad_scaler(config, world.device)
        self.step = self.epoch = self.batch_in_epoch = self.skipped_steps = 0
        self.loss_sums: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self.best: float | None = None

    def _new_net(self) -> PerceptionNet:
        net = PerceptionNet(len(self.lesson.classes), self.config)
        net.to(device=self.world.device, memory_format=torch.channels_last)
        return net

    def _compiled(self) -> Any:
        if self.config.compile == "off":
            return self.spread_net
        return torch.compile(self.spread_net, backend=self.config.compile)

    def _new_optimizer(self) -> torch.optim.AdamW:
        parameters = list(self.net.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        sharded = self.world.size > 1 and self.config.distribution == "fsdp"
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, fused=not sharded)

    @property
    def learning_rate(self) -> float:
        """Of the next step: a function of its number alone, so that there is no scheduler to restore."""
        config = self.config
        floor = config.final_learning_rate_share
        return config.learning_rate * learning_rate_share(self.step, self.steps, config.warmup_share, floor)

    # -- one step --------------------------------------------------------------------------------------------------

    def learn(self, batch: Batch) -> float:
        """One step of gradient descent on this process's samples of the step; returns the loss over all processes.

        Raises:
            ModelError: not_finite, and the policy says stop; the weights are those of the step before.
        """
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.statistics.begin()
        self.optimizer.zero_grad(set_to_none=True)
        losses, broken = self._descend(batch)
        losses, norm = self.world.mean(losses), self._clip()
        finite = bool(torch.isfinite(losses).all())
        overflow = self.scaler.is_enabled() and self.scaler.get_scale() >= 1
        if finite and (math.isfinite(norm) or overflow):
            self.scaler.step(self.optimizer)  # leaves out a step that overflowed float16
        else:
            self._leave_out(broken)
        self.scaler.update()
        if finite and math.isfinite(norm):
            self.statistics.end(self.world, self.accumulation)
            self.ema.follow(self.net, self.step + 1)
        else:
            self.statistics.undo()
        self._advance(losses if finite else None)
        return float(losses[0])

    def _descend(self, batch: Batch) -> tuple[Tensor, Batch]:
        """Gradients of the mean loss; (losses with their parts, the samples of losses that are not finite)."""
        means: dict[str, Tensor] = {}
        broken: list[Tensor] = []
        for number, micro in enumerate(micro_batches(batch, self.accumulation)):
            with exchanging(self.spread_net, number == self.accumulation - 1):
                loss, parts = forward(self.model, micro, self.config)
                self.scaler.scale(loss / self.accumulation).backward()
            if self.config.micro_batches > 1:
                self.statistics.end_micro_batch()
            if not bool(torch.isfinite(loss)):
                broken.append(micro["sample"])
            for name, part in {"loss": loss, **parts}.items():
                share = torch.as_tensor(part).detach().double().cpu() / self.accumulation
                means[name] = means.get(name, torch.zeros((), dtype=torch.float64)) + share
        self._parts = tuple(means)
        return torch.stack(list(means.values())), {"sample": torch.cat(broken) if broken else torch.empty(0)}

    def _clip(self) -> float:
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.config.max_gradient_norm)
        return float(whole(norm))

    def _leave_out(self, broken: Batch) -> None:
        """Skip the step, or end the run with the names of the samples that broke it, on whichever process."""
        found = sorted({int(i) for part in self.world.gather(broken["sample"].tolist()) for i in part})
        self.skipped_steps += 1
        if self.config.on_not_finite == "stop" or self.skipped_steps > self.config.max_skipped_steps:
            self.statistics.undo()
            raise not_finite(self.step, [self.lesson.name_of(i) for i in found], self.skipped_steps - 1)

    def _advance(self, losses: Tensor | None) -> None:
        self.step, self.batch_in_epoch = self.step + 1, self.batch_in_epoch + 1
        for name, value in zip(self._parts, losses.tolist() if losses is not None else (), strict=False):
            self.loss_sums[name] = self.loss_sums.get(name, 0.0) + value

    # -- between steps -----------------------------------------------------------------------------------------------

    def averaged_net(self) -> PerceptionNet:
        """The network to validate: the moving average, whole on every process."""
        return self._copy(whole_state(self.ema.weights or self.net.state_dict()))

    def copied_net(self) -> PerceptionNet:
        """The network as it is, to try things on."""
        return self._copy(whole_state(self.net.state_dict()))

    def _copy(self, weights: dict[str, Any]) -> PerceptionNet:
        with torch.random.fork_rng(
            devices=[]
        ):  # initial weights, overwritten at once, must not cost random numbers
            net = self._new_net()
        net.load_state_dict(weights)
        net.eval()
        return net

    def end_epoch(self, scores: Mapping[str, Any]) -> bool:
        """Write the epoch into the history; whether it is the best so far by val_map50."""
        learned = max(1, self.batch_in_epoch - self.skipped_steps)
        means = {name: total / learned for name, total in self.loss_sums.items()}
        rate = self.optimizer.param_groups[0]["lr"]
        skipped = {"skipped_steps": self.skipped_steps} if self.skipped_steps else {}
        self.history.append({"epoch": self.epoch, **means, "learning_rate": rate, **skipped, **scores})
        self.epoch, self.batch_in_epoch, self.skipped_steps, self.loss_sums = self.epoch + 1, 0, 0, {}
        score = scores.get("val_map50")
        if score is None or (self.best is not None and score <= self.best):
            return False
        self.best = score
        return True

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def state(self, loader: Mapping[str, Any]) -> dict[str, Any]:
        """Everything, whole, the same on every process; every process has to call it."""
        return {
            "model": whole_state(self.net.state_dict()),
            "ema": whole_state(self.ema.weights),
            "optimizer": self._optimizer_state(),
            "scheduler": {"steps": self.steps, "learning_rate": self.learning_rate},
            "scaler": self.scaler.state_dict(),
            "random": self.world.gather(random_states()),
            "loader": dict(loader),
            "config": self.config.model_dump(mode="json"),
            "config_digest": self.config.digest,
            "recipe_digest": self.config.recipe_digest,
            "classes": list(self.lesson.classes),
            "dataset_digest": self.lesson.dataset_digest,
            "world_size": self.world.size,
            "seed": self.seed,
        } | {name: getattr(self, name) for name in POSITION}

    def _optimizer_state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.optimizer.state_dict()
        state["state"] = {number: whole_state(moments) for number, moments in state["state"].items()}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, of any number of processes.

        Raises:
            ModelError: it belongs to another dataset, config or seed.
        """
        recipe = (self.config.recipe_digest, self.seed)
        _require_same("dataset_mismatch", self.lesson.dataset_digest, state["dataset_digest"])
        _require_same("config_mismatch", recipe, (state["recipe_digest"], state["seed"]))
        for name, value in self.net.state_dict().items():
            value.copy_(placed(state["model"][name], value))
        for name, value in self.ema.weights.items():
            value.copy_(placed(state["ema"][name], value))
        self._restore_optimizer(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        set_random_states(state["random"][self.world.rank % len(state["random"])])
        for name in POSITION:
            setattr(self, name, state[name])

    def _restore_optimizer(self, state: Mapping[str, Any]) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments = {
            number: {
                name: placed(value, parameters[number]) if value.ndim else value
                for name, value in kept.items()
            }
            for number, kept in state["state"].items()
        }
        self.optimizer.load_state_dict({**state, "state": moments})


def micro_batches(batch: Batch, count: int) -> Iterator[Batch]:
    """Every `count`-th sample, from each of the first `count`: how `distributed` numbers micro batches."""
    for number in range(count):
        yield batch if count == 1 else {name: values[number::count] for name, values in batch.items()}


def _require_same(code: str, mine: object, theirs: object) -> None:
    if mine != theirs:
        remedy = "start a new run, or give back what the checkpoint was made from"
        raise ModelError(f"checkpoint has {theirs}, this run {mine}", code=code, remedy=remedy)
