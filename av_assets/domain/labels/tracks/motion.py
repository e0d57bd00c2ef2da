"""Where a candidate is, as tracking needs it: on the ground that stands still, or in the picture where no lidar saw it.

Belongs here: candidate to place and noise, and how far things of a class move. Does not belong here: association.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.tracks.tracking import Detection

if TYPE_CHECKING:
    from av_assets.domain.labels.automatic.candidates import Candidate, Corners
    from av_assets.domain.labels.tracks.odometry import Pose
    from av_assets.policies.autolabels import AutolabelPolicy

Floats = npt.NDArray[np.float64]


def on_ground(one: Candidate, pose: Pose, policy: AutolabelPolicy) -> Detection:
    """Place: x, y of the cuboid's middle in the still frame, metres."""
    assert one.cuboid is not None
    rules = policy.ground_motion[one.cls]
    place = pose.still(np.array([[one.cuboid.x_m, one.cuboid.y_m]]))[0]
    # Relative to a vehicle whose motion is not known, everything moves.
    rate = np.hypot(rules.speed_mps, 0.0 if pose.known else policy.ego_speed_mps)
    accel = rules.accel_mps2 if pose.known else max(rules.accel_mps2, policy.ego_accel_mps2)
    return Detection(
        one.cls, one.score, place, np.eye(2) * rules.noise_m**2, np.full(2, rate), np.full(2, accel)
    )


def in_picture(one: Candidate, policy: AutolabelPolicy) -> Detection:
    """Place: middle, width and height of the box, pixels; everything scales with the height."""
    assert one.xyxy is not None
    rules, place = policy.picture_motion, box_place(one.xyxy)
    unit = max(float(place[3]), 1.0)
    return Detection(
        one.cls, one.score, place, np.eye(4) * (rules.noise * unit) ** 2,
        np.full(4, rules.speed_per_s * unit), np.full(4, rules.accel_per_s2 * unit),
    )  # fmt: skip


def box_place(xyxy: Corners) -> Floats:
    """(4,) middle, width, height."""
    x1, y1, x2, y2 = xyxy
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


def place_box(place: Floats) -> Corners:
    """The box of a place; never of negative size."""
    x, y, w, h = (float(v) for v in place)
    w, h = max(w, 0.0), max(h, 0.0)
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2
