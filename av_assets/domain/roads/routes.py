"""Shortest routes between nodes, as far as they are asked for.

scipy's Dijkstra with a cutoff does the search; answers are kept by source, because neighbouring points ask for the
same ones.
Belongs here: distances and paths on the graph. Does not belong here: turn restrictions (the graph has none).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.roads.plane import Floats

if TYPE_CHECKING:
    from av_assets.domain.roads.graph import Ints, RoadGraph

SOURCES_HELD = 4096
_LEAST_M = 1e-3  # a sparse matrix takes zero for "no edge"


@dataclass(frozen=True)
class _Tree:
    """Nodes within `limit_m` of a source, sorted, with distance and the node before."""

    limit_m: float
    node: Ints
    distance_m: Floats
    before: Ints


class Router:
    """Bounded shortest routes; memory is bounded by SOURCES_HELD trees of bounded size."""

    def __init__(self, graph: RoadGraph) -> None:
        from scipy.sparse import csr_array

        self.graph = graph
        order = np.lexsort((np.arange(graph.segments), graph.length_m, graph.end, graph.begin))
        begin, end = graph.begin[order], graph.end[order]
        first = np.ones(len(order), bool)
        first[1:] = (np.diff(begin) != 0) | (np.diff(end) != 0)
        used = order[first]  # of parallel segments the shortest one; a matrix would add them up
        nodes = len(graph.node_id)
        weights = np.maximum(graph.length_m[used], _LEAST_M)
        self._matrix = csr_array((weights, (graph.begin[used], graph.end[used])), shape=(nodes, nodes))
        self._segment_of = {(int(graph.begin[s]), int(graph.end[s])): int(s) for s in used}
        self._trees: OrderedDict[int, _Tree] = OrderedDict()

    def distances_m(self, source: int, targets: Ints, limit_m: float) -> Floats:
        """(T,) lengths of shortest routes; infinite where there is none within `limit_m`."""
        tree = self._tree(source, limit_m)
        place = np.minimum(np.searchsorted(tree.node, targets), len(tree.node) - 1)
        found = np.where(tree.node[place] == targets, tree.distance_m[place], np.inf)
        return np.where(found <= limit_m, found, np.inf)

    def path(self, source: int, target: int, limit_m: float) -> list[int]:
        """Segments of a shortest route; empty where source and target are one node or no route is there."""
        tree = self._tree(source, limit_m)
        segments: list[int] = []
        node = target
        while node != source:
            place = int(np.searchsorted(tree.node, node))
            if place >= len(tree.node) or tree.node[place] != node or tree.before[place] < 0:
                return []
            before = int(tree.before[place])
            segments.append(self._segment_of[before, node])
            node = before
        return segments[::-1]

    def _tree(self, source: int, limit_m: float) -> _Tree:
        held = self._trees.get(source)
        if held is not None and held.limit_m >= limit_m:
            self._trees.move_to_end(source)
            return held
        from scipy.sparse.csgraph import dijkstra

        distance, before = dijkstra(self._matrix, indices=source, limit=limit_m, return_predecessors=True)
        node = np.flatnonzero(np.isfinite(distance))
        tree = _Tree(limit_m, node, distance[node], before[node].astype(np.int64))
        self._trees[source] = tree
        self._trees.move_to_end(source)
        if len(self._trees) > SOURCES_HELD:
            self._trees.popitem(last=False)
        return tree
