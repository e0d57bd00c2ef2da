"""How the sources of auto-labels are weighed against each other, and which scores are good enough to be a label.

The thresholds come from verified labels: the labeller's report proposes a version with other ones, and a person
activates it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]
Chance = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Weight = Annotated[float, Field(ge=0, le=10)]
Class = Literal["vehicle", "pedestrian", "cone"]
WHOLE_CLASS = "all"
"""The slice that stands for a class without a threshold of the candidate's own slice."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceRule(_Part):
    """What a source's word counts."""

    score_weight: Weight = Field(description="of its score in the fused score")
    box_weight: Weight = Field(description="of its corners in the fused box; 0: its boxes move nothing")
    alone: bool = Field(description="whether it makes a candidate that no other source saw")
    min_score: Share = Field(description="what it is less sure of counts as not seen")
    least_height: dict[Class, Share] = Field(
        description="lower boxes, as a share of the picture's height, it cannot see: it abstains there"
    )


class WeakRules(_Part):
    """Labelling functions with abstention, combined by Dawid and Skene's model."""

    priors: dict[str, Chance] = Field(
        description="rule -> share of its votes believed to be right; what is not named has no vote"
    )
    prior_items: Annotated[int, Field(ge=2, le=100_000)] = Field(
        description="candidates that this belief is worth, half of them real"
    )
    min_items: Count = Field(description="with fewer candidates the beliefs decide alone")
    iterations: Annotated[int, Field(ge=1, le=1000)]
    share: Share = Field(description="of the posterior in the final score; the rest is the fused score")
    seen_score: Share = Field(description="a source that is this sure votes for")
    sizes_m: dict[Class, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = Field(
        description="plausible length, width and height of a cuboid"
    )
    aspect: dict[Class, tuple[float, float]] = Field(description="plausible width over height in the picture")
    long_track: Count = Field(description="frames from which a track speaks for its candidates")
    short_track: Count = Field(description="frames up to which a track speaks against them")
    flicker_share: Share = Field(description="of frames bridged, from which a track flickers")
    off_road_m: Annotated[float, Field(ge=0)] = Field(description="vehicles further off the road are doubted")
    min_points: dict[Class, Count] = Field(description="lidar points from which a cuboid is well supported")


class ThresholdRule(_Part):
    """How thresholds are chosen from verified labels."""

    target_precision: dict[Class, Chance]
    confidence: Chance = Field(description="of the lower bound, one-sided")
    match_iou: dict[Class, Chance] = Field(description="overlap from which a candidate is the object")
    min_items: Count = Field(description="candidates below which a slice has no threshold of its own")
    min_drives: Annotated[int, Field(ge=2)] = Field(description="below, tracks take the place of drives")
    starts: Annotated[int, Field(ge=1, le=20)] = Field(description="places at which the search begins")
    steps: Annotated[int, Field(ge=2, le=1000)] = Field(
        description="thresholds tried, evenly over candidates"
    )
    assumed_correlation: Share = Field(description="of verdicts within a cluster, where the data shows none")
    salt: str = Field(description="decides which drives choose and which ones judge; never change it")
    max_ece: Share = Field(description="calibration error up to which the labeller counts as calibrated")
    bins: Annotated[int, Field(ge=2, le=100)]


class LabelFusionPolicy(Policy):
    """Sources, weak rules and thresholds of the auto-labeller."""

    name: ClassVar[str] = "label_fusion"
    teacher: str = Field(description="release whose bundle teaches, as in w20250602-c43d008c; empty: none")
    kinds: dict[Literal["vehicle", "person"], Class] = Field(
        description="what the pretrained detector's kinds are"
    )
    tiles: Annotated[int, Field(ge=0, le=8)] = Field(
        description="squares that the pretrained detector looks at besides the whole picture"
    )
    overlap: dict[Class, Chance] = Field(description="overlap from which boxes of two sources are one thing")
    sources: dict[str, SourceRule]
    weak: WeakRules
    choosing: ThresholdRule
    default: dict[Class, Share] = Field(description="least score per class where nothing was chosen")
    thresholds: dict[Class, dict[str, Share]] = Field(
        description=f"least score per class and slice; the slice {WHOLE_CLASS!r} holds for those not named"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        classes = set(self.default)
        for name, given in (("overlap", self.overlap), ("choosing.match_iou", self.choosing.match_iou),
                            ("choosing.target_precision", self.choosing.target_precision)):  # fmt: skip
            if set(given) != classes:
                raise ValueError(f"{name} names {sorted(given)}, default names {sorted(classes)}")
        if not any(rule.score_weight > 0 for rule in self.sources.values()):
            raise ValueError("no source has a weight")
        return self
