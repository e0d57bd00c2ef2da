"""How a trigger policy is rolled out (where, on which vehicles) and what a back-test has to show before that."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
# Dotted names of fields; what begins with an underscore is private to the model, and the version is no threshold.
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", max_length=128)]
Value = float | tuple[float, ...]
Signal = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\|[a-z][a-z0-9_]*)*$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MatchingLimits(_Part):
    """When an alert and an adjudicated event of the same kind are one: by overlap, or by both ends."""

    min_iou: Annotated[float, Field(gt=0, le=1)] = Field(description="intersection over union of the times")
    tolerance_s: Annotated[float, Field(ge=0, le=60)] = Field(description="both ends this close also match")


class BacktestLimits(_Part):
    """What lets a version pass."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(description="of the exact intervals, two-sided")
    min_adjudicated: Annotated[int, Field(ge=1)] = Field(
        description="true events of each kind that can change"
    )
    recall_margin: Share = Field(description="recall may be this much below that of the active version")
    precision_margin: Share
    max_alerts_per_h: Annotated[float, Field(gt=0)] = Field(description="of each kind, over replayed drives")
    min_hours: Annotated[float, Field(ge=0)] = Field(description="replayed")


class Section(_Part):
    """What a section of the events policy can change, and what a drive must have for that."""

    kinds: tuple[str, ...] = Field(description="kinds of events")
    needs: tuple[Signal, ...] = Field(description="all of these; alternatives are divided by |")


class TriggersPolicy(Policy):
    """Numbers of the back-test. A section that is not named here can change every kind on every drive."""

    name: ClassVar[str] = "triggers"
    weeks: Annotated[int, Field(ge=1, le=520)] = Field(description="of history before the newest drive")
    matching: MatchingLimits
    limits: BacktestLimits
    second_person: bool = Field(description="whoever wrote a version does not activate it")
    max_listed: Annotated[int, Field(ge=1, le=100_000)] = Field(description="rows shown in the catalog")
    cell_resolution: Annotated[int, Field(ge=0, le=12)] = Field(description="of H3, for the heat map")
    sections: dict[str, Section]


class BoundingBox(_Part):
    """Degrees, WGS 84. A box over the antimeridian is written as two."""

    west_deg: Annotated[float, Field(ge=-180, le=180)]
    south_deg: Annotated[float, Field(ge=-90, le=90)]
    east_deg: Annotated[float, Field(ge=-180, le=180)]
    north_deg: Annotated[float, Field(ge=-90, le=90)]

    @model_validator(mode="after")
    def _has_an_area(self) -> Self:
        if self.west_deg >= self.east_deg or self.south_deg >= self.north_deg:
            raise ValueError("a box needs west < east and south < north")
        return self


class Region(_Part):
    """A place with numbers of its own, for drives that stay within it."""

    name: Name
    bbox: BoundingBox | None = None
    h3_cells: Annotated[tuple[str, ...], Field(max_length=10_000)] = ()
    overrides: Annotated[dict[Key, Value], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.bbox is None) == (not self.h3_cells):
            raise ValueError("a region has either a bbox or h3_cells")
        return self


class Cohort(_Part):
    """The vehicles that take part: a share of all, by a hash of their names."""

    share: Share
    salt: Annotated[str, Field(max_length=64)] = Field(description="another salt draws other vehicles")


class GeofencesPolicy(Policy):
    """A change to another policy that holds in regions, or for a cohort of vehicles, or both.

    There is no shipped file: without a version that was activated nothing is changed anywhere.
    """

    name: ClassVar[str] = "geofences"
    changes: Annotated[str, Field(pattern=r"^events$")] = Field(description="the policy that is changed")
    base: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="digest of the version that is changed; while another one is active, nothing is changed"
    )
    cohort: Cohort = Cohort(share=1.0, salt="")
    overrides: dict[Key, Value] = Field(
        default_factory=dict, description="in all places; a region's own go before"
    )
    regions: Annotated[tuple[Region, ...], Field(max_length=1000)] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [region.name for region in self.regions]
        if len(set(names)) != len(names):
            raise ValueError("two regions have the same name")
        return self
