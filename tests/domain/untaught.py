"""Checkpoints of networks that nobody has taught: what packaging and serving do does not depend on what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CLASSES = ("vehicle", "pedestrian", "cone")
SMALL = {
    "input_width": 96,
    "input_height": 64,
    "widths": (8, 8, 16, 16, 16),
    "feature_width": 8,
    "head_width": 8,
    "bev_far_m": 16.0,
    "bev_side_m": 8.0,
    "bev_widths": (8, 8, 16),
    "bev_camera_width": 4,
    "max_detections": 16,
    "max_detections_3d": 8,
    "num_threads": 1,
}


def untaught_checkpoint(path: Path, seed: int = 0, dataset_digest: str = "d" * 64, **changes: Any) -> Path:
    """A checkpoint with seeded weights whose batch norms have seen noise; `changes` are fields of the policy."""
    import torch

    from av_assets.domain.learning import checkpoint as ckpt
    from av_assets.domain.models.network import PerceptionNet
    from av_assets.policies.training import TrainingPolicy

    config = TrainingPolicy.model_validate(TrainingPolicy.load().model_dump() | SMALL | changes)
    torch.manual_seed(seed)
    net = PerceptionNet(len(CLASSES), config).train()
    shapes = net.layout.shapes.items()
    for _ in range(4):
        net(
            **{
                n: torch.randint(0, 255, (2, *shape)).to(getattr(torch, dtype))
                for n, (dtype, shape) in shapes
            }
        )
    state: dict[str, Any] = dict.fromkeys(ckpt.KEYS)
    state |= {
        "model": net.state_dict(),
        "ema": net.state_dict(),
        "config": config.model_dump(mode="json"),
        "classes": list(CLASSES),
        "dataset_digest": dataset_digest,
        "config_digest": config.digest,
    }
    state.pop("schema", None)
    ckpt.save(path, state)
    return path
