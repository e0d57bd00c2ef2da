"""The training loop: one function to read from top to bottom, resumable at every step.

Nothing in the run depends on hidden state: the order of an epoch is a function of (seed, epoch), the augmentation of a
sample of (seed, epoch, sample). So a run that was stopped and resumed gives the same bits as one that was not.
Belongs here: the loop and what it owns. Does not belong here: one step (`run`), several processes (`distributed`),
layers, losses, the checkpoint file.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.learning.batches import Lessons
from av_assets.domain.learning.distributed import World
from av_assets.domain.learning.guards import check_sanity
from av_assets.domain.learning.precision import reproducible
from av_assets.domain.learning.progress import Meter
from av_assets.domain.learning.run import Lesson, Run, micro_batches
from av_assets.domain.learning.validation import validate
from av_assets.domain.loading.sources import ShardSource
from av_assets.policies.training import TrainingPolicy

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TrainSummary:
    """How a run ended: by "epochs" (a finished schedule), by "stop" or by "max_seconds".

    `timing`: seconds in parts, samples/s and the share of waiting, since the run began or was resumed.
    """

    checkpoint: Path
    ended_by: str
    step: int
    steps: int
    epochs_done: int
    val_map50: float | None
    loss: float
    parameters: int
    seconds: float
    dataset_digest: str
    config_digest: str
    world_size: int
    timing: Mapping[str, float]


def train(
    config: TrainingPolicy,
    dataset_dir: Path,
    out_dir: Path,
    resume: Path | None = None,
    on_progress: Say = lambda _: None,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
    now: Callable[[], float] = time.perf_counter,
    source: ShardSource | None = None,
    on_start: Say = lambda _: None,
    on_checkpoint: Callable[[Path, int], None] = lambda _, __: None,
) -> TrainSummary:
    """Teach a network on the train split and score it on the val split after each epoch.

    Under torchrun every process calls this with the same arguments, inside `distributed.process_group`; the first one
    writes. Leaves checkpoint.pt, best.pt, kept/, config.json, history.json, curves.png and environment.json in
    `out_dir`.

    Args:
        resume: checkpoint to go on from, of any number of processes; it must come from the same dataset, recipe and
            seed.
        on_progress: called after each step with step, steps, epoch, loss, samples_per_s, eta_s, wait_s, compute_s,
            wait_share.
        stop: asked after each step, on every process; true anywhere saves and returns.
        now: seconds of a steady clock, for speeds, the time budget and the interval of checkpoints only.
        source: where shards come from; the dataset's folder itself where it is None.
        on_start: called once with what is known before the first step.
        on_checkpoint: called with each checkpoint that was written and its step; its time counts as writing.

    Raises:
        DatasetError: no dataset, or an empty train split.
        ModelError: dataset_mismatch, config_mismatch, bad_checkpoint on resume; sanity_failed; not_finite; world_size.
        TransientError: disk_full; the checkpoint before is whole.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    world = World.here(config)
    with reproducible(config, seed), Lessons(dataset_dir, config, seed, world, source) as lessons:
        per_epoch = len(lessons.train)
        run = Run(config, Lesson(lessons.classes, lessons.digest, per_epoch, lessons.name), seed, world)
        if resume is not None:
            state = ckpt.load(resume)
            run.restore(state)
            lessons.train.load_state_dict(state["loader"])
        meter = Meter(now, run.step)

        def save(best: bool = False) -> None:
            with meter.saving():
                state = run.state(lessons.train.state_dict())
                if world.is_main:
                    on_checkpoint(ckpt.save_among(out_dir, state, config.keep_checkpoints, best), run.step)

        on_start(_facts(run, lessons))
        ended_by = ""
        while run.epoch < config.epochs and not ended_by:
            batches = iter(lessons.train)
            while run.batch_in_epoch < per_epoch and not ended_by:
                # the first batch waits for worker processes to start, which says nothing about the loader
                with meter("wait" if "compute" in meter.seconds else "start"):
                    batch = {name: values.to(world.device) for name, values in next(batches).items()}
                if run.step == 0 and config.sanity_steps:
                    check_sanity(run.copied_net(), next(micro_batches(batch, run.accumulation)), config)
                with meter("compute"):
                    loss = run.learn(batch)
                measured = meter.report(run.step, run.steps, config.effective_batch)
                place = {"step": run.step, "steps": run.steps, "epoch": run.epoch, "loss": loss}
                on_progress(place | measured)
                late = now() - meter.started_s > config.max_seconds
                due = meter.save_is_due(config.hours_between_failures * 3600)
                stopped, late, due = world.any_of(stop(), late, due)
                ended_by = "stop" if stopped else "max_seconds" if late else ""
                if due and not ended_by:
                    save()
            del batches  # ends the loader's epoch
            if not ended_by:
                with meter("validate"):
                    scores = validate(run.averaged_net(), lessons, config, world)
                best = run.end_epoch(scores)
                lessons.train.set_epoch(run.epoch)
                save(best)
        if ended_by:
            save()
    if world.is_main:
        _write_reports(out_dir, config, run)
    return _summary(run, meter, out_dir / ckpt.CHECKPOINT_FILE, ended_by or "epochs")


def _facts(run: Run, lessons: Lessons) -> dict[str, Any]:
    """What is known before the first step, so that a wrong run can be ended early."""
    return {
        "samples": len(lessons.train_index),
        "val_frames": len(lessons.val_index),
        "steps": run.steps,
        "first_step": run.step,
        "effective_batch": run.config.effective_batch,
        "accumulation": run.accumulation,
        "processes": run.world.size,
        "device": str(run.world.device),
        "precision": run.config.precision,
        "parameters": sum(p.numel() for p in run.net.parameters()),
        "dataset_digest": run.lesson.dataset_digest,
        "config_digest": run.config.digest,
    }


def _summary(run: Run, meter: Meter, path: Path, ended_by: str) -> TrainSummary:
    last = run.history[-1] if run.history else {}
    timing = meter.report(run.step, run.steps, run.config.effective_batch)
    spent = {f"{part}_s": seconds for part, seconds in meter.seconds.items()}
    return TrainSummary(
        checkpoint=path,
        ended_by=ended_by,
        step=run.step,
        steps=run.steps,
        epochs_done=run.epoch,
        val_map50=last.get("val_map50"),
        loss=last.get("loss", run.loss_sums.get("loss", 0.0) / max(1, run.batch_in_epoch)),
        parameters=sum(p.numel() for p in run.net.parameters()),
        seconds=meter.now() - meter.started_s,
        dataset_digest=run.lesson.dataset_digest,
        config_digest=run.config.digest,
        world_size=run.world.size,
        timing=timing | spent,
    )


def _write_reports(out_dir: Path, config: TrainingPolicy, run: Run) -> None:
    from av_assets.domain.metrics.pictures import training_curves

    ckpt.write_atomically(out_dir / "config.json", canonical_json(config.model_dump(mode="json")))
    ckpt.write_atomically(out_dir / "history.json", canonical_json(run.history))
    ckpt.write_atomically(out_dir / "curves.png", training_curves(run.history))
    ckpt.write_atomically(out_dir / "environment.json", canonical_json(_environment(run)))


def _environment(run: Run) -> dict[str, Any]:
    """What else decides the bits; no times and no names of machines."""
    device = run.world.device
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": run.config.num_threads,
        "world_size": run.world.size,
        "seed": run.seed,
        "dataset_digest": run.lesson.dataset_digest,
    }
