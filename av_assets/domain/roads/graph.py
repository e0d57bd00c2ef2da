"""The road graph: plain arrays, directed segments from junction to junction.

Belongs here: the arrays and how features become them. Does not belong here: files, matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.roads.features import Feature, by_key
from av_assets.domain.roads.plane import Floats, great_circle_m
from av_assets.domain.roads.speeds import SpeedLimit, speed_limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from av_assets.policies.roads import RoadsPolicy

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class RoadGraph:
    """V nodes, S directed segments, P points of their shapes. A segment ends where roads meet, fork or end.

    A two-way road is two segments, each the `reverse` of the other. The same features in any order give the same
    arrays.

    Attributes:
        node_id, node_lon_deg, node_lat_deg: (V,) nodes at which segments begin or end.
        degree: (V,) how many stretches of road leave the node; 3 or more is a junction.
        way_id: (S,) OpenStreetMap's id.
        begin, end: (S,) indices of nodes.
        length_m: (S,).
        reverse: (S,) index of the segment in the other direction; -1 on one-way roads.
        road_class, limit: (S,) indices into `classes` and `limits`.
        shape_at: (S + 1,) the shape of segment i is shape_at[i]:shape_at[i + 1] of the three below.
        shape_lon_deg, shape_lat_deg: (P,).
        shape_s_m: (P,) metres from the segment's begin.
    """

    node_id: Ints
    node_lon_deg: Floats
    node_lat_deg: Floats
    degree: Ints
    way_id: Ints
    begin: Ints
    end: Ints
    length_m: Floats
    reverse: Ints
    road_class: Ints
    limit: Ints
    shape_at: Ints
    shape_lon_deg: Floats
    shape_lat_deg: Floats
    shape_s_m: Floats
    classes: tuple[str, ...]
    limits: tuple[SpeedLimit, ...]

    @property
    def segments(self) -> int:
        return len(self.way_id)

    def bounds_deg(self) -> tuple[float, float, float, float] | None:
        """Smallest and largest longitude, then latitude; None for a graph without roads."""
        if not self.segments:
            return None
        lon, lat = self.shape_lon_deg, self.shape_lat_deg
        return float(lon.min()), float(lon.max()), float(lat.min()), float(lat.max())


def direction(tags: Mapping[str, str], policy: RoadsPolicy) -> int:
    """1: along the way only, -1: against it only, 0: both. https://wiki.openstreetmap.org/wiki/Key:oneway"""
    said = tags.get("oneway")
    if said in ("yes", "true", "1"):
        return 1
    if said in ("-1", "reverse"):
        return -1
    implied = tags.get("highway") in policy.oneway_classes or tags.get("junction") in (
        "roundabout",
        "circular",
    )
    return 1 if said is None and implied else 0


def build_graph(features: Iterable[Feature], policy: RoadsPolicy, at_ns: int | None = None) -> RoadGraph:
    """The graph of the features that are there at `at_ns` (None: of all)."""
    kept = [f for f in by_key(features).values() if f.is_valid_at(at_ns)]
    ids, lines = _indexed(kept)
    lon, lat = np.zeros(len(ids)), np.zeros(len(ids))
    for feature, line in zip(kept, lines, strict=True):
        lon[line], lat[line] = feature.degrees()
    distinct = [_without_repeats(line) for line in lines]
    degree = _degrees(distinct, len(ids))
    builder = _Builder(policy)
    for feature, line in zip(kept, distinct, strict=True):
        if len(line) >= 2:
            builder.add(feature, line, degree)
    return builder.finish(ids, lon, lat, degree)


def _indexed(features: list[Feature]) -> tuple[Ints, list[Ints]]:
    """Sorted node ids, and every feature as indices into them."""
    if not features:
        return np.zeros(0, np.int64), []
    flat = np.concatenate([np.array(f.node_ids, np.int64) for f in features])
    ids, place = np.unique(flat, return_inverse=True)
    cuts = np.cumsum([len(f.node_ids) for f in features])[:-1]
    return ids, list(np.split(place.astype(np.int64), cuts))


def _without_repeats(line: Ints) -> Ints:
    kept: Ints = line[np.concatenate([[True], np.diff(line) != 0])]
    return kept


def _degrees(lines: list[Ints], nodes: int) -> Ints:
    """How many different neighbours every node has: a way that was cut in two makes no junction."""
    pairs = [np.stack([line[:-1], line[1:]], axis=1) for line in lines if len(line) >= 2]
    if not pairs:
        return np.zeros(nodes, np.int64)
    unique = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    return np.bincount(unique.ravel(), minlength=nodes).astype(np.int64)


class _Builder:
    """Collects directed segments."""

    def __init__(self, policy: RoadsPolicy) -> None:
        self._policy = policy
        self._shapes: list[Ints] = []
        self._rows: list[tuple[int, int, int, int]] = []  # way, reverse, class, limit
        self._classes: dict[str, int] = {}
        self._limits: dict[SpeedLimit, int] = {}

    def add(self, feature: Feature, line: Ints, degree: Ints) -> None:
        tags = dict(feature.tags)
        allowed = direction(tags, self._policy)
        kind = self._classes.setdefault(tags.get("highway", ""), len(self._classes))
        ahead, back = (self._limit(speed_limit(tags, side, self._policy.speed)) for side in (True, False))
        cuts = np.flatnonzero(degree[line[1:-1]] != 2) + 1
        for first, last in zip([0, *cuts], [*cuts, len(line) - 1], strict=True):
            shape, index = line[first : last + 1], len(self._rows)
            both = allowed == 0
            if allowed >= 0:
                self._shapes.append(shape)
                self._rows.append((feature.way_id, index + 1 if both else -1, kind, ahead))
            if allowed <= 0:
                self._shapes.append(shape[::-1])
                self._rows.append((feature.way_id, index if both else -1, kind, back))

    def _limit(self, limit: SpeedLimit) -> int:
        return self._limits.setdefault(limit, len(self._limits))

    def finish(self, ids: Ints, lon: Floats, lat: Floats, degree: Ints) -> RoadGraph:
        shape_at = np.concatenate([[0], np.cumsum([len(s) for s in self._shapes])]).astype(np.int64)
        flat = np.concatenate(self._shapes) if self._shapes else np.zeros(0, np.int64)
        x, y = lon[flat], lat[flat]
        step = np.zeros(len(flat))
        step[1:] = great_circle_m(x[:-1], y[:-1], x[1:], y[1:])
        step[shape_at[:-1]] = 0.0
        total = np.cumsum(step)
        s = total - np.repeat(total[shape_at[:-1]], np.diff(shape_at))
        nodes, ends = np.unique(
            np.concatenate([flat[shape_at[:-1]], flat[shape_at[1:] - 1]]), return_inverse=True
        )
        rows = np.array(self._rows, np.int64).reshape(-1, 4)
        return RoadGraph(
            ids[nodes], lon[nodes], lat[nodes], degree[nodes], rows[:, 0], ends[: len(rows)], ends[len(rows) :],
            s[shape_at[1:] - 1], rows[:, 1], rows[:, 2], rows[:, 3], shape_at, x, y, s,
            tuple(self._classes), tuple(self._limits),
        )  # fmt: skip
