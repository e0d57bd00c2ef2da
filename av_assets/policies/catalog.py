"""What the catalog counts as a position, a stop, a gap and a route."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.policies import Policy


class CatalogPolicy(Policy):
    """Numbers of the catalog's rows."""

    name: ClassVar[str] = "catalog"
    jump_speed_mps: Annotated[float, Field(gt=0)] = Field(
        description="positions that imply a higher speed are GNSS jumps and dropped"
    )
    position_noise_m: Annotated[float, Field(ge=0)] = Field(
        description="distance that noise alone explains, whatever speed it implies"
    )
    null_island_m: Annotated[float, Field(ge=0)] = Field(
        description="positions this near to 0, 0 are a receiver without a fix"
    )
    simplify_m: Annotated[float, Field(gt=0)] = Field(description="how far the line may leave the positions")
    max_line_points: Annotated[int, Field(ge=2)] = Field(description="points of a line; coarser if need be")
    max_cells: Annotated[int, Field(ge=1)] = Field(description="H3 cells listed for one drive")
    route_cell_min_m: Annotated[float, Field(ge=0)] = Field(
        description="way driven in a cell from which it belongs to the route; less is noise at a border"
    )
    route_end_s: Annotated[float, Field(gt=0)] = Field(
        description="seconds of positions whose median is the start, or the end, of a route"
    )
    route_smooth_s: Annotated[float, Field(ge=0)] = Field(
        description="seconds over which positions are averaged before a route is named"
    )
    sun_position_max_age_s: Annotated[float, Field(ge=0)] = Field(
        description="how old a position may be for the sun to be computed from it"
    )
    speed_max_gap_s: Annotated[float, Field(gt=0)] = Field(
        description="longest gap of speed that distance is interpolated over"
    )
    standing_mps: Annotated[float, Field(ge=0)] = Field(description="speed up to which a vehicle stands")
    stop_min_s: Annotated[float, Field(ge=0)] = Field(description="how long it stands for a stop")
    decel_window_s: Annotated[float, Field(gt=0)] = Field(
        description="time over which speed gives a deceleration where no acceleration is recorded"
    )
