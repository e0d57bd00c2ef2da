"""What a landed drive folder must look like. Belongs here: numbers. Does not belong here: the checks."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy


class LandingPolicy(Policy):
    """Bounds and demands on a landing folder."""

    name: ClassVar[str] = "landing"
    require_marker: bool = Field(
        description="take a folder only when the marker file, written last, is there"
    )
    require_checksums: bool = Field(
        description="refuse folders that bring neither SHA256SUMS nor a BagIt manifest"
    )
    max_files: Annotated[int, Field(ge=1)] = Field(description="files of one drive")
    max_file_bytes: Annotated[int, Field(ge=1)] = Field(description="size of one file in bytes")
    marker_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=900.0, description="a folder without marker that has not changed for so long is quarantined"
    )
    queryable_goal_s: Annotated[float, Field(gt=0)] = Field(
        description="a drive should be in the catalog this long after its marker"
    )
    sensor_batch: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="drives started by one look of the sensor"
    )
    sensor_attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        description="runs for one state of a landed drive before a person has to look"
    )
    max_live_drives: Annotated[int, Field(ge=1)] = Field(
        default=10_000,
        description="drives that automation watches; the oldest finished ones beyond leave the partition set",
    )
