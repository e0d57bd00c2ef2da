"""What is wrong with a map: topology and tags that contradict each other.

Belongs here: findings about features. Does not belong here: repairing them, or what a finding leads to (policy).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.roads.candidates import RoadIndex
from av_assets.domain.roads.graph import build_graph, direction
from av_assets.domain.roads.speeds import speed_limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from av_assets.domain.roads.delta import Conflict
    from av_assets.domain.roads.features import Feature
    from av_assets.domain.roads.graph import RoadGraph
    from av_assets.policies.roads import RoadsPolicy

_ONEWAY_VALUES = {"yes", "true", "1", "no", "false", "0", "-1", "reverse", "reversible", "alternating"}


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong, where, and whether the check fails over it."""

    rule: str
    way_id: int
    detail: str
    error: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def lint(
    features: Sequence[Feature],
    policy: RoadsPolicy,
    missing_nodes: Mapping[int, int] | None = None,
    unreadable_validity: Mapping[int, str] | None = None,
    conflicting: Iterable[Conflict] = (),
) -> list[Finding]:
    """All findings, sorted; the same features in any order give the same ones."""
    graph = build_graph(features, policy)
    found = [
        *_zero_length(features),
        *_duplicates(features),
        *_contradictions(features, policy),
        *_dangling(graph, policy),
        *_islands(graph, policy),
        *(
            ("missing_nodes", way, f"{n} nodes are not in the extract")
            for way, n in (missing_nodes or {}).items()
        ),
        *(("unreadable_validity", way, tags) for way, tags in (unreadable_validity or {}).items()),
        *(("conflict", c.key[0], f"{c.sources[0]} and {c.sources[1]} differ") for c in conflicting),
    ]
    return sorted(Finding(rule, way, detail, rule in policy.lint.errors) for rule, way, detail in set(found))


_Found = list[tuple[str, int, str]]


def _zero_length(features: Sequence[Feature]) -> _Found:
    """Ways that go nowhere, and neighbouring nodes at one place."""
    found: _Found = []
    for feature in features:
        steps = list(zip(feature.lon_e7, feature.lat_e7, strict=True))
        still = sum(a == b for a, b in pairwise(steps))
        if still:
            what = "the whole way" if still == len(steps) - 1 else f"{still} of its pieces"
            found.append(("zero_length", feature.way_id, f"{what} has no length"))
    return found


def _duplicates(features: Sequence[Feature]) -> _Found:
    """Two ways through the same places that are there at one time, in whichever direction."""
    same: dict[tuple[tuple[int, int], ...], list[Feature]] = defaultdict(list)
    for feature in features:
        line = tuple(zip(feature.lon_e7, feature.lat_e7, strict=True))
        same[min(line, line[::-1])].append(feature)
    return [
        ("duplicate_way", b.way_id, f"the same line as way {a.way_id}")
        for group in same.values()
        for a, b in pairwise(sorted(group, key=lambda f: f.key))
        if _at_one_time(a, b)
    ]


def _at_one_time(a: Feature, b: Feature) -> bool:
    begins = [f.valid_from_ns for f in (a, b) if f.valid_from_ns is not None]
    ends = [f.valid_until_ns for f in (a, b) if f.valid_until_ns is not None]
    return not begins or not ends or max(begins) < min(ends)


def _contradictions(features: Sequence[Feature], policy: RoadsPolicy) -> _Found:
    """Directions and limits that cannot be read, or that two ways state differently for one piece of road."""
    found: _Found = []
    pieces: dict[tuple[int, int], tuple[Feature, int, float | None]] = {}
    for feature in sorted(features, key=lambda f: f.key):
        tags = dict(feature.tags)
        said = tags.get("oneway")
        if said is not None and said not in _ONEWAY_VALUES:
            found.append(("contradictory_oneway", feature.way_id, f"oneway={said[:40]}"))
        found += _speeds(feature, tags, policy)
        allowed = direction(tags, policy)
        limit = speed_limit(tags, True, policy.speed).mps if "maxspeed" in tags else None
        for a, b in pairwise(feature.node_ids):
            key, turned = (min(a, b), max(a, b)), 1 if a < b else -1
            first, its_way, its_limit = pieces.setdefault(key, (feature, allowed * turned, limit))
            if first is feature or not _at_one_time(first, feature):
                continue
            if its_way != allowed * turned:
                found.append(
                    ("contradictory_oneway", feature.way_id, f"shares a piece with way {first.way_id}")
                )
            if limit is not None and its_limit is not None and limit != its_limit:
                found.append(
                    ("contradictory_maxspeed", feature.way_id, f"shares a piece with way {first.way_id}")
                )
    return found


def _speeds(feature: Feature, tags: Mapping[str, str], policy: RoadsPolicy) -> _Found:
    found: _Found = []
    limits = {}
    for name in ("maxspeed", "maxspeed:forward", "maxspeed:backward"):
        if name in tags:
            limits[name] = speed_limit({"maxspeed": tags[name]}, True, policy.speed)
            if limits[name].source is None:
                found.append(("contradictory_maxspeed", feature.way_id, f"{name}: {limits[name].reason}"))
    ahead, back = limits.get("maxspeed:forward"), limits.get("maxspeed:backward")
    if "maxspeed" in limits and ahead and back and limits["maxspeed"] not in (ahead, back):
        detail = "maxspeed differs from the limits of both directions"
        found.append(("contradictory_maxspeed", feature.way_id, detail))
    return found


def _dangling(graph: RoadGraph, policy: RoadsPolicy) -> _Found:
    """Open ends of roads that all but meet another road."""
    ends = np.flatnonzero(graph.degree == 1)
    if not len(ends):
        return []
    near = RoadIndex(graph).near(graph.node_lon_deg[ends], graph.node_lat_deg[ends], policy.lint.near_m)
    own = (graph.begin[near.segment] == ends[near.point]) | (graph.end[near.segment] == ends[near.point])
    way_at = {
        int(node): int(way)
        for nodes in (graph.begin, graph.end)
        for node, way in zip(nodes, graph.way_id, strict=True)
    }
    found: _Found = []
    for point, segment, distance in zip(
        near.point[~own].tolist(), near.segment[~own].tolist(), near.distance_m[~own].tolist(), strict=True
    ):
        node, other = int(ends[point]), int(graph.way_id[segment])
        detail = f"node {graph.node_id[node]} ends {distance:.2f} m from way {other}"
        found.append(("dangling_end", way_at[node], detail))
    return found


def _islands(graph: RoadGraph, policy: RoadsPolicy) -> _Found:
    """Short networks that no road connects to the largest one."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if not graph.segments:
        return []
    nodes = len(graph.node_id)
    links = csr_array((np.ones(graph.segments), (graph.begin, graph.end)), shape=(nodes, nodes))
    _, label = connected_components(links, directed=False)
    once = (graph.reverse < 0) | (np.arange(graph.segments) < graph.reverse)
    length = np.bincount(label[graph.begin[once]], graph.length_m[once])
    largest = int(length.argmax())
    found: _Found = []
    for island in np.flatnonzero(length < policy.lint.island_m).tolist():
        if island != largest:
            way = int(graph.way_id[label[graph.begin] == island].min())
            found.append(("island", way, f"{length[island]:.0f} m of road connect to nothing else"))
    return found


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Findings per rule."""
    return dict(sorted(Counter(finding.rule for finding in findings).items()))
