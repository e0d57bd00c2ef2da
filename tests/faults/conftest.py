"""A whole installation in a temporary folder, and the chain run in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from resources.lake import Lake

TIMEOUT_S = 300


@dataclass
class Installation:
    """One AV_HOME."""

    home: Path

    @property
    def lake(self) -> Lake:
        return Lake(uri=(self.home / "lake").as_uri(), scratch=str(self.home / "scratch"))

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AV_", "DAGSTER_"))}
        return {**inherited, "AV_HOME": str(self.home), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}

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


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The pretrained models, fetched once and kept between test runs."""
    from resources.pretrained import fetch_pretrained

    cache = pytestconfig.rootpath / ".pytest_cache" / "pretrained"
    folder = tmp_path_factory.mktemp("pretrained")
    fetch_pretrained(folder, cache)
    return folder


def install(home: Path, pretrained: Path) -> Installation:
    """An installation that has its pretrained models already, made as the asset makes them."""
    import shutil

    from av_assets.domain.evidence.manifest import MadeFrom

    made = Installation(home)
    home.mkdir(parents=True, exist_ok=True)
    with made.lake.workdir() as folder:
        shutil.copytree(pretrained, folder / "models")
        made.lake.publish(
            "pretrained_models", "all", folder / "models", made_from=MadeFrom(code_version="test")
        )
    return made


@pytest.fixture
def installation(tmp_path: Path, pretrained: Path) -> Installation:
    return install(tmp_path / "home", pretrained)
