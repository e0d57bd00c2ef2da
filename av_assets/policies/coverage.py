"""The operational domain that the fleet is to be trained for, and when a part of it counts as covered."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.domain.mining.columns import UNKNOWN
from av_assets.policies import Policy

Names = Annotated[tuple[str, ...], Field(min_length=1)]
DIMENSIONS = ("road_class", "light", "weather", "density", "speed_band")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Band(_Part):
    """Values from the end of the band before (the first one: from anywhere) to less than `below` (the last: on)."""

    name: str
    below: Annotated[float, Field(allow_inf_nan=False)] | None = None


Bands = Annotated[tuple[Band, ...], Field(min_length=1)]


class CoveragePolicy(Policy):
    """Expected values per dimension; what the data does not tell is `unknown` and is never expected."""

    name: ClassVar[str] = "coverage"
    road_class: Names
    light: Names
    weather: Names
    density: Bands = Field(description="of labelled vehicles and pedestrians per labelled frame")
    speed_band: Bands = Field(description="of the mean speed of a clip, m/s")
    impossible: tuple[dict[str, str], ...] = Field(description="pairs of values that cannot meet")
    min_hours: Annotated[float, Field(gt=0)] = Field(description="exposure from which a pair counts as seen")
    gap_budget: Annotated[int, Field(ge=1)] = Field(description="labels that the spec of one gap may cost")
    max_specs: Annotated[int, Field(ge=1, le=500)] = Field(
        description="gaps that become specs, the widest first"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> CoveragePolicy:
        for dimension in DIMENSIONS:
            names = self.values(dimension)
            if len(set(names)) != len(names) or UNKNOWN in names:
                raise ValueError(f"{dimension}: every value once, and not '{UNKNOWN}'")
        for dimension in ("density", "speed_band"):
            ends = [band.below for band in self.bands(dimension)]
            inner = [end for end in ends[:-1] if end is not None]
            if len(inner) != len(ends) - 1 or ends[-1] is not None or inner != sorted(set(inner)):
                raise ValueError(f"{dimension}: every band but the last ends, each after the one before")
        for pair in self.impossible:
            wrong = [k for k, v in pair.items() if k not in DIMENSIONS or v not in self.values(k)]
            if len(pair) != 2 or wrong:
                raise ValueError(f"impossible: {pair} is no pair of expected values")
        return self

    def bands(self, dimension: str) -> tuple[Band, ...]:
        return self.density if dimension == "density" else self.speed_band

    def values(self, dimension: str) -> tuple[str, ...]:
        """The expected values of a dimension, in order."""
        if dimension in ("density", "speed_band"):
            return tuple(band.name for band in self.bands(dimension))
        found: tuple[str, ...] = getattr(self, dimension)
        return found
