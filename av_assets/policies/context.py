"""What surrounds a drive: how near an observation of the weather must be, what its code means, what the vehicle's
own signals prove, which values are believed and how large the tables may be."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.policies import Policy

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weather = Literal["clear", "cloudy", "rain", "snow", "fog", "storm"]
Codes = tuple[tuple[int, int], ...]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MatchPolicy(_Part):
    """How near an observation must be to speak for a clip."""

    max_station_distance_m: Positive
    max_grid_distance_m: Positive = Field(
        description="ERA5 has a point every 0.25 degrees, 20 km at most away"
    )
    time_tolerance_s: Positive = Field(description="between the middle of the clip and the observation")

    @property
    def time_tolerance_ns(self) -> int:
        return round(self.time_tolerance_s * 1e9)


class CodePolicy(_Part):
    """Class of weather -> ranges [first, last] of codes. A code in no range is unknown, and says nothing.

    `sky` are codes of WMO table 4677 that tell of the sky's change, of the past hour or of what is out at a distance:
    there the cloud cover decides, where it was observed.
    """

    coco: dict[Weather, Codes] = Field(description="Meteostat condition codes 1..27")
    ww: dict[Literal["clear", "cloudy", "rain", "snow", "fog", "storm", "sky"], Codes] = Field(
        description="present weather of WMO code table 4677, 0..99"
    )

    @model_validator(mode="after")
    def _say_one_thing(self) -> Self:
        for scheme in (self.coco, self.ww):
            ranges = [pair for pairs in scheme.values() for pair in pairs]
            codes = [code for first, last in ranges for code in range(max(first, -1), min(last, 1000) + 1)]
            if any(not 0 <= first <= last < 1000 for first, last in ranges):
                raise ValueError("a range of codes is [first, last] within 0..999")
            if len(codes) != len(set(codes)):
                raise ValueError("a code may have one meaning only")
        return self


class DerivedPolicy(_Part):
    """The weather of a grid, which gives quantities and no code."""

    min_precipitation_mmph: Positive
    snow_share: Share = Field(
        description="share of the precipitation that falls as snow, from which it is snow"
    )
    snow_below_c: float = Field(description="precipitation is snow up to this, where snowfall is not given")
    fog_below_m: Positive = Field(description="visibility; WMO: fog is below 1 km")
    clear_cloud_share: Share = Field(description="up to this the sky is clear, beyond it is cloudy")


class EvidencePolicy(_Part):
    """What the vehicle itself shows of the weather."""

    wiper_signals: tuple[str, ...] = Field(description="names, or how a name ends: <bus>_<name>")
    wiper_min_level: Positive
    wiper_hold_s: Positive = Field(description="a wash takes less")
    rain_sensor_signals: tuple[str, ...]
    rain_sensor_min_level: Positive
    rain_sensor_hold_s: Positive
    max_gap_s: Positive = Field(description="a hold does not reach across a longer gap")
    pictures_per_clip: Annotated[int, Field(ge=0, le=50)] = Field(description="keyframes that are decoded")
    agrees_with_rain: tuple[Weather, ...] = Field(description="weather that wipers are used in")


class PlausiblePolicy(_Part):
    """Ranges [least, most]; a value outside becomes null and is counted."""

    temperature_c: tuple[float, float]
    precipitation_mmph: tuple[float, float]
    snowfall_mmph: tuple[float, float]
    visibility_m: tuple[float, float]
    wind_mps: tuple[float, float]
    humidity: tuple[float, float]
    cloud_share: tuple[float, float]


class LimitPolicy(_Part):
    """Larger tables are refused."""

    max_files: Annotated[int, Field(ge=1)]
    max_file_bytes: Annotated[int, Field(ge=1)] = Field(description="after decompression")
    max_rows: Annotated[int, Field(ge=1)] = Field(description="of all tables together")


class ContextPolicy(Policy):
    """All numbers of the weather and of on-vehicle evidence."""

    name: ClassVar[str] = "context"
    match: MatchPolicy
    codes: CodePolicy
    derived: DerivedPolicy
    evidence: EvidencePolicy
    plausible: PlausiblePolicy
    limits: LimitPolicy
