"""The network in INT8: weights and activations as bytes with a scale (QDQ, static), from ranges seen on real frames.

Belongs here: ranges and the quantised graph, both by onnxruntime. Does not belong here: which frames (`calibration`),
whether the result may be used (`gate`).
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from av_assets.domain.packaging import graph
from av_assets.domain.packaging.onnx_file import settled
from av_assets.policies.packaging import PackagingPolicy

# Neighbours of convolutions are quantised too: else each of them costs a step to float and back.
QUANTISED_OPS: Final = ("Conv", "ConvTranspose", "Relu", "Add", "MaxPool", "Resize", "Concat")
PREPARED: Final = "prepared.onnx"
RANGES: Final = "ranges.json"
LEVELS: Final = 128  # that entropy compares against, as in TensorRT's calibrator


class Int8:
    """Ranges of the activations, measured once; then the quantised network with any parts left in float32."""

    def __init__(
        self,
        model: bytes,
        heads: Sequence[str],
        frames: Iterable[Mapping[str, NDArray[Any]]],
        policy: PackagingPolicy,
        workdir: Path,
    ) -> None:
        """Measure the ranges on batches of `frames`; files in between lie in `workdir`."""
        self._policy, self._workdir = policy, workdir
        prepared = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
        graph.name_nodes(prepared.graph)
        onnx.save(prepared, workdir / PREPARED)
        self._graph = prepared.graph
        network = graph.before(self._graph, heads) - graph.geometry(self._graph)
        self._parts = graph.parts(self._graph, heads)
        self._network = [n.name for n in self._graph.node if n.name in network and n.op_type in QUANTISED_OPS]
        self._measure(frames)

    def _measure(self, frames: Iterable[Mapping[str, NDArray[Any]]]) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector, TensorsData, save_tensors_data

        policy, tensors = self._policy, self._activations()
        session = self._watching(tensors)
        collector = HistogramCollector(
            policy.calibration_method,
            symmetric=False,
            num_bins=policy.calibration_bins,
            num_quantized_bins=LEVELS,
            percentile=policy.calibration_percentile,
            scenario="same",
        )
        # One batch at a time: all activations of all frames would not fit into memory.
        for batch in frames:
            values = session.run(tensors, dict(batch))
            sampled = [_sample(value, policy.calibration_values * len(value)) for value in values]
            with _quiet():
                collector.collect({name: [value] for name, value in zip(tensors, sampled, strict=True)})
        with _quiet():
            found = collector.compute_collection_result()
            save_tensors_data(TensorsData(self._method, found), self._workdir / RANGES)

    @property
    def _method(self) -> Any:
        from onnxruntime.quantization.calibrate import CalibrationMethod

        return CalibrationMethod[self._policy.calibration_method.capitalize()]

    def _activations(self) -> list[str]:
        """What the quantised nodes read and write, without weights."""
        floats = {
            v.name
            for v in (*self._graph.value_info, *self._graph.output)
            if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        }
        nodes = [node for node in self._graph.node if node.name in set(self._network)]
        return sorted({name for node in nodes for name in (*node.input, *node.output) if name in floats})

    def _watching(self, tensors: Sequence[str]) -> Any:
        """A session that gives `tensors` too."""
        import onnxruntime as ort

        model = onnx.load(self._workdir / PREPARED)
        given = {v.name for v in model.graph.output}
        described = {v.name: v for v in model.graph.value_info}
        model.graph.output.extend(described[name] for name in tensors if name not in given)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._policy.num_threads
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def quantise(self, float_parts: Sequence[str], metadata: Mapping[str, str]) -> bytes:
        """The INT8 model; the parts named (`heads`, `first`) stay in float32."""
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        kept = set().union(*(self._parts[part] for part in float_parts))
        out = self._workdir / "int8.onnx"
        with _quiet():
            quantize_static(
                self._workdir / PREPARED,
                out,
                None,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED_OPS),
                nodes_to_quantize=[name for name in self._network if name not in kept],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=self._method,
                calibration_cache_path=self._workdir / RANGES,
            )
        return settled(onnx.load(out), metadata)


def _sample(values: NDArray[Any], at_most: int) -> NDArray[Any]:
    """Evenly spaced values; the step shares no factor with row lengths, or it would look at the same columns only."""
    step = max(1, values.size // at_most)
    while step > 1 and any(
        size % prime == 0 and step % prime == 0 for size in values.shape for prime in (2, 3, 5, 7)
    ):
        step -= 1
    return np.ascontiguousarray(values.reshape(-1)[::step])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime prints its progress, and logs advice that is followed here."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
