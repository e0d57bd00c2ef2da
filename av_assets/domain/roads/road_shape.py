"""The shape of the road that was driven: curvature, and how far it is to the next junction.

Belongs here: figures at matched points. Does not belong here: what is said of clips (facts).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.roads.plane import Floats, around, great_circle_m

if TYPE_CHECKING:
    from av_assets.domain.roads.graph import Ints, RoadGraph
    from av_assets.domain.roads.matching import Matched
    from av_assets.policies.roads import FactNumbers


class RoadShape:
    """Curvature and distance to the next junction at every matched point; NaN where there is none."""

    def __init__(self, graph: RoadGraph, matched: Matched, policy: FactNumbers) -> None:
        self._graph, self._matched, self._policy = graph, matched, policy
        order = np.argsort(graph.begin, kind="stable")
        self._leaving = order
        self._leaving_at = np.searchsorted(graph.begin[order], np.arange(len(graph.node_id) + 1))
        self._after: dict[int, float] = {}

    @cached_property
    def junction_m(self) -> Floats:
        """Metres along the road, in the direction driven, to the next node where roads meet or fork."""
        found = np.full(len(self._matched.segment), np.nan)
        for i in np.flatnonzero(self._matched.segment >= 0).tolist():
            segment = int(self._matched.segment[i])
            if segment not in self._after:
                self._after[segment] = self._beyond(segment)
            found[i] = self._graph.length_m[segment] - self._matched.offset_m[i] + self._after[segment]
        return np.where(found <= self._policy.junction_search_m, found, np.nan)

    def _beyond(self, segment: int) -> float:
        """Metres from the end of `segment` to the next junction; NaN where the road ends or goes on too long."""
        graph, metres = self._graph, 0.0
        while metres <= self._policy.junction_search_m:
            node = int(graph.end[segment])
            if graph.degree[node] >= self._policy.junction_degree:
                return metres
            leaving = self._leaving[self._leaving_at[node] : self._leaving_at[node + 1]]
            onward = [int(s) for s in leaving if s != graph.reverse[segment]]
            if not onward:
                return float("nan")
            segment = onward[0]
            metres += float(graph.length_m[segment])
        return float("nan")

    @cached_property
    def curvature_1pm(self) -> Floats:
        """1 / radius of the circle through three points of the driven road, one window apart (Menger curvature)."""
        matched, window = self._matched, self._policy.curvature_window_m
        found = np.full(len(matched.segment), np.nan)
        for number, route in enumerate(matched.routes):
            points = np.flatnonzero(matched.stretch == number)
            line = _Line.of(self._graph, route)
            if line.length_m < 2 * window or not len(points):
                continue
            s = line.starts[_visits(route, matched.segment[points])] + matched.offset_m[points]
            middle = np.clip(s, window, line.length_m - window)
            found[points] = _menger(line.at(middle - window), line.at(middle), line.at(middle + window))
        return found


@dataclass(frozen=True)
class _Line:
    """A route as one line on a plane: metres along it, east, north; where each of its segments starts."""

    s_m: Floats
    east_m: Floats
    north_m: Floats
    starts: Floats

    @classmethod
    def of(cls, graph: RoadGraph, route: Ints) -> _Line:
        at = np.concatenate([np.arange(graph.shape_at[s], graph.shape_at[s + 1]) for s in route])
        lon, lat = graph.shape_lon_deg[at], graph.shape_lat_deg[at]
        step = great_circle_m(lon[:-1], lat[:-1], lon[1:], lat[1:])
        east, north = around(lon[:1], lat[:1], lon, lat)
        starts = np.concatenate([[0.0], np.cumsum(graph.length_m[route])[:-1]])
        return cls(np.concatenate([[0.0], np.cumsum(step)]), east, north, starts)

    @property
    def length_m(self) -> float:
        return float(self.s_m[-1])

    def at(self, s_m: Floats) -> tuple[Floats, Floats]:
        return np.interp(s_m, self.s_m, self.east_m), np.interp(s_m, self.s_m, self.north_m)


def _visits(route: Ints, segments: Ints) -> Ints:
    """Which visit of the route each point belongs to: a route may use a segment twice."""
    where: dict[int, list[int]] = {}
    for k, segment in enumerate(route.tolist()):
        where.setdefault(segment, []).append(k)
    now, visits = 0, []
    for segment in segments.tolist():
        now_or_next = [k for k in where[segment] if k >= now - 1]  # noise may set a point back by one
        visits.append(now_or_next[0] if now_or_next else where[segment][-1])
        now = max(now, visits[-1])
    return np.array(visits, np.int64)


def _menger(a: tuple[Floats, Floats], b: tuple[Floats, Floats], c: tuple[Floats, Floats]) -> Floats:
    """4 * area / product of the sides; 0 where points coincide."""
    (ax, ay), (bx, by), (cx, cy) = a, b, c
    twice_area = np.abs((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    sides = np.hypot(bx - ax, by - ay) * np.hypot(cx - bx, cy - by) * np.hypot(cx - ax, cy - ay)
    return np.asarray(2 * twice_area / np.where(sides > 0, sides, np.inf))
