"""A single-shot detector in TFLite form as an ONNX graph that gives boxes and scores.

The networks are those of Liu et al. 2016 (SSD, arXiv:1512.02325) in TensorFlow's form: raw box encodings and
class predictions over anchors on maps of falling size. The result keeps the contract of `object_detector`.
Belongs here: translation of operators, the anchors. Does not belong here: file formats, running the model.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from av_assets.domain.errors import ModelError
from av_assets.domain.privacy.tflite_model import read_tflite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.privacy.tflite_model import Operator, TfliteModel

MAPS: Final = (19, 10, 5, 3, 2, 1)
SCALES: Final = (0.2, 0.95)
CENTRE_SCALE, SIZE_SCALE = 10.0, 5.0
OPSET: Final = 17


def ssd_onnx(data: bytes, labels: Sequence[str]) -> bytes:
    """ONNX bytes: `image` (B, 3, S, S) float32, RGB 0..255 -> `boxes` (B, N, 4), `scores` (B, N, C).

    Boxes are x1, y1, x2, y2 in pixels of the input; classes are `labels` without the first, the background.

    Raises:
        ModelError: `bad_model`, no such network.
    """
    model = read_tflite(data)
    graph = _Graph(model)
    if len(model.inputs) != 1 or len(model.outputs) != 2:
        raise ModelError("a detector has one input and two outputs", code="bad_model")
    side = model.tensors[model.inputs[0]].shape[1]
    graph.begin(model.inputs[0])
    for operator in model.operators:
        graph.translate(operator)
    anchors = ssd_anchors()
    if model.tensors[model.outputs[0]].shape != (1, len(anchors), 4):
        raise ModelError("the network has other anchors", code="bad_model")
    graph.decode_boxes(model.outputs[0], anchors, side)
    graph.decode_scores(model.outputs[1])
    return graph.finish(side, labels[1:])


def ssd_anchors() -> np.ndarray:
    """(1917, 4) float32 of centre y, centre x, height, width as shares of the picture.

    TensorFlow's multiple grid anchors with a reduced lowest map: three there, six on the others.
    """
    low, high = SCALES
    scales = [low + (high - low) * i / (len(MAPS) - 1) for i in range(len(MAPS))] + [1.0]
    anchors = []
    for index, cells in enumerate(MAPS):
        sizes = [(0.1, 1.0), (low, 2.0), (low, 0.5)]
        if index:
            ratios = (1.0, 2.0, 0.5, 3.0, 1 / 3)
            sizes = [(scales[index], r) for r in ratios]
            sizes.append(((scales[index] * scales[index + 1]) ** 0.5, 1.0))
        shapes = np.array([(s / r**0.5, s * r**0.5) for s, r in sizes])
        y, x = np.meshgrid(*[(np.arange(cells) + 0.5) / cells] * 2, indexing="ij")
        centres = np.stack([y, x], -1).reshape(-1, 1, 2)
        grid = np.broadcast_to(centres, (cells * cells, len(shapes), 2))
        anchors.append(np.concatenate([grid, np.broadcast_to(shapes, grid.shape)], -1).reshape(-1, 4))
    return np.concatenate(anchors).astype(np.float32)


class _Graph:
    """Collects nodes; pictures are NCHW here and NHWC in the model, what was reshaped is laid out as there."""

    def __init__(self, model: TfliteModel) -> None:
        self._model = model
        self._names: dict[int, str] = {}
        self._plain: set[int] = set()  # laid out as in the model
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {"zero": np.float32(0), "six": np.float32(6)}
        self._made = 0

    def begin(self, index: int) -> None:
        self.constant("middle", np.float32(127.5))
        self.constant("one", np.float32(1))
        self._names[index] = self.add("Sub", [self.add("Div", ["image", "middle"]), "one"])

    def constant(self, name: str, values: Any) -> str:
        self._constants[name] = values
        return name

    def add(self, op: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        from onnx import helper

        self._made += 1
        output = output or f"t{self._made}"
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def translate(self, operator: Operator) -> None:
        """One operator of the model; its outputs get names."""
        if operator.kind == "DEQUANTIZE":
            return  # only weights are half precision: `_weights` widens them
        if operator.kind == "RESHAPE":
            name = self._reshaped(operator)
        elif operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            name = self._convolved(operator)
        else:
            inputs = [self._names[i] for i in operator.inputs]
            ops = {"ADD": "Add", "CONCATENATION": "Concat", "LOGISTIC": "Sigmoid"}
            name = self.add(ops[operator.kind], inputs, **operator.options)
        if operator.activation == "RELU6":
            name = self.add("Clip", [name, "zero", "six"])
        elif operator.activation == "RELU":
            name = self.add("Relu", [name])
        self._names[operator.outputs[0]] = name
        if operator.kind == "RESHAPE" or self._plain.issuperset(operator.inputs):
            self._plain.add(operator.outputs[0])

    def _reshaped(self, operator: Operator) -> str:
        source, target = operator.inputs[0], self._model.tensors[operator.outputs[0]].shape
        name = self._names[source]
        if source not in self._plain:
            name = self.add("Transpose", [name], perm=[0, 2, 3, 1])
        shape = np.array([0, *target[1:]], np.int64)  # 0: the batch stays what it is
        return self.add("Reshape", [name, self.constant(f"shape{self._made}", shape)])

    def _convolved(self, operator: Operator) -> str:
        source, weight, bias = operator.inputs
        values = self._weights(weight)
        deep = operator.kind == "DEPTHWISE_CONV_2D"
        # TFLite: (out, h, w, in), depthwise (1, h, w, out); ONNX: (out, in, h, w), depthwise (out, 1, h, w).
        values = values.transpose(3, 0, 1, 2) if deep else values.transpose(0, 3, 1, 2)
        kernel, options = values.shape[2:], operator.options
        pads = self._padding(source, operator.outputs[0], kernel, options)
        names = [self.constant(f"w{weight}", np.ascontiguousarray(values))]
        names.append(self.constant(f"w{bias}", self._weights(bias)))
        groups = self._model.tensors[source].shape[3] if deep else 1
        return self.add(
            "Conv", [self._names[source], *names], kernel_shape=list(kernel), pads=pads, group=groups,
            strides=list(options["strides"]), dilations=list(options["dilations"]),
        )  # fmt: skip

    def _padding(self, source: int, output: int, kernel: Sequence[int], options: dict[str, Any]) -> list[int]:
        """TensorFlow's SAME: what is missing goes half before and half after, the odd pixel after."""
        sides, wanted = (self._model.tensors[i].shape[1:3] for i in (source, output))
        begin, end = [], []
        for axis in range(2):
            reach = (kernel[axis] - 1) * options["dilations"][axis] + 1
            missing = (wanted[axis] - 1) * options["strides"][axis] + reach - sides[axis]
            total = max(0, missing) if options["same"] else 0
            begin.append(total // 2)
            end.append(total - total // 2)
        return begin + end

    def _weights(self, index: int) -> np.ndarray:
        values = self._model.tensors[index].values
        if values is None:  # the output of a DEQUANTIZE
            producers = {o.outputs[0]: o for o in self._model.operators if o.kind == "DEQUANTIZE"}
            values = self._model.tensors[producers[index].inputs[0]].values if index in producers else None
        if values is None:
            raise ModelError("a convolution without constant weights", code="bad_model")
        return values.astype(np.float32)

    def decode_boxes(self, index: int, anchors: np.ndarray, side: int) -> None:
        """Encodings (y, x, h, w) relative to anchors -> corners in pixels."""
        scale = np.array([CENTRE_SCALE, CENTRE_SCALE, SIZE_SCALE, SIZE_SCALE], np.float32)
        scaled = self.add("Div", [self._names[index], self.constant("box_scale", scale)])
        split = self.constant("two_two", np.array([2, 2], np.int64))
        from onnx import helper

        self._nodes.append(helper.make_node("Split", [scaled, split], ["shift", "growth"], "split", axis=2))
        centres, sizes = anchors[None, :, :2] * side, anchors[None, :, 2:] * side
        moved = self.add("Mul", ["shift", self.constant("anchor_size", sizes)])
        centre = self.add("Add", [moved, self.constant("anchor_centre", centres)])
        halves = self.constant("anchor_half", sizes / 2)
        half = self.add("Mul", [self.add("Exp", ["growth"]), halves])
        corners = [self.add("Sub", [centre, half]), self.add("Add", [centre, half])]
        order = self.constant("xyxy", np.array([1, 0, 3, 2], np.int64))
        self.add("Gather", [self.add("Concat", corners, axis=2), order], "boxes", axis=2)

    def decode_scores(self, index: int) -> None:
        """Logits with the background first -> probabilities without it."""
        bounds = {"from": [1], "to": [np.iinfo(np.int64).max], "axis2": [2]}
        names = [self.constant(name, np.array(v, np.int64)) for name, v in bounds.items()]
        self.add("Sigmoid", [self.add("Slice", [self._names[index], *names])], "scores")

    def finish(self, side: int, labels: Sequence[str]) -> bytes:
        from onnx import TensorProto, checker, helper, numpy_helper

        count, classes = len(ssd_anchors()), len(labels)
        shapes = {"image": ["B", 3, side, side], "boxes": ["B", count, 4], "scores": ["B", count, classes]}
        ends = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()}
        constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in self._constants.items()]
        outputs = [ends["boxes"], ends["scores"]]
        graph = helper.make_graph(self._nodes, "objects", [ends["image"]], outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        helper.set_model_props(model, {"labels": json.dumps(list(labels))})
        checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))
