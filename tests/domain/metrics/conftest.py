"""A trained and exported tiny network, made as in the tests of models."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_folder import golden_folder

SPLITS = {"drive-a": "train", "drive-c": "test", "drive-d": "test"}
CHANGES = {
    "input_width": 160,
    "input_height": 96,
    "widths": (8, 16, 24, 32, 48),
    "batch_size": 4,
    "epochs": 12,
    "ema_decay": 0.9,
    "learning_rate": 0.005,
    "precision": "float32",
    "num_threads": 1,
    "loader_workers": 0,
    "bev_far_m": 16.0,
    "bev_side_m": 8.0,
    "bev_cell_m": 1.0,
    "bev_widths": (8, 12, 16),
    "bev_camera_width": 8,
}


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_folder(tmp_path_factory.mktemp("golden"), SPLITS)


@pytest.fixture(scope="session")
def bundle(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from av_assets.domain.learning.train import train
    from av_assets.domain.packaging.export import export_bundle
    from av_assets.policies.packaging import PackagingPolicy
    from av_assets.policies.training import TrainingPolicy

    policy = TrainingPolicy.model_validate(TrainingPolicy.load().model_dump() | CHANGES)
    folder = tmp_path_factory.mktemp("model")
    packaging = PackagingPolicy.load().model_copy(update={"parity_inputs": 16, "torchscript_inputs": 4})
    export_bundle(train(policy, golden, folder / "checkpoint").checkpoint, folder / "bundle", packaging)
    return folder / "bundle"
