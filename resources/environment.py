"""The only reader of the environment: where things are, by configuration alone.

Belongs here: names of variables and their embedded defaults. Does not belong here: anything that opens what they name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """The settings of one installation.

    Attributes:
        home: folder for everything local: Dagster storage, landing area, scratch, caches.
        lake: `file:///...` or `s3://bucket/prefix`.
        landing: the folder that vehicles' disks are copied to.
        truth: ground truth of synthetic drives, for simulated annotators only.
        tick_seconds: how often sensors look.
    """

    home: Path
    lake: str
    landing: Path
    truth: Path
    lock: Path
    tick_seconds: int
    s3_endpoint: str | None = None

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def scratch(self) -> Path:
        return self.home / "scratch"

    @property
    def cache(self) -> Path:
        return self.home / "cache"


def environment() -> Environment:
    """Read the environment now; nothing is cached, so that tests may change it."""
    home = Path(os.environ.get("AV_HOME", ".av")).absolute()
    return Environment(
        home=home,
        lake=os.environ.get("AV_LAKE", (home / "lake").as_uri()),
        landing=Path(os.environ.get("AV_LANDING", home / "landing")).absolute(),
        truth=Path(os.environ.get("AV_TRUTH", home / "truth")).absolute(),
        lock=Path(os.environ.get("AV_LOCK", Path(__file__).parent.parent / "constraints.txt")),
        tick_seconds=int(os.environ.get("AV_TICK_SECONDS", "15")),
        s3_endpoint=os.environ.get("AWS_ENDPOINT_URL"),
    )
