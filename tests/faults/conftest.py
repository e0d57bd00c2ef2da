"""A whole installation in a temporary folder, and the chain run in a child process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources import quarantine
from resources.lake import Lake
from tests.resources.conftest import s3_endpoint as s3_endpoint

TIMEOUT_S = 400
_FETCH = """
import dagster as dg
from av_assets.cli.lake import open_instance
from av_assets.definitions import defs
job = defs.resolve_implicit_global_asset_job_def()
job.execute_in_process(instance=open_instance(), asset_selection=[dg.AssetKey("pretrained_models")])
"""
_RANGE = """
import json, sys
import dagster as dg
from av_assets.cli.lake import open_instance
from av_assets.definitions import defs
drives, assets = json.loads(sys.argv[1])
instance = open_instance()
instance.add_dynamic_partitions("drive", drives)
ends = ("dagster/asset_partition_range_start", drives[0]), ("dagster/asset_partition_range_end", drives[-1])
result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
    instance=instance, asset_selection=[dg.AssetKey(a) for a in assets], tags=dict(ends), raise_on_error=False
)
print(result.success)
"""


@dataclass
class Installation:
    """One AV_HOME."""

    home: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def lake(self) -> Lake:
        return Lake(uri=(self.home / "lake").as_uri(), scratch=str(self.home / "scratch"))

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AV_", "DAGSTER_"))}
        own = {"AV_HOME": str(self.home), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        return {**inherited, **own, **self.settings}

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return done

    def av(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "av_assets.cli", *arguments, check=check)

    def many(self, *commands: list[str]) -> list[dict[str, Any]]:
        """Several `av` commands that print JSON, in one process; gives what each of them printed."""
        done = self.run("-m", "tests.faults.commands", json.dumps(commands))
        assert "Traceback" not in done.stderr, done.stderr[-6000:]
        return [json.loads(one["out"]) for one in json.loads(done.stdout.splitlines()[-1])]

    def backfill_range(self, drives: list[str], assets: list[str]) -> bool:
        """One run over all of `drives`, as the daemon starts it for a backfill; whether it succeeded."""
        return self.run("-c", _RANGE, json.dumps([drives, assets])).stdout.split()[-1] == "True"

    def states(self) -> dict[str, dict[str, Any]]:
        return {d["id"]: d for d in json.loads(self.av("status", "--json").stdout)["drives"]}

    def quarantined(self) -> dict[str, dict[str, Any]]:
        return {row["drive"]: row for row in quarantine.listing(self.lake)}

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", str(self.home / "dagster"))
            with dg.DagsterInstance.get() as instance:
                yield instance


def evaluations(instance: dg.DagsterInstance, asset: str, check: str) -> list[dg.AssetCheckEvaluation]:
    """What the check has said so far, newest first."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    events = [r.event.dagster_event for r in records if r.event is not None]
    said = (e for e in events if e is not None and e.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return [e.asset_check_evaluation_data for e in said]


def rows_of(evaluation: dg.AssetCheckEvaluation, table: str) -> list[dict[str, Any]]:
    """The rows of a table that the evaluation shows."""
    return [
        dict(r.data) for r in getattr(evaluation.metadata[table], "records", ())
    ]  # "none" is said in words


@pytest.fixture(scope="session")
def equipped(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """The home of an installation that has made its pretrained models and nothing else."""
    home = tmp_path_factory.mktemp("equipped")
    (home / "cache").mkdir()
    (home / "cache" / "wheels").symlink_to(weights.parent / "wheels")
    Installation(home).run("-c", _FETCH)
    return home


def install(home: Path, equipped: Path) -> Installation:
    """An installation of its own that starts with the models of `equipped`."""
    shutil.copytree(equipped, home, symlinks=True)
    return Installation(home)


@pytest.fixture
def installation(tmp_path: Path, equipped: Path) -> Installation:
    return install(tmp_path / "home", equipped)
