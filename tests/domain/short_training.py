"""Trainings that end within a second or two.

Belongs here: what makes a training short. Does not belong here: the network that has really learnt (`trained`).
"""

from __future__ import annotations

from av_assets.policies.training import TrainingPolicy

# A coarse grid on the ground; a multiple of 8 cells each way is the least a network can have.
COARSE = {
    "bev_far_m": 32.0,
    "bev_side_m": 16.0,
    "bev_cell_m": 2.0,
    "bev_widths": (8, 12, 16),
    "bev_camera_width": 8,
    "max_objects": 16,
}


def short(policy: TrainingPolicy, **changes: object) -> TrainingPolicy:
    """Three epochs on a coarse grid; of 12 samples at 4 a step, nine steps."""
    return TrainingPolicy.model_validate(policy.model_dump() | COARSE | {"epochs": 3} | changes)
