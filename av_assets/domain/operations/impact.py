"""What a change would remake: a walk from the bundles that it touches to all that were made from them.

    certain   the bundle was made from what changes: it is remade
    possible  something above it is remade: it is remade too if that comes out with other bytes
    frozen    it was made from something that is remade, but no condition remakes it: it stays as it is, on purpose
Belongs here: the walk over what was made from what. Does not belong here: reading lakes and graphs (av_assets.impact).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

CERTAIN, POSSIBLE, FROZEN = "certain", "possible", "frozen"
# Only what is kept fresh by what it was made from follows a change by itself; calendars and people do not.
FOLLOWING: Final = ("on_changed",)


@dataclass(frozen=True)
class Node:
    """One asset of the graph.

    Attributes:
        deps: assets that it reads.
        partitions: name of what it is partitioned over (`drive`, a calendar), or "".
        condition: label of what keeps it fresh, or "".
        pool: the pool that its runs take a slot of, or "".
    """

    name: str
    deps: tuple[str, ...] = ()
    partitions: str = ""
    condition: str = ""
    pool: str = ""

    @property
    def follows(self) -> bool:
        return self.condition.startswith(FOLLOWING)


Bundle = tuple[str, str]
"""Asset and partition."""


@dataclass(frozen=True)
class Remade:
    """One partition that the change reaches, how surely, and through which bundle (itself where it begins)."""

    asset: str
    partition: str
    how: str
    through: Bundle


@dataclass
class Held:
    """What the lake holds: for each bundle the bundles that it was made from."""

    inputs: Mapping[Bundle, Collection[Bundle]] = field(default_factory=dict)


def impact(nodes: Iterable[Node], held: Held, start: Iterable[Bundle]) -> list[Remade]:
    """All that is reached from `start`, in the order of the graph, then by partition.

    A bundle follows one that it names as made from. Where an asset reads another only through tables, the manifest
    names no bundle: then the same partition follows, or every partition if the two are not partitioned alike.
    Bundles that are not there yet are not counted: they are made anyway.
    """
    graph = {node.name: node for node in nodes}
    order = {name: number for number, name in enumerate(_topological(graph))}
    readers = _readers(graph, held)
    found: dict[Bundle, Remade] = {}
    queue: deque[Bundle] = deque()
    for bundle in sorted(set(start)):
        if bundle in held.inputs and bundle[0] in graph:
            found[bundle] = Remade(*bundle, how=CERTAIN, through=bundle)
            queue.append(bundle)
    while queue:
        above = queue.popleft()
        if found[above].how == FROZEN:
            continue
        for bundle in sorted(readers[above]):
            if bundle not in found:
                how = POSSIBLE if graph[bundle[0]].follows else FROZEN
                found[bundle] = Remade(*bundle, how=how, through=above)
                queue.append(bundle)
    return sorted(found.values(), key=lambda r: (order[r.asset], r.asset, r.partition))


def _readers(graph: Mapping[str, Node], held: Held) -> Mapping[Bundle, set[Bundle]]:
    """For each bundle those that follow it."""
    readers: dict[Bundle, set[Bundle]] = defaultdict(set)
    of_asset: dict[str, list[Bundle]] = defaultdict(list)
    for bundle in held.inputs:
        of_asset[bundle[0]].append(bundle)
    for bundle, inputs in held.inputs.items():
        node = graph.get(bundle[0])
        if node is None:
            continue
        named = {asset for asset, _ in inputs}
        for above in inputs:
            readers[above].add(bundle)
        for dep in node.deps:
            if dep in named or dep not in graph:
                continue
            alike = graph[dep].partitions == node.partitions and node.partitions != ""
            for above in [(dep, bundle[1])] if alike else of_asset[dep]:
                readers[above].add(bundle)
    return readers


def _topological(graph: Mapping[str, Node]) -> list[str]:
    """Names, each after those that it reads, else by name (Kahn 1962); what lies on a circle comes last."""
    left = {name: {dep for dep in node.deps if dep in graph} for name, node in graph.items()}
    order: list[str] = []
    while left:
        ready = sorted(name for name, deps in left.items() if not deps & left.keys()) or sorted(left)[:1]
        order += ready
        for name in ready:
            del left[name]
    return order
