"""What counts as a failure of the production model, how failures are put into buckets, and what is asked for next."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.policies import Policy
from av_assets.policies.autolabels import PictureMotion, Share, TrackRules

Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bound(_Part):
    """Which figures stand out: the highest `share` of what is known, and of those the ones that reach `least`."""

    share: Annotated[float, Field(gt=0, le=1)]
    least: Annotated[float, Field(ge=0)]


class FlickerRules(_Part):
    """How the model's own boxes are followed through a clip."""

    tracks: TrackRules
    motion: PictureMotion


class Clustering(_Part):
    """HDBSCAN over the vectors of failing clips, beside which stands how they fail."""

    min_cluster_size: Annotated[int, Field(ge=2)]
    min_samples: Count
    dimensions: Count = Field(description="principal components of the picture vectors that are kept")
    failure_weight: Annotated[float, Field(ge=0)] = Field(
        description="weight of how a clip fails, against how it looks"
    )


class Naming(_Part):
    """Which tags name a bucket: those that are more frequent in it than elsewhere."""

    min_lift: Annotated[float, Field(ge=1)]
    min_share: Share = Field(description="of the bucket's clips that must have the tag")
    tags: Count = Field(description="most tags in a name")


class FailurePolicy(Policy):
    """Numbers of the nightly search for hard cases."""

    name: ClassVar[str] = "failures"
    foreground_iou: Annotated[float, Field(gt=0, le=1)] = Field(description="t_f of TIDE")
    background_iou: Annotated[float, Field(ge=0, lt=1)] = Field(description="t_b of TIDE")
    score_floor: Share = Field(description="detections below it count nowhere")
    sure_score: Share = Field(
        description="detections from here on are shown, and their errors count for buckets"
    )
    min_box_px: Annotated[float, Field(ge=0)] = Field(description="smaller objects are ignored")
    max_occlusion: Share = Field(description="objects hidden beyond it are ignored")
    erring: Bound = Field(description="errors of a labelled frame, of sure detections and missed objects")
    uncertain_boxes: Count = Field(description="a frame is as uncertain as its worst boxes")
    uncertain_score: Share = Field(description="boxes below it do not count as doubt")
    uncertain: Bound
    disagreement_iou: Annotated[float, Field(gt=0, le=1)]
    disagreeing: Bound
    flicker: FlickerRules
    flickering: Bound
    bands_m: Annotated[tuple[float, ...], Field(min_length=1)] = Field(
        description="ends of the bands of distance"
    )
    slice_alpha: Annotated[float, Field(gt=0, lt=1)]
    slice_min_clips: Count
    slice_unit_s: Annotated[float, Field(gt=0)] = Field(
        description="frames so near to each other count as one: they show nearly the same"
    )
    clustering: Clustering
    naming: Naming
    spec_budget: Count = Field(description="labels that the spec of one bucket may cost")
    max_specs: Annotated[int, Field(ge=0, le=500)]
    sheets: Annotated[int, Field(ge=0, le=20)] = Field(
        description="buckets that get a picture, the largest first"
    )
    sheet_frames: Annotated[int, Field(ge=1, le=12)]

    @model_validator(mode="after")
    def _is_consistent(self) -> FailurePolicy:
        if self.background_iou >= self.foreground_iou:
            raise ValueError("background_iou lies below foreground_iou")
        if list(self.bands_m) != sorted(set(self.bands_m)):
            raise ValueError("bands_m rise")
        if self.score_floor > min(self.sure_score, self.uncertain_score):
            raise ValueError("score_floor is above sure_score or uncertain_score")
        return self
