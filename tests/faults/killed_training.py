"""Train in processes that may die at any moment: started by test_training_kill.py, which writes jobs to its input.

A job is a line of JSON: {config, dataset, out, seed, moment}; moment: never | step:N | write:N | renamed:N | outside.
step:N dies after the N-th step of the process; write:N in the middle of the bytes of its N-th checkpoint; renamed:N
right after that one got its name, and before it got the others; outside waits for the test to kill it, after four
steps without going on. Prints the process id of each, and then how it ended. Forked, since most of a short training is
the import of torch, of what turns determinism on in it, and of what draws: the processes are real, and so is SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib.figure
import torch._inductor.config

from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.learning.train import train
from av_assets.policies.training import TrainingPolicy

LOADED = (matplotlib.figure, torch._inductor.config)  # before the forks, each of which would load them again
OUTSIDE_STEPS = 4


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str) -> tuple[str, int]:
    """Let checkpoints die where they should; the rest is up to `run`."""
    kind, _, number = moment.partition(":")
    writes, write, name_too = count(1), ckpt.write_atomically, ckpt._name_too

    def write_or_die(path: Path, data: bytes) -> None:
        if kind == "write" and path.name == ckpt.CHECKPOINT_FILE and next(writes) == int(number):
            path.with_name(f".{path.name}.tmp").write_bytes(data[: len(data) // 2])
            die()
        write(path, data)

    def name_or_die(path: Path, other: Path) -> None:
        if kind == "renamed" and next(writes) == int(number):
            die()
        name_too(path, other)

    ckpt.write_atomically, ckpt._name_too = write_or_die, name_or_die
    return kind, int(number or 0)


def run(job: dict[str, Any]) -> None:
    kind, number = arm(job["moment"])
    done = count(1)

    def learned(_: dict[str, Any]) -> None:
        step = next(done)
        if kind == "step" and step == number:
            die()
        while kind == "outside" and step == OUTSIDE_STEPS:
            signal.pause()

    out = Path(job["out"])
    policy = TrainingPolicy.model_validate(job["config"])
    resume = ckpt.newest_sound(out) if out.is_dir() else None
    train(policy, Path(job["dataset"]), out, resume, learned, job["seed"])


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                run(json.loads(line))
            except BaseException as error:  # noqa: BLE001 - a forked process must not run its parent's code
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
