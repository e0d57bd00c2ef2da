"""When a calibration is believed: sanity, age, agreement of sources, and the score that watches it drift.

Belongs here: numbers. Does not belong here: resolving, scoring.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class CalibrationPolicy(Policy):
    """Numbers of the calibration ledger."""

    name: ClassVar[str] = "calibration"
    max_age_days: Positive = Field(
        description="an entry whose validity ended so long ago is used, marked stale"
    )
    rotation_tolerance: Positive = Field(description="deviation of a rotation from orthonormal, per element")
    max_translation_m: Positive = Field(description="no sensor sits farther from the ego origin")
    conflict_deg: Positive = Field(description="log and ledger may differ by this rotation")
    conflict_m: Positive = Field(description="and by this translation")
    conflict_focal_share: Positive = Field(description="and by this share of the focal length")
    max_file_bytes: Annotated[int, Field(ge=1, le=1 << 26)] = Field(description="of a ledger file")
    max_entries: Annotated[int, Field(ge=1)] = Field(description="of a ledger file")
    edge_jump_m: Positive = Field(description="a point so much nearer than its neighbour lies on an edge")
    edge_jump_share: Share = Field(description="and nearer by this share of the neighbour's range")
    edge_neighbour_deg: Positive = Field(description="neighbours in azimuth lie no farther apart")
    edge_ring_deg: Positive = Field(description="elevations within it count as one ring")
    edge_reach_px: Annotated[int, Field(ge=1, le=100)] = Field(description="how far picture edges attract")
    edge_decay: Share = Field(description="what is left of a picture edge one pixel on")
    min_edge_points: Annotated[int, Field(ge=1)] = Field(description="fewer in the picture give no score")
    probe_deg: Positive = Field(description="rotations that an aligned calibration must score better than")
