"""The process of one trial of a sweep: started by sweep_trials through Pipes.

It is ended by the kernel when the time that was reserved for it is over, however busy it is then.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_pipes import open_dagster_pipes

from av_assets.policies.sweeps import SweepPolicy

if TYPE_CHECKING:
    from av_assets.domain.sweeps.trial import Objective

SAY_EVERY_S = 5.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h
ENDED_FILE = "trial.json"


def elapsed_s() -> float:
    """Seconds since this process began, as the kernel counts them."""
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return up - ticks / os.sysconf("SC_CLK_TCK")


def end_with_parent() -> None:
    """Have the kernel ask this process to end when the run that started it dies: nobody else would."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """Run the trial and leave trial.json beside what its training wrote."""
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    end_with_parent()
    with open_dagster_pipes() as pipes:
        spec = SweepPolicy.load(Path(pipes.get_extra("spec")))
        signal.setitimer(signal.ITIMER_REAL, max(0.001, spec.budget.trial_seconds - elapsed_s()))
        from av_assets.domain.sweeps.teaching import Teaching

        state = Path(pipes.get_extra("state"))
        objective = Teaching(
            spec,
            Path(pipes.get_extra("dataset")),
            state,
            lambda: bool(asked_to_stop),
            _Saying(pipes.log.info),
        )
        run(spec, pipes.get_extra("number"), objective, pipes.get_extra("baseline"), state)


def run(
    spec: SweepPolicy, number: int, objective: Objective, baseline: dict[str, float], state: Path
) -> None:
    from av_assets.domain.evidence.digests import canonical_json
    from av_assets.domain.sweeps.asking import launch_of
    from av_assets.domain.sweeps.trial import run_trial
    from av_assets.training.studies import study_of

    study = study_of(spec)
    state.mkdir(parents=True, exist_ok=True)
    ended = run_trial(study, spec, number, objective, elapsed_s, baseline)
    told = asdict(launch_of(study, spec, number)) | asdict(ended)
    told["steps"] = {str(step): value for step, value in ended.steps.items()}
    told["violations"] = {name: value if value < 1e300 else None for name, value in ended.violations.items()}
    (state / ENDED_FILE).write_bytes(canonical_json(json.loads(json.dumps(told))))


class _Saying:
    """Says every few seconds where training is, in the run's log."""

    def __init__(self, say: Any) -> None:
        self._say, self._last = say, 0.0

    def __call__(self, progress: dict[str, Any]) -> None:
        if time.monotonic() - self._last > SAY_EVERY_S:
            self._last = time.monotonic()
            self._say("step {step}/{steps} loss {loss:.3f}".format(**progress))


if __name__ == "__main__":
    main()
