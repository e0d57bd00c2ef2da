"""A lake, and what the platform's own functions make of a small dataset: a network, taught for a moment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resources.lake import Lake

if TYPE_CHECKING:
    from av_assets.policies.training import TrainingPolicy

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AV_LAKE", (tmp_path / "lake").as_uri())
    return Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))


@pytest.fixture(scope="session")
def taught(
    golden: Path, tiny: TrainingPolicy, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainingPolicy]:
    """What the platform keeps of a short training."""
    from av_assets.domain.learning.train import train

    policy = tiny.model_copy(update={"epochs": 5})
    out = tmp_path_factory.mktemp("taught")
    train(policy, golden, out, seed=7)
    return out, policy
