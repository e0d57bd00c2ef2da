"""One running platform for all tests of this folder: webserver, daemon, sensors, in a home of its own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from av_assets.drives import DriveState, drive_states
from av_assets.platform import Platform
from resources.environment import Environment, prepare
from resources.lake import Lake
from resources.landing import Landing

SECONDS = 3.0


@dataclass
class Running:
    """The platform and what one may ask of it."""

    here: Environment
    platform: Platform
    instance: dg.DagsterInstance

    @property
    def lake(self) -> Lake:
        return Lake(uri=self.here.lake, scratch=str(self.here.scratch))

    @property
    def landing(self) -> Landing:
        return Landing(path=self.here.landing)

    def state(self, drive: str) -> DriveState:
        return drive_states(self.instance, self.lake, self.landing, drive)[0]

    def wait(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                log = self.platform.log.read_text(errors="replace")[-4000:]
                pytest.fail(f"did not happen within {seconds} s\n{log}")
            time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("platform")
    wheels = weights.parent / "wheels"
    with pytest.MonkeyPatch.context() as patch:
        kept = ("AV_SIGNING_KEY", "AV_TOOLS")  # neither is a setting of this platform: see tests/conftest.py
        for name in [n for n in os.environ if n.startswith(("AV_", "DAGSTER_")) and n not in kept]:
            patch.delenv(name)
        patch.setenv("AV_HOME", str(home))
        patch.setenv("AV_TICK_SECONDS", "3")
        patch.setenv("OMP_NUM_THREADS", "1")
        (home / "cache").mkdir()
        (home / "cache" / "wheels").symlink_to(wheels)
        patch.setenv("DAGSTER_HOME", str(home / "dagster"))
        here = prepare()
        with Platform(here, _free_port()) as platform, dg.DagsterInstance.get() as instance:
            yield Running(here, platform, instance)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five short synthetic drives whose ids the golden policy spreads over train, val and test."""
    from av_assets.domain.datasets.splits import split_of
    from av_assets.domain.simulation.recorder import record_drive
    from av_assets.domain.simulation.samples import short_drive
    from av_assets.policies.golden import GoldenPolicy

    folder = tmp_path_factory.mktemp("recorded")
    wanted = ["train", "train", "val", "test"]
    for second in range(1000):
        drive = f"veh009-20250601t{80000 + second:06d}z"
        if not wanted or second % 100 >= 60:
            continue
        split = split_of(drive, GoldenPolicy.load())
        if split in wanted:
            wanted.remove(split)
            record_drive(
                short_drive(drive, seconds=SECONDS, seed=second + 1), folder / "landing", folder / "truth"
            )
    assert not wanted
    return folder
