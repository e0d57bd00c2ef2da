"""Predictions of a process that is killed in the middle: the same bundle as that of an undisturbed one.

Belongs here: real processes and SIGKILL. Does not belong here: bad shards (tests/domain/inference).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from av_assets.domain.evidence.claims import RECORD_FILE, Record
from av_assets.mining.pool import uncovered
from resources.lake import Lake
from tests.domain.inference.pool_rig import write_drive, write_model

DRIVE, RELEASE, CLIPS = "veh001-20250601t080000z", "w20250602-0badcafe", 6
TIMEOUT_S = 120
RUN = """
import sys
import time

import dagster as dg

from av_assets.domain.models.runtime import OnnxPerception
from av_assets.mining import pool
from resources.lake import Lake

home, drive, pause_s, run = sys.argv[1], sys.argv[2], float(sys.argv[3]), OnnxPerception.run
OnnxPerception.run = lambda self, *given: (time.sleep(pause_s), run(self, *given))[1]
lake = Lake(uri=f"file://{home}/lake", scratch=f"{home}/scratch")
with dg.DagsterInstance.ephemeral() as instance:
    instance.add_dynamic_partitions("drive", [drive])
    done = dg.materialize(
        [pool.pool_predictions], partition_key=drive, instance=instance, resources={"lake": lake}
    )
    print("finished", done.success, flush=True)
"""


@pytest.fixture
def homes(tmp_path: Path) -> list[Path]:
    """Two installations that hold the same."""
    found = []
    for name in ("undisturbed", "killed"):
        home = tmp_path / name
        lake = lake_of(home)
        folder = tmp_path / f"{name}-drive"
        write_drive(folder, DRIVE, clips=CLIPS, frames=8)
        (folder / "calibration.json").write_text("{}")
        (folder / RECORD_FILE).write_text(Record(()).to_json())
        lake.publish("synced_shards", DRIVE, folder)
        lake.publish("model_bundles", RELEASE, write_model(tmp_path / f"{name}-model"))
        found.append(home)
    return found


def lake_of(home: Path) -> Lake:
    return Lake(uri=(home / "lake").as_uri(), scratch=str(home / "scratch"))


def start(home: Path, pause_s: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "AV_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(home), DRIVE, str(pause_s)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def finish(home: Path) -> None:
    process = start(home, 0.0)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert "finished True" in out


def kept(home: Path) -> int:
    """Shards that wait in the lake, finished, for a bundle to be."""
    return sum(key.endswith(".manifest") for key in lake_of(home).store.keys("segments/pool_predictions/"))


def kill_after(home: Path, shards: int) -> None:
    """Start a process, and kill it in the middle of a shard once it has kept so many more."""
    process, before, end = start(home, 0.15), kept(home), time.monotonic() + TIMEOUT_S
    while kept(home) < before + shards:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == -signal.SIGKILL


def test_killed_and_taken_up_again_gives_the_same_bundle(homes: list[Path]) -> None:
    undisturbed, killed = homes
    finish(undisturbed)
    kill_after(killed, 2)
    assert lake_of(killed).manifest("pool_predictions", DRIVE) is None
    assert 2 <= kept(killed) < CLIPS
    finish(killed)
    whole, resumed = (lake_of(home).require("pool_predictions", DRIVE) for home in homes)
    assert resumed.files == whole.files
    assert resumed.content == whole.content
    assert len(resumed.matching("predictions/*")) == CLIPS
    assert uncovered(lake_of(killed), DRIVE) == []
    assert kept(killed) == 0
