"""How the output of redaction is looked at a second time. Belongs here: numbers. Does not belong here: looking."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]


class AuditPolicy(Policy):
    """The sample, and what a second detector has to find before a person is asked."""

    name: ClassVar[str] = "audit"
    sample_frames: Annotated[int, Field(ge=1, le=10_000)] = Field(
        description="frames of a drive that are looked at"
    )
    seed: int = Field(description="of the sample")
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        description="of the upper bound on the miss rate"
    )
    face_min_px: Annotated[int, Field(ge=24)] = Field(description="smaller faces are not looked for")
    face_scale_step: Annotated[float, Field(gt=1, le=2)] = Field(description="ratio of sizes that are tried")
    face_neighbours: Annotated[int, Field(ge=1)] = Field(description="overlapping finds that make a face")
    text_min_side_px: Annotated[int, Field(ge=32, le=4096)] = Field(
        description="pictures are enlarged to this shorter side before text is looked for"
    )
    text_pixel_score: Share = Field(description="pixels above it belong to text")
    text_box_score: Share = Field(description="mean score of a box that counts")
    text_unclip: Annotated[float, Field(ge=1, le=4)] = Field(
        description="how far the shrunk text core is grown back"
    )
    text_aspect: tuple[float, float] = Field(description="width over height of what may be a plate")
    text_max_width_share: Share = Field(description="wider writing, as a share of the picture, is no plate")
    text_min_height_px: Annotated[float, Field(gt=0)] = Field(description="lower writing cannot be read")
    max_flagged_share: Share = Field(
        description="share of sampled frames with a finding that asks for a person"
    )
