"""The training process: started by checkpoints through Pipes, on a laptop as a child, in the cluster as a pod.

It keeps its state outside the bundle, so that a worker that was killed goes on where it stopped.
"""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dagster_pipes import open_dagster_pipes

from av_assets.policies.training import TrainingPolicy
from resources.tracking import Tracking

REPORT_EVERY_S = 5.0


class Reporter:
    """Says every few seconds where training is, in the run's log and to W&B."""

    def __init__(self, say: Any, run: Any) -> None:
        self._say, self._run, self._last = say, run, 0.0

    def __call__(self, progress: dict[str, Any]) -> None:
        self._run.log({k: v for k, v in progress.items() if k != "step"}, step=progress["step"])
        if time.monotonic() - self._last > REPORT_EVERY_S or progress["step"] == progress["steps"]:
            self._last = time.monotonic()
            self._say(
                "step {step}/{steps} loss {loss:.3f} {samples_per_s:.0f} samples/s eta {eta_s:.0f} s "
                "wait {wait_s:.1f} s compute {compute_s:.1f} s".format(**progress)
            )


def main() -> None:
    """Train, report, and leave checkpoint.pt, config.json, history.json and curves.png in the output folder."""
    from av_assets.domain.learning.train import train

    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    with open_dagster_pipes() as pipes:
        policy = TrainingPolicy.load()
        state, out = Path(pipes.get_extra("state")), Path(pipes.get_extra("out"))
        earlier = state / "checkpoint.pt"
        tracking = Tracking(folder=pipes.get_extra("tracking"))
        with tracking.run(
            pipes.get_extra("release"), policy.model_dump(mode="json"), ("checkpoints",)
        ) as run:
            summary = train(
                policy,
                Path(pipes.get_extra("dataset")),
                state,
                earlier if earlier.is_file() else None,
                Reporter(pipes.log.info, run),
                pipes.get_extra("seed"),
                lambda: bool(asked_to_stop),
            )
            run.summary.update({k: v for k, v in asdict(summary).items() if isinstance(v, int | float | str)})
        if summary.ended_by == "stop":
            raise SystemExit("stopped on request; the next run goes on from here")
        for path in sorted(state.iterdir()):
            shutil.move(path, out / path.name)
        state.rmdir()


if __name__ == "__main__":
    main()
