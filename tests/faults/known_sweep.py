"""A worker of a sweep over a known function that may be killed at any moment: started by test_sweep_kill.py.

known_sweep.py JOURNAL SPEC LEDGER: asks and runs until nothing may be launched; LEDGER gets a line per launch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from av_assets.domain.sweeps.asking import Launch, ask
from av_assets.domain.sweeps.journal import open_storage
from av_assets.domain.sweeps.study import open_study
from av_assets.domain.sweeps.trial import Report, run_trial
from av_assets.policies.sweeps import SweepPolicy


def slow_hill(launch: Launch, report: Report) -> Mapping[str, float]:
    top = 1.0 - (float(launch.values["learning_rate"]) - 0.3) ** 2
    for epoch in range(1, 10):
        if report(epoch, top * epoch / 9):
            break
        time.sleep(0.004)
    return {"val_map50": top}


def main(journal: Path, spec: SweepPolicy, ledger: Path) -> None:
    study = open_study(open_storage(journal), spec)
    while launches := ask(study, spec):
        for launch in launches:
            line = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(line, f"{launch.number}\n".encode())
            os.close(line)
            started = time.monotonic()
            run_trial(
                study, spec, launch.number, slow_hill, lambda since=started: time.monotonic() - since, {}
            )  # type: ignore[misc]


if __name__ == "__main__":
    main(Path(sys.argv[1]), SweepPolicy.load(Path(sys.argv[2])), Path(sys.argv[3]))
