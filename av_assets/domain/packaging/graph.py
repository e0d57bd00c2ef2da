"""Where a node of an ONNX graph stands: in the network or in the decoding, at its beginning or at its end.

Belongs here: such questions. Does not belong here: what is done with the answers (`half`, `int8`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

CONVOLUTIONS: Final = frozenset({"Conv", "ConvTranspose"})


def before(graph: Any, tensors: Iterable[str]) -> set[str]:
    """Names of the nodes that `tensors` are computed from, in as many steps as it takes."""
    maker = {tensor: node for node in graph.node for tensor in node.output}
    found: set[str] = set()
    waiting = list(tensors)
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return found


def after(graph: Any, tensors: Iterable[str]) -> set[str]:
    """Names of the nodes that compute with `tensors`, in as many steps as it takes. Nodes stand in order."""
    reached, found = set(tensors), set()
    for node in graph.node:
        if reached.intersection(node.input):
            found.add(node.name)
            reached.update(node.output)
    return found


def geometry(graph: Any) -> set[str]:
    """Nodes that compute where features are looked up: a coordinate of few bits is another place."""
    places = [
        name
        for node in graph.node
        if node.op_type in ("GridSample", "Gather", "GatherND")
        for name in node.input[1:]
    ]
    return before(graph, places)


def parts(graph: Any, heads: Sequence[str]) -> Mapping[str, set[str]]:
    """`heads`: the convolutions behind which no other one comes; `first`: those before which none does."""
    convolutions = [node for node in graph.node if node.op_type in CONVOLUTIONS]
    names = {node.name for node in convolutions}
    last = {node.name for node in convolutions if not (after(graph, node.output) & names)}
    first = {node.name for node in convolutions if not (before(graph, node.input[:1]) & names)}
    return {"heads": last & before(graph, heads), "first": first}


def name_nodes(graph: Any) -> None:
    """Give each node a name of its own: exclusions go by name."""
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        taken.add(node.name)
