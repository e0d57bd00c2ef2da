"""EfficientNet-lite0 as an ONNX graph that gives pooled features, built straight from its weights.

Written node by node rather than traced: no exporter version decides the bytes, and no foreign code runs.
Architecture: Tan & Le 2019 (arXiv:1905.11946), lite variant: ReLU6, no squeeze-and-excitation, stem and head
not scaled. Padding is TensorFlow's SAME, batch norms are folded into the convolutions.
Belongs here: that graph. Does not belong here: reading weight files, running the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from av_assets.domain.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

INPUT_SIZE: Final = 224
FEATURES: Final = 1280
_BN_EPSILON: Final = 1e-3
# repeats, kernel, stride of the first, expansion, input channels, output channels
_STAGES: Final = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


def embedding_onnx(weights: Mapping[str, np.ndarray]) -> bytes:
    """ONNX bytes: `image` (B, 3, 224, 224) float32, RGB (x-127)/128 -> `embedding` (B, 1280) float32.

    Raises:
        ModelError: a weight is missing, has another shape, or is left over.
    """
    graph = _Graph(weights)
    x = graph.conv("image", "_conv_stem", "_bn0", (32, 3, 3, 3), stride=2, size=INPUT_SIZE)
    size, index = INPUT_SIZE // 2, 0
    for repeats, kernel, first_stride, expansion, first_channels, out in _STAGES:
        for repeat in range(repeats):
            stride, channels = (first_stride, first_channels) if repeat == 0 else (1, out)
            x = _block(graph, f"_blocks.{index}", x, (kernel, stride, expansion, channels, out), size)
            size, index = size // stride, index + 1
    x = graph.conv(x, "_conv_head", "_bn1", (FEATURES, 320, 1, 1), size=size)
    graph.add("GlobalAveragePool", [x], "pooled")
    graph.add("Flatten", ["pooled"], "embedding", axis=1)
    return graph.finish()


def _block(graph: _Graph, name: str, x: str, shape: tuple[int, int, int, int, int], size: int) -> str:
    kernel, stride, expansion, channels, out = shape
    wide, y = channels * expansion, x
    if expansion != 1:
        y = graph.conv(y, f"{name}._expand_conv", f"{name}._bn0", (wide, channels, 1, 1), size=size)
    depthwise = (wide, 1, kernel, kernel)
    y = graph.conv(
        y, f"{name}._depthwise_conv", f"{name}._bn1", depthwise, stride=stride, size=size, groups=wide
    )
    project = (out, wide, 1, 1)
    y = graph.conv(y, f"{name}._project_conv", f"{name}._bn2", project, size=size // stride, relu=False)
    return graph.add("Add", [y, x], f"{name}.sum") if stride == 1 and channels == out else y


class _Graph:
    """Collects nodes and folded weights; every weight is used exactly once."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._weights = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {"zero": np.float32(0), "six": np.float32(6)}

    def _take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        value = self._weights.pop(name, None)
        if value is None or value.shape != shape:
            found = "nothing" if value is None else str(value.shape)
            raise ModelError(f"weight {name} should have shape {shape}, found {found}", code="bad_weights")
        return value.astype(np.float64)

    def add(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(
        self, x: str, conv: str, norm: str, shape: tuple[int, int, int, int], *, size: int,
        stride: int = 1, groups: int = 1, relu: bool = True,
    ) -> str:  # fmt: skip
        weight = self._take(f"{conv}.weight", shape)
        gain, shift, mean, variance = (
            self._take(f"{norm}.{part}", shape[:1])
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gain / np.sqrt(variance + _BN_EPSILON)
        self._constants[f"{conv}.w"] = (weight * factor[:, None, None, None]).astype(np.float32)
        self._constants[f"{conv}.b"] = (shift - mean * factor).astype(np.float32)
        kernel = shape[-1]
        padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before, after = padding // 2, padding - padding // 2
        attributes = {"strides": [stride] * 2, "group": groups, "kernel_shape": [kernel] * 2}
        pads = [before, before, after, after]
        y = self.add("Conv", [x, f"{conv}.w", f"{conv}.b"], f"{conv}.out", pads=pads, **attributes)
        return self.add("Clip", [y, "zero", "six"], f"{conv}.relu6") if relu else y

    def finish(self) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        if rest := sorted(k for k in self._weights if not k.startswith("_fc.")):
            raise ModelError(f"weights left over: {', '.join(rest[:5])}", code="bad_weights")
        inputs = [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, INPUT_SIZE, INPUT_SIZE])
        ]
        outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", FEATURES])]
        constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in self._constants.items()]
        graph = helper.make_graph(self._nodes, "efficientnet_lite0", inputs, outputs, constants)
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, producer_name="av-assets", ir_version=8)
        return bytes(model.SerializeToString(deterministic=True))
