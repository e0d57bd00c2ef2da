"""Maps of drives and of a fleet, out of what enrichment, events and the catalog say.

Belongs here: choosing what a map shows. Does not belong here: drawing (maps).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.viewing.maps import CellMap, Line, RouteMap, cells_png, route_png

if TYPE_CHECKING:
    import pyarrow as pa

    from av_assets.domain.roads.graph import RoadGraph

MAX_ROADS = 3000
MAX_PLACES = 6
_REACH_DEG = 0.004  # roads this far around the way are shown: 450 m to the north
_MAX_DOTS = 4000


def matched_png(points: pa.Table, graph: RoadGraph | None, title: str) -> bytes | None:
    """The way of a drive on its roads, coloured by how far from the matched road it lies; None without a position.

    Args:
        points: rows of `roads.facts.POINTS`.
    """
    lat, lon, off = (_floats(points, name) for name in ("latitude_deg", "longitude_deg", "distance_m"))
    known = np.isfinite(lat) & np.isfinite(lon)
    if not known.any():
        return None
    thin = np.flatnonzero(known)[:: 1 + int(known.sum()) // _MAX_DOTS]
    box = (lon[known].min(), lon[known].max(), lat[known].min(), lat[known].max())
    shade = off[thin] if np.isfinite(off[thin]).any() else None
    roads = roads_near(graph, box) if graph is not None else []
    return route_png(
        RouteMap(lat[thin], lon[thin], shade, "distance to the matched road, m", roads, (), title)
    )


def events_png(points: pa.Table, events: Sequence[Mapping[str, Any]], title: str) -> bytes | None:
    """The way of a drive with its events where they began; None without a position.

    Args:
        points: rows of `roads.facts.POINTS`.
        events: rows of the table `events`.
    """
    lat, lon = _floats(points, "latitude_deg"), _floats(points, "longitude_deg")
    known = np.flatnonzero(np.isfinite(lat) & np.isfinite(lon))
    if not len(known):
        return None
    times = points["ref_ns"].to_numpy()[known]
    marks = []
    for row in events:
        at = known[min(int(np.searchsorted(times, row["start_ns"])), len(known) - 1)]
        marks.append((float(lon[at]), float(lat[at]), str(row["kind"])))
    thin = known[:: 1 + len(known) // _MAX_DOTS]
    return route_png(RouteMap(lat[thin], lon[thin], events=marks, title=title))


def event_cells_png(clips: pa.Table, events: Mapping[str, int]) -> bytes | None:
    """Events of all clips by H3 cell; None where no clip with a position has any.

    Args:
        clips: columns clip_id and h3_cell.
        events: clip -> how many events belong to it.
    """
    cells: Counter[str] = Counter()
    for clip, cell in zip(clips["clip_id"].to_pylist(), clips["h3_cell"].to_pylist(), strict=True):
        if cell is not None and events.get(clip):
            cells[cell] += events[clip]
    # Cities far from each other on one map would be dots: each has its own.
    regions = sorted(_apart(cells), key=lambda group: (-sum(group.values()), sorted(group)))
    rest = len(regions) - MAX_PLACES
    titles = [f"{sum(group.values())} events" for group in regions[:MAX_PLACES]]
    if rest > 0:
        titles[-1] += f"; {rest} more places are not shown"
    return cells_png(
        [
            CellMap({cell: float(count) for cell, count in group.items()}, "events", title=title)
            for group, title in zip(regions, titles, strict=False)
        ]
    )


def _apart(cells: Mapping[str, int]) -> list[dict[str, int]]:
    """Cells grouped by place: their parents of a county's size (H3 resolution 4, 45 km across), neighbours joined."""
    import h3

    groups: dict[str, dict[str, int]] = {}
    for cell, count in cells.items():
        groups.setdefault(h3.cell_to_parent(cell, 4), {})[cell] = count
    places = []
    while groups:
        place: dict[str, int] = {}
        edge = {min(groups)}
        while edge:
            parent = edge.pop()
            place |= groups.pop(parent)
            edge |= groups.keys() & set(h3.grid_disk(parent, 1))
        places.append(place)
    return places


def roads_near(graph: RoadGraph, box: tuple[float, float, float, float]) -> list[Line]:
    """Shapes of the segments that reach into the box (west, east, south, north in degrees), widened a little."""
    if not graph.segments:
        return []
    west, east, south, north = box
    first = graph.shape_at[:-1]
    lon, lat = graph.shape_lon_deg, graph.shape_lat_deg
    reaches = (np.minimum.reduceat(lon, first) <= east + _REACH_DEG) & (
        np.maximum.reduceat(lon, first) >= west - _REACH_DEG
    )
    reaches &= (np.minimum.reduceat(lat, first) <= north + _REACH_DEG) & (
        np.maximum.reduceat(lat, first) >= south - _REACH_DEG
    )
    near = np.flatnonzero(reaches)[:MAX_ROADS]
    spans = [(int(graph.shape_at[i]), int(graph.shape_at[i + 1])) for i in near]
    return [list(zip(lon[a:b].tolist(), lat[a:b].tolist(), strict=True)) for a, b in spans if b - a > 1]


def _floats(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)
