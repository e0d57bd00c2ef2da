"""How a golden dataset is split, sliced and checked. The salt decides which drive lands where: never
change it after a dataset was published, or drives that a model was trained on move into its test split."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.policies import Policy

Share = Annotated[float, Field(gt=0, lt=1)]
Minimum = Annotated[int, Field(ge=0)]


class SlicePredicate(BaseModel):
    """A saved predicate over member tags: every tag named must have one of the values listed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    where: dict[str, tuple[str, ...]]
    min_drives: Minimum = Field(description="drives below which the slice proves nothing")
    min_objects: Minimum = Field(description="objects below which the slice proves nothing")


class GoldenPolicy(Policy):
    """The test share is what train and val leave."""

    name: ClassVar[str] = "golden"
    salt: Annotated[str, Field(min_length=1)]
    train_share: Share
    val_share: Share
    min_drives: Minimum
    min_train_drives: Minimum
    min_test_drives: Minimum
    min_frames: Annotated[int, Field(ge=0, description="labelled frames that a member needs")]
    near_duplicate_cosine: Annotated[
        float, Field(gt=0, le=1, description="clips at least this alike are a leak")
    ]
    max_leaks_listed: Annotated[int, Field(ge=1)]
    classes: tuple[str, ...]
    camera: str
    slices: dict[str, SlicePredicate]

    @model_validator(mode="after")
    def _leaves_a_test_split(self) -> GoldenPolicy:
        if self.train_share + self.val_share >= 1:
            raise ValueError("train_share + val_share leave nothing to test on")
        return self
