"""Train with several processes: started by test_distributed.py through torchrun with a JSON list of jobs.

A job: {config, dataset, out, seed, resume?, stop_after?}. All of them run in one process group, since most of the
time of a short training is its start.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from av_assets.domain.learning.distributed import process_group
from av_assets.domain.learning.train import train
from av_assets.policies.training import TrainingPolicy


def run(job: dict[str, Any]) -> None:
    steps: list[dict[str, Any]] = []
    train(
        TrainingPolicy.model_validate(job["config"]),
        Path(job["dataset"]),
        Path(job["out"]),
        Path(job["resume"]) if "resume" in job else None,
        on_progress=steps.append,
        seed=job["seed"],
        stop=lambda: len(steps) >= job.get("stop_after", 1 << 30),
    )


def main() -> None:
    jobs = json.loads(sys.argv[1])
    first = TrainingPolicy.model_validate(jobs[0]["config"])
    with process_group(first):
        for job in jobs:
            run(job)


if __name__ == "__main__":
    main()
