"""When silence on a topic counts as a hole. Belongs here: numbers. Does not belong here: the report on a recovery."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy


class SalvagePolicy(Policy):
    """How the report on a recovered log judges the gaps between the messages of a topic."""

    name: ClassVar[str] = "salvage"
    hole_periods: Annotated[int, Field(ge=2, le=1000)] = Field(
        description="a gap of more median periods than this is a hole"
    )
    burst_ratio: Annotated[float, Field(gt=1)] = Field(
        description="mean over median gap from which a topic counts as one that comes in bursts"
    )
    min_pauses: Annotated[int, Field(ge=1)] = Field(
        description="and at least so many wide gaps: there the pauses are what a hole is measured by"
    )
    max_holes: Annotated[int, Field(ge=1, le=100_000)] = Field(
        description="holes of one topic listed one by one; the others are counted"
    )
