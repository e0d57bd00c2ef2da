"""Which segments a position may lie on: nearest places on roads within a radius.

Belongs here: the search in space. Does not belong here: which of them was driven.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.roads.plane import Floats, around, reach_deg

if TYPE_CHECKING:
    from av_assets.domain.roads.graph import Ints, RoadGraph


@dataclass(frozen=True)
class Places:
    """Nearest places on segments; every array has shape (candidates,), sorted by point, distance, segment.

    Attributes:
        point: index of the position.
        segment: directed segment.
        offset_m: along the segment from its begin.
        distance_m: from the position.
    """

    point: Ints
    segment: Ints
    offset_m: Floats
    distance_m: Floats

    def taken(self, index: Any) -> Places:
        return Places(self.point[index], self.segment[index], self.offset_m[index], self.distance_m[index])


class RoadIndex:
    """A search tree over the straight pieces of a graph; two-way roads are held once."""

    def __init__(self, graph: RoadGraph) -> None:
        self.graph = graph
        counts = np.diff(graph.shape_at) - 1
        segment = np.repeat(np.arange(graph.segments), counts)
        first = np.concatenate([[0], np.cumsum(counts)])[:-1]
        piece = np.arange(len(segment)) - np.repeat(first, counts) + np.repeat(graph.shape_at[:-1], counts)
        once = (graph.reverse[segment] < 0) | (segment < graph.reverse[segment])
        self._segment, self._piece = segment[once], piece[once]

    @cached_property
    def _tree(self) -> Any:
        import shapely

        lon, lat, at = self.graph.shape_lon_deg, self.graph.shape_lat_deg, self._piece
        boxes = shapely.box(
            np.minimum(lon[at], lon[at + 1]), np.minimum(lat[at], lat[at + 1]),
            np.maximum(lon[at], lon[at + 1]), np.maximum(lat[at], lat[at + 1]),
        )  # fmt: skip
        return shapely.STRtree(boxes)

    def near(self, lon: Floats, lat: Floats, radius_m: float) -> Places:
        """Of every segment the nearest place within `radius_m`, both directions of two-way roads."""
        import shapely

        wide, high = reach_deg(lat, radius_m)
        boxes = shapely.box(lon - wide, lat - high, lon + wide, lat + high)
        point, hit = (np.asarray(part, np.int64) for part in self._tree.query(boxes))
        found = self._nearest(lon, lat, point, self._segment[hit], self._piece[hit])
        return self._both_ways(found.taken(found.distance_m <= radius_m))

    def reached(self, lon: Floats, lat: Floats, radius_m: float) -> np.ndarray:
        """(N,) whether any road comes within `radius_m`, by boxes: enough to tell a map's edge."""
        import shapely

        wide, high = reach_deg(lat, radius_m)
        hits = self._tree.query(shapely.box(lon - wide, lat - high, lon + wide, lat + high))[0]
        reached = np.zeros(len(lon), bool)
        reached[hits] = True
        return reached

    def project(self, lon: Floats, lat: Floats, point: Ints, segment: Ints) -> Places:
        """The nearest place of each given (point, segment) pair."""
        begin = self.graph.shape_at[segment]
        counts = self.graph.shape_at[segment + 1] - begin - 1
        ramp = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        pieces = np.repeat(begin, counts) + ramp
        return self._nearest(lon, lat, np.repeat(point, counts), np.repeat(segment, counts), pieces)

    def _nearest(self, lon: Floats, lat: Floats, point: Ints, segment: Ints, piece: Ints) -> Places:
        graph = self.graph
        ax, ay = around(lon[point], lat[point], graph.shape_lon_deg[piece], graph.shape_lat_deg[piece])
        bx, by = around(
            lon[point], lat[point], graph.shape_lon_deg[piece + 1], graph.shape_lat_deg[piece + 1]
        )
        dx, dy = bx - ax, by - ay
        square = dx * dx + dy * dy
        share = np.clip(-(ax * dx + ay * dy) / np.where(square > 0, square, 1.0), 0.0, 1.0)
        distance = np.hypot(ax + share * dx, ay + share * dy)
        start = graph.shape_s_m[piece]
        offset = start + share * (graph.shape_s_m[piece + 1] - start)
        order = np.lexsort((offset, distance, segment, point))
        places = Places(point[order], segment[order], offset[order], distance[order])
        first = np.ones(len(order), bool)
        first[1:] = (np.diff(places.point) != 0) | (np.diff(places.segment) != 0)
        return places.taken(first)

    def _both_ways(self, found: Places) -> Places:
        reverse = self.graph.reverse[found.segment]
        back = found.taken(reverse >= 0)
        other = reverse[reverse >= 0]
        offset = self.graph.length_m[other] - back.offset_m
        point = np.concatenate([found.point, back.point])
        segment = np.concatenate([found.segment, other])
        both = Places(
            point, segment, np.concatenate([found.offset_m, offset]),
            np.concatenate([found.distance_m, back.distance_m]),
        )  # fmt: skip
        return both.taken(np.lexsort((both.segment, both.distance_m, both.point)))


def nearest_ones(places: Places, count: int) -> Places:
    """At most `count` places per point, the nearest ones."""
    if not len(places.point):
        return places
    starts = np.flatnonzero(np.concatenate([[True], np.diff(places.point) != 0]))
    sizes = np.diff(np.append(starts, len(places.point)))
    rank = np.arange(len(places.point)) - np.repeat(starts, sizes)
    return places.taken(rank < count)
