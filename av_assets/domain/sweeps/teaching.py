"""The objective that sweeps are for: a network is taught, scored on the val split after each epoch, and measured.

The test split is never looked at: what is chosen here is judged there.
Belongs here: changing the training policy, reading the figures of the training. Does not belong here: the study.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from av_assets.domain.errors import ModelError, PolicyError, TransientError
from av_assets.domain.sweeps.asking import Launch
from av_assets.domain.sweeps.trial import Report
from av_assets.policies.sweeps import SweepPolicy, training_policy

LATENCY: Final = "latency_p95_ms"
WARMUP: Final = 5


@dataclass
class Teaching:
    """Teaches the network of a launch.

    Attributes:
        dataset: folder of the golden dataset.
        state: folder of the training's own state; a trial that goes on for another finds its checkpoint here.
        wanted: figures that are measured only where somebody asks for them.
        stopped: whether the process was asked to end.
        say: told about every step.
    """

    spec: SweepPolicy
    dataset: Path
    state: Path
    stopped: Callable[[], bool] = lambda: False
    say: Callable[[dict[str, Any]], None] = lambda _: None

    def __call__(self, launch: Launch, report: Report) -> Mapping[str, float]:
        """The last epoch's figures, the number of parameters and, where it is asked for, the latency.

        Raises:
            PolicyError: bad_trial, the training policy refuses these values together.
            TransientError: interrupted, the process was asked to end; it may go on later.
            ModelError: no_epoch, the time was over before the first epoch; see also `train`.
        """
        from av_assets.domain.learning.train import train

        goal = self.spec.goals[0].metric
        told = _Told(self.state / "checkpoint.pt", goal, report)
        summary = train(
            self._policy(launch),
            self.dataset,
            self.state,
            self._earlier(),
            self.say,
            launch.seed,
            lambda: self.stopped() or told.enough(),
        )
        if self.stopped() and not told.over:
            raise TransientError("the trial was asked to end", code="interrupted")
        history = json.loads((self.state / "history.json").read_bytes())
        told.tell(history)
        if not history:
            raise ModelError(
                f"the time was over in epoch 1 ({summary.step} of {summary.steps} steps)",
                code="no_epoch",
                remedy="raise budget.trial_seconds, or teach a smaller network",
            )
        found = dict(figures(history[-1])) | {"parameters": float(summary.parameters)}
        if LATENCY in self.spec.metrics and not told.over:
            found[LATENCY] = latency_p95_ms(summary.checkpoint, self.spec.latency_runs)
        return found

    def _policy(self, launch: Launch) -> Any:
        try:
            return training_policy(self.spec, launch.values)
        except ValueError as error:
            raise PolicyError(
                f"the training policy refuses {launch.values}: {error}", code="bad_trial"
            ) from error

    def _earlier(self) -> Path | None:
        held = self.state / "checkpoint.pt"
        return held if held.is_file() else None


@dataclass
class _Told:
    """Tells the study about each epoch that the checkpoint knows of."""

    checkpoint: Path
    goal: str
    report: Report
    over: bool = False
    seen: int = -1

    def enough(self) -> bool:
        """Asked before each step: whether the study wants no more of this trial."""
        if self.checkpoint.is_file() and (changed := self.checkpoint.stat().st_mtime_ns) != self.seen:
            from av_assets.domain.learning import checkpoint

            self.seen = changed
            self.tell(checkpoint.load(self.checkpoint)["history"])
        return self.over

    def tell(self, history: list[dict[str, Any]]) -> None:
        for done, row in enumerate(history, start=1):
            value = figures(row).get(self.goal)
            if value is not None:
                self.over = self.report(done, value) or self.over


def figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of one epoch by their paths: `val_map50`, `slices/night/map50`; unknown ones are left out."""
    return dict(_flat(row, ""))


def _flat(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{path}/{name}" if path else str(name))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def latency_p95_ms(checkpoint: Path, runs: int) -> float:
    """95th percentile of one inference by onnxruntime, batch of one, one thread, on this machine.

    The inputs are zeros: a convolution takes as long whatever it sees.
    """
    import numpy as np
    import onnxruntime

    from av_assets.domain.packaging.onnx_file import to_onnx
    from av_assets.domain.packaging.source import read_source
    from av_assets.policies.packaging import PackagingPolicy

    source = read_source(checkpoint)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        to_onnx(source, PackagingPolicy.load().opset, {}), options, providers=["CPUExecutionProvider"]
    )
    fed = {one.name: np.zeros((1, *one.shape), one.dtype) for one in source.inputs}
    times_ms = []
    for number in range(WARMUP + runs):
        started = time.perf_counter()
        session.run(None, fed)
        if number >= WARMUP:
            times_ms.append((time.perf_counter() - started) * 1e3)
    return float(np.percentile(times_ms, 95))
