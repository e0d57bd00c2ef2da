"""How labels are verified: who annotates how well, what is labelled at all, when two people agree."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Agreement = Annotated[float, Field(ge=-1, le=1)]


class AnnotatorProfile(BaseModel):
    """One simulated person: what goes wrong how often, and how fast."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    jitter_px: NotNegative = Field(description="standard deviation of an edge, fixed part")
    jitter_share: NotNegative = Field(description="standard deviation of an edge as a share of the side")
    bias_share: Annotated[float, Field(gt=-0.2, lt=0.2)] = Field(description="drawn too large (or too small)")
    miss_rate: Share = Field(
        description="missed objects; small and hidden ones are missed up to three times as often"
    )
    confusion_rate: Share = Field(description="objects that get another class")
    false_rate: Share = Field(description="wrong pre-annotated boxes that are left in")
    trusts_iou: Share = Field(description="a pre-annotated box at least this good is kept as it is")
    frame_s: NotNegative = Field(description="time to look at a frame")
    object_s: NotNegative = Field(description="time to draw a box; a kept one takes a quarter")


class AnnotationPolicy(Policy):
    """Objects outside the filter are not labelled, and boxes of them are removed."""

    name: ClassVar[str] = "annotation"
    annotators: Annotated[tuple[AnnotatorProfile, ...], Field(min_length=2)]
    adjudicator: AnnotatorProfile
    min_height_px: NotNegative
    max_occlusion: Share
    max_distance_m: NotNegative
    truth_tolerance_ms: NotNegative = Field(description="how far a truth stamp may be from the camera stamp")
    match_iou: Share = Field(description="boxes that mean the same object")
    agree_iou: Share = Field(description="boxes of two people that need no third")
    accept_iou: Share = Field(description="auto labels this good count as accepted unchanged")
    safety_classes: tuple[str, ...] = Field(description="frames with these are always annotated twice")
    error_share: Share = Field(description="expected share of frames with an error, for the sample size")
    error_margin: Annotated[float, Field(gt=0, lt=1)]
    confidence_z: Annotated[float, Field(gt=0)]
    gold_share: Share = Field(description="frames that are secretly compared with known answers")
    review_catch_rate: Share = Field(description="errors that a reviewer of a single annotation finds")
    min_kappa: Annotated[float, Field(ge=-1, le=1)] = Field(
        description="agreement below this is reported as too low"
    )
    alpha_accept: Agreement = Field(description="Krippendorff's alpha from which labels are agreed on")
    alpha_tentative: Agreement = Field(description="alpha from which labels may be used with reserve")
    sampling_plan: Literal["stratified", "acceptance"] = Field(
        description="why frames without safety classes are drawn twice: to measure errors, or to accept the lot"
    )
    acceptance_aql_percent: float = Field(description="bad frames that a lot may have: 1.0, 2.5 or 4.0")
    nonconforming_share: Share = Field(
        description="a frame whose people differ in more of its objects is bad"
    )
    many_proposals: Annotated[int, Field(ge=1)] = Field(description="proposals that make a frame a busy one")
    least_candidate_score: Share = Field(
        description="a candidate this good makes its class possible: frames of safety classes are found by it"
    )
    budget_minutes: NotNegative = Field(description="of people's time, per drive")
    planned_frame_s: NotNegative = Field(description="expected time to look at a frame")
    planned_object_s: NotNegative = Field(description="expected time for each proposal in it")
    review_dispute_share: Share = Field(
        description="a review that changes more of a frame than this goes to a third person"
    )
    gold_floor: Share = Field(
        description="F1 on known answers below which a person's single work does not count"
    )
    gold_min_frames: Annotated[int, Field(ge=1)] = Field(description="known answers before anybody is judged")
    box_tolerance_px: NotNegative = Field(description="how far a returned box may lie outside its picture")
    min_side_px: NotNegative = Field(description="returned boxes with a shorter side are no boxes")
    facing_speed_mps: NotNegative = Field(
        description="a pedestrian's cuboid that moves faster faces where it goes; lidar tells no front from back"
    )

    @model_validator(mode="after")
    def _people_differ(self) -> AnnotationPolicy:
        names = [a.name for a in (*self.annotators, self.adjudicator)]
        if len(set(names)) != len(names):
            raise ValueError("annotators and adjudicator need different names")
        if self.acceptance_aql_percent not in (1.0, 2.5, 4.0):
            raise ValueError("there are acceptance plans for an AQL of 1.0, 2.5 and 4.0 percent")
        if self.alpha_tentative > self.alpha_accept:
            raise ValueError("what is accepted is at least tentative")
        return self
