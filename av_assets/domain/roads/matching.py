"""Where on the road graph a trace of positions was driven.

Belongs here: from a trace to matched points and routes. Does not belong here: the model (viterbi), facts of clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.roads.candidates import Places, RoadIndex, nearest_ones
from av_assets.domain.roads.plane import Floats, great_circle_m
from av_assets.domain.roads.routes import Router
from av_assets.domain.roads.traces import believable, smoothed, thinned
from av_assets.domain.roads.viterbi import Chain, emission, longest_route_m, transition

if TYPE_CHECKING:
    from av_assets.domain.roads.graph import Ints, RoadGraph
    from av_assets.policies.roads import MatchingNumbers, RoadsPolicy

NO_MAP, OUTSIDE, OFF_ROAD = "no map", "outside the map", "no road within reach"


@dataclass(frozen=True)
class Matched:
    """N positions on a graph, in the order in which they were given.

    Attributes:
        segment: (N,) directed segment of the graph; -1 where there is none.
        offset_m: (N,) along the segment from its begin; NaN where there is none.
        distance_m: (N,) from the position to its place on the road.
        confidence: (N,) posterior probability of the segment; between points of the chain the lower of the two.
        reason: (N,) why there is no segment; empty where there is one.
        routes: per unbroken stretch the directed segments driven, in order.
        stretch: (N,) index into `routes`; -1 where there is no segment.
    """

    segment: Ints
    offset_m: Floats
    distance_m: Floats
    confidence: Floats
    reason: tuple[str, ...]
    routes: tuple[Ints, ...]
    stretch: Ints

    @property
    def snapped_share(self) -> float | None:
        """Share of the positions that lie on a road; None without positions."""
        known = sum(reason != "no position" for reason in self.reason)
        return float((self.segment >= 0).sum() / known) if known else None

    @property
    def offset_p95_m(self) -> float | None:
        """95th percentile of the distances to the road."""
        on_road = self.distance_m[self.segment >= 0]
        return float(np.quantile(on_road, 0.95)) if len(on_road) else None


@dataclass(frozen=True)
class _Stretch:
    """Consecutive chain points: indices into the believable points, the chosen place and its posterior.

    Points after the last chain point and before `until` are too close to it to be chain points themselves.
    """

    at: list[int]
    until: int
    places: Places
    confidence: Floats


class Matcher:
    """A graph made ready for matching; use it for many traces."""

    def __init__(self, graph: RoadGraph, policy: RoadsPolicy) -> None:
        self.graph, self.policy = graph, policy
        self._index, self._router = RoadIndex(graph), Router(graph)

    def match(self, times_ns: Ints, lat_deg: Floats, lon_deg: Floats) -> Matched:
        """Match one trace; (N,) each, NaN where there is no position.

        Time and memory grow with the number of chain points (policy: spacing), not with the rate of the receiver.
        """
        numbers = self.policy.matching
        result = _Result(len(times_ns))
        kept, refused = believable(times_ns, lon_deg, lat_deg, numbers)
        for index, reason in refused.items():
            result.reason[index] = reason
        if len(kept) and self.graph.segments:
            trace = _Trace(times_ns[kept], lon_deg[kept], lat_deg[kept])
            for stretch in self._stretches(trace, numbers):
                self._lay(result, kept, trace, stretch)
        self._explain(result, kept, lon_deg, lat_deg)
        return result.finished()

    def _stretches(self, trace: _Trace, numbers: MatchingNumbers) -> list[_Stretch]:
        times_ns = trace.times_ns
        calm = _Trace(times_ns, *(smoothed(times_ns, part, numbers) for part in (trace.lon, trace.lat)))
        chain_at = thinned(times_ns, calm.lon, calm.lat, numbers)
        found = self._index.near(calm.lon[chain_at], calm.lat[chain_at], numbers.radius_m)
        found = nearest_ones(found, numbers.max_candidates)
        cuts = np.searchsorted(found.point, np.arange(len(chain_at) + 1))
        stretches, open_one, following = [], _Open(), [*chain_at[1:], len(times_ns)]
        for step, (a, b) in enumerate(pairwise(cuts.tolist())):
            if a == b:
                continue
            at, places = int(chain_at[step]), found.taken(slice(a, b))
            link = self._link(calm, open_one, at, places, numbers)
            if link is None and open_one.at:
                stretches.append(open_one.closed())
                open_one = _Open()
            open_one.until = int(following[step])
            open_one.add(at, places, link, emission(places.distance_m, numbers))
        return [*stretches, open_one.closed()] if open_one.at else stretches

    def _link(
        self, trace: _Trace, before: _Open, at: int, places: Places, numbers: MatchingNumbers
    ) -> Floats | None:
        """Transition from the stretch so far to the next point; None where the stretch ends."""
        if not before.at or trace.times_ns[at] - trace.times_ns[before.at[-1]] > round(numbers.gap_s * 1e9):
            return None
        beeline = trace.between_m(before.at[-1], at)
        link = transition(self._router, before.places[-1], places, beeline, numbers)
        alive = np.isfinite(before.reached[:, None] + link).any()
        return link if alive else None

    def _lay(self, result: _Result, kept: Ints, trace: _Trace, stretch: _Stretch) -> None:
        """Write the chain points of a stretch, and lay the points between them onto the route between them."""
        numbers, places = self.policy.matching, stretch.places
        number = len(result.routes)
        route = [int(places.segment[0])]
        points, segments, sure = [np.array(stretch.at)], [places.segment], [stretch.confidence]
        for step, (a, b) in enumerate(pairwise(stretch.at)):
            path = self._path(places, step, trace.between_m(a, b), numbers)
            route += path[1:]
            inner = np.arange(a + 1, b)
            points.append(np.repeat(inner, len(path)))
            segments.append(np.tile(np.array(path, np.int64), len(inner)))
            sure.append(np.full(len(inner) * len(path), stretch.confidence[step : step + 2].min()))
        tail = np.arange(stretch.at[-1] + 1, stretch.until)
        points.append(tail)
        segments.append(np.full(len(tail), places.segment[-1]))
        sure.append(np.full(len(tail), stretch.confidence[-1]))
        point, segment = np.concatenate(points), np.concatenate(segments)
        laid = self._index.project(trace.lon, trace.lat, point, segment)
        sure_of = np.zeros(len(trace.lon))
        sure_of[point] = np.concatenate(sure)
        laid = laid.taken(np.lexsort((laid.segment, laid.distance_m, laid.point)))
        laid = nearest_ones(laid, 1)
        near = laid.taken(laid.distance_m <= numbers.radius_m)
        result.write(kept[near.point], near, sure_of[near.point], number)
        result.routes.append(np.array(route, np.int64))

    def _path(self, places: Places, step: int, beeline_m: float, numbers: MatchingNumbers) -> list[int]:
        """Segments from one chosen place to the next, both included."""
        left, right = int(places.segment[step]), int(places.segment[step + 1])
        if left == right and places.offset_m[step + 1] >= places.offset_m[step] - numbers.backward_m:
            return [left]
        if right == self.graph.reverse[left]:
            return [left, right]
        limit = longest_route_m(beeline_m, numbers)
        source, target = int(self.graph.end[left]), int(self.graph.begin[right])
        return [left, *self._router.path(source, target, limit), right]

    def _explain(self, result: _Result, kept: Ints, lon: Floats, lat: Floats) -> None:
        """Say of every believable point without a road why it has none."""
        open_ones = kept[result.segment[kept] < 0] if len(kept) else kept
        if not len(open_ones):
            return
        reached = np.zeros(len(open_ones), bool)
        if self.graph.segments:
            reached = self._index.reached(lon[open_ones], lat[open_ones], self.policy.matching.outside_m)
        for index, inside in zip(open_ones.tolist(), reached.tolist(), strict=True):
            result.reason[index] = OFF_ROAD if inside else OUTSIDE


@dataclass(frozen=True)
class _Trace:
    times_ns: Ints
    lon: Floats
    lat: Floats

    def between_m(self, a: int, b: int) -> float:
        return float(great_circle_m(self.lon[a], self.lat[a], self.lon[b], self.lat[b]))


class _Open:
    """A stretch that still grows."""

    def __init__(self) -> None:
        self.at: list[int] = []
        self.until = 0
        self.places: list[Places] = []
        self.chain = Chain()
        self.reached = np.zeros(0)  # finite where a candidate of the last step can be reached at all

    def add(self, at: int, places: Places, link: Floats | None, emitted: Floats) -> None:
        if link is not None:
            self.chain.transitions.append(link)
            alive = np.isfinite(self.reached[:, None] + link).any(axis=0)
            self.reached = np.where(alive, 0.0, -np.inf)
        else:
            self.reached = np.zeros(len(emitted))
        self.at.append(at)
        self.places.append(places)
        self.chain.emissions.append(emitted)

    def closed(self) -> _Stretch:
        best, sure = self.chain.best_path(), self.chain.posteriors()
        chosen = [places.taken(slice(c, c + 1)) for places, c in zip(self.places, best, strict=True)]
        places = Places(
            *(
                np.concatenate([getattr(c, name) for c in chosen])
                for name in ("point", "segment", "offset_m", "distance_m")
            )
        )
        return _Stretch(
            self.at, self.until, places, np.array([float(s[c]) for s, c in zip(sure, best, strict=True)])
        )


class _Result:
    """Columns that are being filled."""

    def __init__(self, count: int) -> None:
        self.segment, self.stretch = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
        self.offset, self.distance, self.sure = (np.full(count, np.nan) for _ in range(3))
        self.reason = [""] * count
        self.routes: list[Ints] = []

    def write(self, index: Ints, places: Places, sure: Floats, stretch: int) -> None:
        self.segment[index], self.stretch[index] = places.segment, stretch
        self.offset[index], self.distance[index], self.sure[index] = places.offset_m, places.distance_m, sure

    def finished(self) -> Matched:
        return Matched(
            self.segment,
            self.offset,
            self.distance,
            self.sure,
            tuple(self.reason),
            tuple(self.routes),
            self.stretch,
        )
