"""How a drive is cut into scenes, by which words they are tagged, and the bounds of sequence search."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.policies import Policy

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Words = dict[str, str]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WindowLimits(_Part):
    """Where one scene ends and the next begins."""

    min_s: Positive = Field(description="shorter only where the recording itself is")
    max_s: Positive
    before_event_s: NotNegative = Field(description="what is kept before an event")
    after_event_s: NotNegative
    merge_gap_s: NotNegative = Field(
        description="events whose padded windows are closer than this share a scene"
    )
    quiet_s: Positive = Field(description="longest scene without an event")
    clip_gap_s: NotNegative = Field(description="clips farther apart than this are not one recording")

    @model_validator(mode="after")
    def _can_be_cut(self) -> Self:
        if min(self.max_s, self.quiet_s) < 2 * self.min_s or self.quiet_s > self.max_s:
            raise ValueError("2 min_s <= quiet_s <= max_s must hold, or a long stretch cannot be cut")
        return self


class SpeedBand(_Part):
    """Mean speeds from that of the band before up to below `below_mps`; the last band has no bound."""

    name: str
    below_mps: Positive | None


class ObjectLimits(_Part):
    """Which labels count as occluded."""

    occluded_share: Share = Field(description="hidden share of a box from which a person counts as occluded")


class SearchLimits(_Part):
    """Bounds and distances of the sequence language."""

    near_junction_m: Positive = Field(description="what `near junction` means")
    max_matches: Annotated[int, Field(gt=0)] = Field(
        description="of one operator; more are refused, never cut"
    )


class Vocabulary(_Part):
    """The closed set of tags: value in the tables -> tag. Terms follow ISO 34503 and ASAM OpenLABEL where they can.

    A value that is not here gives no tag, except that an unknown kind of event gives `other_event`.
    """

    light: Words
    weather: Words
    road_class: Words
    zone: Words
    events: Words
    objects: Words
    other_event: str

    @property
    def terms(self) -> frozenset[str]:
        groups = (self.light, self.weather, self.road_class, self.zone, self.events, self.objects)
        return frozenset(tag for group in groups for tag in group.values()) | {self.other_event}


class ScenesPolicy(Policy):
    """Numbers and words of scenes."""

    name: ClassVar[str] = "scenes"
    windows: WindowLimits
    speed_bands: Annotated[tuple[SpeedBand, ...], Field(min_length=1)]
    objects: ObjectLimits
    search: SearchLimits
    tags: Vocabulary

    @model_validator(mode="after")
    def _bands_rise(self) -> Self:
        bounds = [band.below_mps for band in self.speed_bands]
        inner = [bound for bound in bounds[:-1] if bound is not None]
        if bounds[-1] is not None or len(inner) != len(bounds) - 1 or inner != sorted(set(inner)):
            raise ValueError("speed_bands must rise, and the last one alone has no bound")
        return self
