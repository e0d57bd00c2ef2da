"""Which roads count, what they say where their tags are silent, and how positions are laid onto them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from av_assets.policies import Policy

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReaderLimits(_Part):
    """What a file may hold at most before it is refused."""

    max_bytes: Count
    max_ways: Count = Field(description="drivable ways")
    max_nodes: Count = Field(description="references from drivable ways to nodes")
    max_tile_bytes: Count = Field(description="one tile, unpacked")
    max_delta_bytes: Count


class SpeedDefaults(_Part):
    """Speed limits in km/h where a tag names a rule or where there is no tag; those of the country driven in."""

    walk_kmh: Positive = Field(description="what `walk` means; German courts say 4 to 10 km/h")
    zones_kmh: dict[str, Positive] = Field(
        description="OpenStreetMap's names of national rules, e.g. DE:urban"
    )
    defaults_kmh: dict[str, Positive | None] = Field(
        description="per road class; null where no general limit can be stated"
    )


class MatchingNumbers(_Part):
    """Newson & Krumm, "Hidden Markov map matching through noise and sparseness", 2009."""

    sigma_m: Positive = Field(description="standard deviation of positions across the road")
    beta_m: Positive = Field(description="scale of |route - great circle|")
    radius_m: Positive = Field(description="roads farther away are no candidates")
    max_candidates: Count = Field(description="per point, the nearest ones; both directions count")
    smoothing_s: NotNegative = Field(description="running mean over a dense trace before points are chosen")
    spacing_m: NotNegative = Field(description="points closer to the last one are laid onto the found route")
    spacing_s: Positive = Field(description="after this long a point counts although nothing moved")
    gap_s: Positive = Field(description="after a longer hole the search starts anew")
    route_factor: Annotated[float, Field(ge=1)] = Field(
        description="longest route as a multiple of the beeline"
    )
    route_slack_m: NotNegative = Field(description="added to the longest route")
    backward_m: NotNegative = Field(description="noise may set a vehicle back by so much along a road")
    u_turn_m: NotNegative = Field(description="what turning round costs, in metres of |route - great circle|")
    max_speed_mps: Positive = Field(description="faster than this is a jump of the receiver")
    jump_m: NotNegative = Field(description="shorter displacements are noise at any speed")
    jump_points: Count = Field(description="so few points away from all others are a jump")
    outside_m: Positive = Field(description="no road within this: outside the map")


class FactNumbers(_Part):
    """What is said of a clip."""

    min_snapped_share: Share = Field(description="a clip with fewer positions on roads has no road")
    curvature_window_m: Positive = Field(description="arms of the circle through three points of the road")
    curvature_share: Share = Field(description="quantile over the clip's points: one kink is not a curve")
    junction_degree: Annotated[int, Field(ge=3)]
    junction_search_m: Positive = Field(description="a junction farther ahead is not looked for: null")


class TileNumbers(_Part):
    resolution: Annotated[int, Field(ge=0, le=15)] = Field(description="of H3 cells; 7 is about 5 km2")
    margin_m: Positive = Field(
        description="roads so far around a drive are loaded; more than outside_m and junction_search_m"
    )


class LintRules(_Part):
    errors: tuple[
        Literal[
            "zero_length", "duplicate_way", "contradictory_oneway", "contradictory_maxspeed", "dangling_end",
            "island", "missing_nodes", "unreadable_validity", "conflict",
        ],
        ...,
    ] = Field(description="findings that fail the check; the others are shown")  # fmt: skip
    near_m: Positive = Field(description="an open end this close to a road that it does not meet")
    island_m: Positive = Field(description="shorter networks that nothing connects to the rest")


class RoadsPolicy(Policy):
    """Numbers of maps and map matching."""

    name: ClassVar[str] = "roads"
    classes: tuple[str, ...] = Field(description="values of `highway` that are drivable")
    oneway_classes: tuple[str, ...] = Field(description="one-way unless tagged otherwise")
    kept_tags: tuple[str, ...] = Field(description="tags of tiles; edits of all others change nothing")
    reader: ReaderLimits
    speed: SpeedDefaults
    matching: MatchingNumbers
    facts: FactNumbers
    tiles: TileNumbers
    lint: LintRules
