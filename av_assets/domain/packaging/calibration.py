"""Which frames INT8 was calibrated on: calibration.json.

Belongs here: that record. Does not belong here: the choice (`frames`), the ranges (`int8`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from av_assets.domain.packaging.frames import Frame, Key, frames_digest
from av_assets.policies.packaging import PackagingPolicy


def calibration_record(
    groups: Mapping[str, Sequence[Key]],
    chosen: Mapping[str, Sequence[Key]],
    frames: Sequence[Frame],
    policy: PackagingPolicy,
) -> dict[str, Any]:
    """Frames by slice, how many there would have been, and the digest of what the network saw of them."""
    read = {frame.key for frame in frames}
    return {
        "split": "train",
        "seed": policy.seed,
        "method": policy.calibration_method,
        "percentile": policy.calibration_percentile,
        "frames": len(frames),
        "digest": frames_digest(frames),
        "slices": {
            name: {"available": len(groups[name]), "used": sum(key in read for key in keys)}
            for name, keys in sorted(chosen.items())
        },
        "members": [{"drive": d, "clip_id": c, "ref_ns": ns} for d, c, ns in sorted(read)],
    }
