"""The training loop: one function to read from top to bottom, resumable at every step.

Nothing in the run depends on hidden state: the order of an epoch is a function of (seed, epoch), the
augmentation of a step of (seed, step). So a run that was stopped and resumed gives the same bits as one that
was not.
Belongs here: the loop and what it owns. Does not belong here: layers, losses, the checkpoint file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.learning.run import Run
from av_assets.domain.metrics.boxes import Boxes
from av_assets.domain.metrics.matching import map50
from av_assets.domain.models.dataset import Batch, GoldenFrames
from av_assets.domain.models.network import PerceptionNet, decode
from av_assets.policies.training import TrainingPolicy

AUGMENT = 1  # tells the stream of augmentation from the stream of orders


@dataclass(frozen=True)
class TrainSummary:
    """How a run ended: by "epochs" (a finished schedule), by "stop" or by "max_seconds"."""

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


def train(
    config: TrainingPolicy,
    dataset_dir: Path,
    out_dir: Path,
    resume: Path | None = None,
    on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
    now: Callable[[], float] = time.perf_counter,
) -> TrainSummary:
    """Teach a network on the train split and score it on the val split after each epoch.

    Writes checkpoint.pt (each epoch and at the end), config.json, history.json and curves.png into `out_dir`.

    Args:
        resume: checkpoint to go on from; it must come from the same dataset, config and seed.
        on_progress: called after each step with step, steps, epoch, loss, samples_per_s, eta_s, wait_s,
        compute_s. stop: asked before each step; true saves and returns.
        now: seconds of a steady clock, for speeds and the time budget only.

    Raises:
        DatasetError: no dataset, or an empty train split.
        ModelError: dataset_mismatch, config_mismatch, bad_checkpoint on resume; not_finite when the loss is
        NaN.
    """
    started = now()
    out_dir.mkdir(parents=True, exist_ok=True)
    with _reproducible(config, seed):
        frames = GoldenFrames(dataset_dir, "train", config)
        val = GoldenFrames(dataset_dir, "val", config, config.max_val_frames)
        run = Run(config, frames, seed)
        if resume is not None:
            run.restore(resume)
        wait_s = compute_s = 0.0
        ended_by = "epochs"
        first_step = run.step
        while run.epoch < config.epochs:
            batches = _rest_of_epoch(frames, run)
            while run.batch_in_epoch < run.batches_per_epoch:
                if stop():
                    ended_by = "stop"
                elif now() - started > config.max_seconds:
                    ended_by = "max_seconds"
                if ended_by != "epochs":
                    break
                t0 = now()
                batch = next(batches)
                t1 = now()
                loss = run.learn(batch)
                wait_s, compute_s = wait_s + t1 - t0, compute_s + now() - t1
                per_step_s = (wait_s + compute_s) / (run.step - first_step)
                on_progress(
                    {
                        "step": run.step,
                        "steps": run.steps,
                        "epoch": run.epoch,
                        "loss": loss,
                        "samples_per_s": config.batch_size / max(per_step_s, 1e-9),
                        "eta_s": (run.steps - run.step) * per_step_s,
                        "wait_s": wait_s,
                        "compute_s": compute_s,
                    }
                )
            batches.close()
            if ended_by != "epochs":
                break
            run.end_epoch(validate(run.averaged_net(), val, config.batch_size))
            run.save(out_dir / ckpt.CHECKPOINT_FILE)
        run.save(out_dir / ckpt.CHECKPOINT_FILE)
    _write_reports(out_dir, config, run)
    return _summary(run, out_dir / ckpt.CHECKPOINT_FILE, ended_by, now() - started)


def _rest_of_epoch(frames: GoldenFrames, run: Run) -> Generator[Batch, None, None]:
    """The batches from where `run` stands, each made by a second thread while the one before is learnt."""
    order, size = frames.order(run.seed, run.epoch), run.config.batch_size
    first_step = run.epoch * run.batches_per_epoch

    def make(index: int) -> Batch:
        rng = np.random.default_rng([run.seed, AUGMENT, first_step + index])
        return frames.batch(order[index * size : (index + 1) * size], rng)

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(make, run.batch_in_epoch)
        for index in range(run.batch_in_epoch, run.batches_per_epoch):
            batch = ahead.result()
            if index + 1 < run.batches_per_epoch:
                ahead = pool.submit(make, index + 1)
            yield batch


def validate(net: PerceptionNet, frames: GoldenFrames, batch_size: int) -> float | None:
    """AP at IoU 0.5, mean over classes, on all `frames` without augmentation; None where there is none to
    score.

    Boxes are compared at input size and ignored ones count neither way; `metrics` measures at camera size.
    """
    found, truth, ignored = [], [], []
    for indices, batch in frames.in_order(batch_size):
        with torch.no_grad():
            decoded = decode(net(batch.picture), net.max_detections)
        for row, index in enumerate(indices):
            example = frames.example(index)
            found.append(Boxes.of_frame(index, decoded.boxes[row], decoded.classes[row], decoded.scores[row]))
            truth.append(Boxes.of_frame(index, example.boxes, example.classes))
            ignored.append(example.ignored)
    if not truth:
        return None
    return map50(Boxes.concat(truth), Boxes.concat(found), np.concatenate(ignored), len(frames.classes))


@contextmanager
def _reproducible(config: TrainingPolicy, seed: int) -> Iterator[None]:
    """Seeds, threads and algorithms as the policy says, and as before afterwards."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.set_num_threads(config.num_threads)
    torch.use_deterministic_algorithms(config.deterministic)
    # Would fill every new tensor, a sixth of the time, to guard against reading memory that nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.set_rng_state(before[2])


def _summary(run: Run, path: Path, ended_by: str, seconds: float) -> TrainSummary:
    last = run.history[-1] if run.history else {}
    return TrainSummary(
        checkpoint=path,
        ended_by=ended_by,
        step=run.step,
        steps=run.steps,
        epochs_done=run.epoch,
        val_map50=last.get("val_map50"),
        loss=last.get("loss", run.loss_sums.get("loss", 0.0) / max(1, run.batch_in_epoch)),
        parameters=sum(p.numel() for p in run.net.parameters()),
        seconds=seconds,
        dataset_digest=run.dataset_digest,
        config_digest=run.config.digest,
    )


def _write_reports(out_dir: Path, config: TrainingPolicy, run: Run) -> None:
    from av_assets.domain.metrics.pictures import training_curves

    ckpt.write_atomically(out_dir / "config.json", canonical_json(config.model_dump(mode="json")))
    ckpt.write_atomically(out_dir / "history.json", canonical_json(run.history))
    ckpt.write_atomically(out_dir / "curves.png", training_curves(run.history))
