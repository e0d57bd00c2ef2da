"""A complete bundle, made once, of a network that nobody taught: packing does not depend on what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from av_assets.domain.packaging.bundle import Policies

# As deep and wide as the shipped network, so that sizes of files mean something; the picture is small.
WIDE = {
    "widths": (16, 24, 48, 96, 128),
    "feature_width": 32,
    "head_width": 48,
    "bev_widths": (32, 48, 64),
    "bev_camera_width": 16,
}


@pytest.fixture(scope="session")
def checkpoint(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from untaught import untaught_checkpoint

    from av_assets.domain.models.golden import dataset_digest

    path = tmp_path_factory.mktemp("untaught") / "checkpoint.pt"
    return untaught_checkpoint(
        path, variant="camera_lidar_radar", dataset_digest=dataset_digest(golden), **WIDE
    )


@pytest.fixture(scope="session")
def exported(checkpoint: Path, policies: Policies, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from av_assets.domain.packaging.export import export_bundle

    out_dir = tmp_path_factory.mktemp("exported")
    export_bundle(checkpoint, out_dir, policies.packaging)
    return out_dir


@pytest.fixture(scope="session")
def policies() -> Policies:
    """Few inputs, and slices of few frames count."""
    from av_assets.domain.packaging.bundle import Policies
    from av_assets.policies.evaluation import EvaluationPolicy
    from av_assets.policies.packaging import PackagingPolicy

    changes = {
        "parity_inputs": 64,
        "parity_frames": 24,
        "parity_batch": 8,
        "torchscript_inputs": 16,
        "calibration_frames": 9,
        "calibration_bins": 512,
        "min_slice_frames": 4,
        "min_slice_objects": 4,
    }
    return Policies(PackagingPolicy.load().model_copy(update=changes), EvaluationPolicy.load())


@pytest.fixture(scope="session")
def packed(
    checkpoint: Path, golden: Path, policies: Policies, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from signed_bundles import TEMPLATES

    from av_assets.domain.packaging.bundle import make_bundle

    out_dir = tmp_path_factory.mktemp("packed") / "bundle"
    make_bundle(checkpoint, golden, TEMPLATES, out_dir, policies)
    return out_dir
