"""The ground of a region: a box in degrees, or cells of H3, as polygons in longitude and latitude.

Belongs here: ground, overlap and cover. Does not belong here: what holds on the ground.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import PolicyError

if TYPE_CHECKING:
    from av_assets.policies.triggers import Region

# Neighbouring cells share an edge that both compute on their own: slivers below this (deg^2, about 1 cm2) are none.
SLIVER_DEG2 = 1e-14
Bbox = tuple[float, float, float, float]
"""West, south, east, north in degrees."""


def area_of(region: Region) -> Any:
    """The region as a shapely geometry (degrees).

    Raises:
        PolicyError: bad_region, for a cell that H3 does not know or that lies over the antimeridian.
    """
    from shapely import box, union_all

    if region.bbox is not None:
        b = region.bbox
        return box(b.west_deg, b.south_deg, b.east_deg, b.north_deg)
    return union_all([_cell(cell, region.name) for cell in sorted(region.h3_cells)])


def areas_overlap(one: Any, other: Any) -> bool:
    """Whether they share more than an edge."""
    return bool(one.intersects(other)) and float(one.intersection(other).area) > SLIVER_DEG2


def covers(area: Any, bbox: Bbox) -> bool:
    """Whether a drive that stayed in `bbox` stayed in the area; a box without an extent is a point or a line."""
    from shapely import box

    return float(box(*bbox).difference(area).area) <= SLIVER_DEG2 and bool(area.intersects(box(*bbox)))


def _cell(cell: str, name: str) -> Any:
    import h3
    from shapely import Polygon

    if not h3.is_valid_cell(cell):
        raise PolicyError(f"regions.{name}: {cell[:32]!r} is no H3 cell", code="bad_region")
    corners = [(longitude, latitude) for latitude, longitude in h3.cell_to_boundary(cell)]
    if max(x for x, _ in corners) - min(x for x, _ in corners) > 180:
        raise PolicyError(
            f"regions.{name}: cell {cell} lies over the antimeridian",
            code="bad_region",
            remedy="use boxes there",
        )
    return Polygon(corners)
