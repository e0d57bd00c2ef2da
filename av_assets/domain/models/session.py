"""One file of weights in onnxruntime: named arrays in, named arrays out, nothing else accepted.

Belongs here: sessions, providers, the check of what goes in. Does not belong here: what the arrays mean (`runtime`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import ModelError

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"
DRIVER: Final = "libcuda.so.1"
PARSER: Final = "libnvonnxparser.so.10"


@dataclass(frozen=True)
class InputSpec:
    """One input: `shape` without the batch axis, which is free."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Self:
        """From an entry of inference_config.json, whose first axis is null."""
        return cls(
            str(described["name"]), str(described["dtype"]), tuple(int(v) for v in described["shape"][1:])
        )

    def accepts(self, value: NDArray[Any]) -> bool:
        return (
            value.dtype == self.dtype and value.ndim == len(self.shape) + 1 and value.shape[1:] == self.shape
        )

    def __str__(self) -> str:
        return f"{self.name} (N, {', '.join(map(str, self.shape))}) {self.dtype}"


class Network:
    """An onnxruntime session that refuses what its inputs do not describe.

    Attributes:
        providers: those that the session really uses, best first.

    Raises:
        ModelError: bad_model, the runtime cannot load the weights; provider_missing, a provider that was asked for
            does not work on this machine (onnxruntime itself would quietly use the CPU).
    """

    def __init__(
        self,
        weights: bytes,
        inputs: Sequence[InputSpec],
        num_threads: int = 1,
        providers: Sequence[str] = (CPU,),
        file: Path | None = None,
    ) -> None:
        import onnxruntime as ort

        self.inputs = tuple(inputs)
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(weights, options, providers=list(providers))
        except Exception as error:  # onnxruntime raises a family of unrelated types
            raise ModelError(f"cannot load model: {error}", code="bad_model", file=file) from error
        self.providers = tuple(self._session.get_providers())
        if missing := set(providers) - set(self.providers):
            raise ModelError(
                f"{', '.join(sorted(missing))} does not work here",
                code="provider_missing",
                file=file,
                remedy="install its libraries, or ask for CPUExecutionProvider alone",
            )
        self.outputs: tuple[str, ...] = tuple(o.name for o in self._session.get_outputs())

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Named outputs for named inputs, all with the same batch axis.

        Raises:
            ModelError: wrong_input_shape, for any other name, shape or type, and for an empty batch.
        """
        self._check(inputs)
        return dict(zip(outputs, self._session.run(list(outputs), dict(inputs)), strict=True))

    def _check(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        named = set(inputs) == {spec.name for spec in self.inputs}
        fits = named and all(spec.accepts(inputs[spec.name]) for spec in self.inputs)
        if not fits or len(sizes := {len(value) for value in inputs.values()}) != 1 or sizes == {0}:
            got = ", ".join(f"{name} {value.shape} {value.dtype}" for name, value in inputs.items())
            raise ModelError(
                f"expected {', '.join(map(str, self.inputs))}, got {got or 'nothing'}",
                code="wrong_input_shape",
                remedy="make inputs with OnnxPerception.inputs_of",
            )


def present_providers() -> tuple[str, ...]:
    """Providers that can work on this machine, best first; the CPU always does.

    onnxruntime lists what it was built with, whether or not there is a GPU: the driver and its libraries are asked.
    """
    import onnxruntime as ort

    built = ort.get_available_providers()
    found = [CPU]
    if CUDA in built and gpu_count() > 0:
        found.insert(0, CUDA)
        if TENSORRT in built and _loads(PARSER):
            found.insert(0, TENSORRT)
    return tuple(found)


def gpu_count() -> int:
    """GPUs that the CUDA driver sees; 0 without a driver."""
    if not _loads(DRIVER):
        return 0
    driver, count = ctypes.CDLL(DRIVER), ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def stack(rows: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Single inputs as one batch."""
    return {name: np.ascontiguousarray(np.stack([row[name] for row in rows])) for name in rows[0]}
