"""A trial's process over a known function, in the place of the one that teaches: started by test_sweeps.py.

SWEEP_DIES names the trials that are killed in their second epoch, SWEEP_HANGS those that never end.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from dagster_pipes import open_dagster_pipes

from av_assets.domain.sweeps.asking import Launch
from av_assets.domain.sweeps.trial import Report
from av_assets.policies.sweeps import SweepPolicy
from av_assets.training.trial_worker import elapsed_s, run


def hill(launch: Launch, report: Report) -> Mapping[str, float]:
    """1 where learning_rate is 0.3, growing to that over four epochs."""
    top = 1.0 - (float(launch.values["learning_rate"]) - 0.3) ** 2
    for epoch in range(1, 5):
        if report(epoch, top * epoch / 4):
            break
        if epoch == 2 and str(launch.number) in os.environ.get("SWEEP_DIES", "").split(","):
            os.kill(os.getpid(), signal.SIGKILL)
        if str(launch.number) in os.environ.get("SWEEP_HANGS", "").split(","):
            time.sleep(60)
    return {"val_map50": top, "parameters": 1e6 * float(launch.values["learning_rate"])}


if __name__ == "__main__":
    with open_dagster_pipes() as pipes:
        spec = SweepPolicy.load(Path(pipes.get_extra("spec")))
        signal.setitimer(signal.ITIMER_REAL, max(0.001, spec.budget.trial_seconds - elapsed_s()))
        run(
            spec, pipes.get_extra("number"), hill, pipes.get_extra("baseline"), Path(pipes.get_extra("state"))
        )
