"""How the output of redaction is looked at a second time. Belongs here: numbers. Does not belong here: looking."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from av_assets.domain.simulation.script import Light, Weather
from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]


class ProofPolicy(BaseModel):
    """Synthetic drives on which recall is measured against what was drawn into them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seconds: Annotated[float, Field(gt=0, le=600)] = Field(description="length of each drive")
    seed: int
    conditions: tuple[tuple[Weather, Light], ...] = Field(description="one drive each")
    pedestrians: Annotated[float, Field(ge=0)] = Field(description="density of people, 1 is ordinary")
    cover: Share = Field(description="an object counts as hidden where so much of its area is covered")
    bands_px: dict[str, tuple[float, ...]] = Field(description="kind -> borders of the bands of longer sides")
    floors: dict[str, Share] = Field(description="kind>=px -> recall below which somebody has to look")


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
    proof: ProofPolicy
