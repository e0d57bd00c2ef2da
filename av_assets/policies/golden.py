"""How a golden dataset is chosen, split, sliced and checked. The salt and `split_by` decide what lands where: never
change them after a dataset was published, or drives that a model was trained on move into its test split."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.policies import Policy

Share = Annotated[float, Field(gt=0, lt=1)]
Minimum = Annotated[int, Field(ge=0)]
Expression = Annotated[str, Field(max_length=2000)]
SplitBy = Literal["drive", "geo_cell", "week", "geo_cell_week"]
Action = Literal["refuse", "drop", "warn"]


class SlicePredicate(BaseModel):
    """A saved predicate: every tag named must have one of the values listed, and frames must meet `frames`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    frames: Expression = Field(
        default="",
        description="which labelled frames, e.g. road_class = 'residential' AND mean_speed_mps < 8",
    )
    min_drives: Minimum = Field(description="drives below which the slice proves nothing")
    min_objects: Minimum = Field(description="objects below which the slice proves nothing")


class LeakActions(BaseModel):
    """What happens to a leak of each kind: `refuse` the dataset, `drop` the side that is learned from, or `warn`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    shared_drive: Action = Field(description="one drive in two splits")
    same_content: Action = Field(description="the very same picture in two splits")
    near_duplicate: Action = Field(description="clips whose vectors are alike")
    near_duplicate_frame: Action = Field(description="clips whose middle frames are alike, bit by bit")
    shared_place: Literal["refuse", "warn"] = Field(description="the same place on the same day")


class GoldenPolicy(Policy):
    """The test share is what train and val leave."""

    name: ClassVar[str] = "golden"
    salt: Annotated[str, Field(min_length=1)]
    train_share: Share
    val_share: Share
    split_by: SplitBy = Field(description="what is never divided among splits")
    geo_resolution: Annotated[int, Field(ge=0, le=9, description="of the H3 cells that are never divided")]
    only: Expression = Field(description="which labelled frames may enter; empty: all")
    min_drives: Minimum
    min_train_drives: Minimum
    min_test_drives: Minimum
    min_frames: Annotated[int, Field(ge=0, description="labelled frames that a member needs")]
    leaks: LeakActions
    near_duplicate_cosine: Annotated[
        float, Field(gt=0, le=1, description="clips at least this alike are a leak")
    ]
    near_duplicate_bits: Annotated[
        int, Field(ge=0, le=32, description="middle frames that differ in at most so many of 64 bits are one")
    ]
    least_hash_bits: Annotated[
        int, Field(ge=0, le=32, description="a picture with fewer bits set, or unset, says nothing")
    ]
    max_leaks_listed: Annotated[int, Field(ge=1)]
    occluded_from: Annotated[
        float, Field(ge=0, le=1, description="hidden share from which a box is occluded")
    ]
    classes: tuple[str, ...]
    camera: str
    slices: dict[str, SlicePredicate]

    @model_validator(mode="after")
    def _leaves_a_test_split(self) -> GoldenPolicy:
        if self.train_share + self.val_share >= 1:
            raise ValueError("train_share + val_share leave nothing to test on")
        return self
