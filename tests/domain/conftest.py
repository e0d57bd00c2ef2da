"""A tiny golden dataset, and a network that is small enough to be taught in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from av_assets.domain.learning.train import TrainSummary
    from av_assets.policies.training import TrainingPolicy

SPLITS = {"drive-a": "train", "drive-b": "val", "drive-c": "test", "drive-d": "test"}


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from golden_folder import golden_folder

    return golden_folder(tmp_path_factory.mktemp("golden"), SPLITS)


@pytest.fixture(scope="session")
def tiny() -> TrainingPolicy:
    """Small, float32, one thread: quick, and equal to the bit."""
    from av_assets.policies.training import TrainingPolicy

    changes = {
        "input_width": 160,
        "input_height": 96,
        "widths": (8, 16, 24, 32, 48),
        "feature_width": 24,
        "head_width": 32,
        "batch_size": 4,
        "epochs": 20,
        "ema_decay": 0.9,
        "learning_rate": 0.005,
        "precision": "float32",
        "num_threads": 1,
        "loader_workers": 0,
        "bev_cell_m": 1.0,
        "bev_far_m": 24.0,
        "bev_side_m": 12.0,
        "bev_widths": (16, 24, 32),
        "bev_camera_width": 8,
        "max_objects": 16,
    }
    return TrainingPolicy.model_validate(TrainingPolicy.load().model_dump() | changes)


@pytest.fixture(scope="session")
def trained(golden: Path, tiny: TrainingPolicy, tmp_path_factory: pytest.TempPathFactory) -> TrainSummary:
    from av_assets.domain.learning.train import train

    return train(tiny, golden, tmp_path_factory.mktemp("trained"), seed=1)


@pytest.fixture(scope="session")
def bundle(trained: TrainSummary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from av_assets.domain.packaging.export import export_bundle
    from av_assets.policies.packaging import PackagingPolicy

    out_dir = tmp_path_factory.mktemp("bundle")
    policy = PackagingPolicy.load().model_copy(update={"parity_inputs": 16, "torchscript_inputs": 4})
    export_bundle(trained.checkpoint, out_dir, policy)
    return out_dir
