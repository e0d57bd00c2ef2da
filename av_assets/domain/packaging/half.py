"""The network in float16: half the bytes, and faster where the hardware has it.

onnxruntime's own converter gives graphs that the checker of ONNX refuses where one tensor has several readers that stay
in float32 (a name is given twice), so the step is done here; it is a page.
Belongs here: what becomes float16 and what stays. Does not belong here: whether the result may be used (`gate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from av_assets.domain.packaging import graph
from av_assets.domain.packaging.onnx_file import settled

# Arithmetic of features. Everything else (decoding, geometry, scaling of bytes) stays float32.
FEATURE_OPS: Final = frozenset(
    {"Conv", "ConvTranspose", "Relu", "MaxPool", "AveragePool", "Add", "Resize", "Concat"}
)
# Of these only the first input is a feature: the others are sizes and scales.
FIRST_INPUT_ONLY: Final = frozenset({"Resize"})
LARGEST: Final = 65504.0  # of float16; beyond it is infinity
SUFFIX: Final = "_half"


def to_half(model: bytes, heads: Sequence[str], metadata: Mapping[str, str]) -> bytes:
    """The same network with float16 features and weights; inputs and outputs keep their types."""
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    graph.name_nodes(proto.graph)
    features = graph.before(proto.graph, heads) - graph.geometry(proto.graph)
    chosen = {n.name for n in proto.graph.node if n.op_type in FEATURE_OPS and n.name in features}
    _Halving(proto.graph, chosen).rewrite()
    return settled(proto, metadata)


class _Halving:
    """One pass over the nodes in order; a cast stands wherever a tensor crosses between the types."""

    def __init__(self, model_graph: Any, chosen: set[str]) -> None:
        self._graph, self._chosen = model_graph, chosen
        self._weights = {w.name: w for w in model_graph.initializer}
        described = (*model_graph.value_info, *model_graph.input, *model_graph.output)
        self._floats = {v.name for v in described if v.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._floats |= {n for n, w in self._weights.items() if w.data_type == TensorProto.FLOAT}
        self._half: set[str] = set()  # tensors that exist in float16
        self._made: set[str] = set()  # of these, the ones that a chosen node makes
        self._nodes: list[Any] = []

    def rewrite(self) -> None:
        wanted = {v.name for v in self._graph.output}
        for node in self._graph.node:
            if node.name not in self._chosen:
                wanted.update(node.input)
        for node in list(self._graph.node):
            if node.name in self._chosen:
                self._rewrite_node(node, wanted)
            else:
                self._nodes.append(node)
        self._replace(wanted)

    def _rewrite_node(self, node: Any, wanted: set[str]) -> None:
        count = 1 if node.op_type in FIRST_INPUT_ONLY else len(node.input)
        for index in range(count):
            if node.input[index] in self._floats:
                node.input[index] = self._as_half(node.input[index])
        self._nodes.append(node)
        for index, name in enumerate(node.output):
            node.output[index] = name + SUFFIX
            self._half.add(name)
            self._made.add(name)
            if name in wanted:
                self._nodes.append(_cast(name + SUFFIX, name, TensorProto.FLOAT))

    def _as_half(self, name: str) -> str:
        if name not in self._half:
            self._half.add(name)
            if name in self._weights:
                values = np.clip(numpy_helper.to_array(self._weights[name]), -LARGEST, LARGEST)
                half = numpy_helper.from_array(values.astype(np.float16), name + SUFFIX)
                self._graph.initializer.append(half)
            else:
                self._nodes.append(_cast(name, name + SUFFIX, TensorProto.FLOAT16))
        return name + SUFFIX

    def _replace(self, wanted: set[str]) -> None:
        """Put the new nodes in place; weights in float32 that nobody reads any more go."""
        nodes = [type(node).FromString(node.SerializeToString()) for node in self._nodes]
        read = {name for node in nodes for name in node.input} | wanted
        weights = [w for w in self._graph.initializer if w.name in read]
        weights = [type(w).FromString(w.SerializeToString()) for w in weights]
        described = [v for v in self._graph.value_info if v.name not in self._made]
        described = [type(v).FromString(v.SerializeToString()) for v in described]
        for field, values in (("node", nodes), ("initializer", weights), ("value_info", described)):
            del getattr(self._graph, field)[:]
            getattr(self._graph, field).extend(values)


def _cast(source: str, target: str, to: int) -> Any:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)
