"""Reading a TensorFlow Lite file: the tensors, weights and operators of its one graph.

Only what a small floating-point network needs; anything else is refused by name. Field numbers are those of
the public schema (tensorflow/lite/schema.fbs, identifier TFL3). Belongs here: the file format. Does not
belong here: what the graph means, other formats.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from av_assets.domain.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ITEMS: Final = 10_000
OPERATORS: Final = {
    0: "ADD", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE", 14: "LOGISTIC",
    22: "RESHAPE",
}  # fmt: skip
ACTIVATIONS: Final = {0: "NONE", 1: "RELU", 3: "RELU6"}
_TYPES: Final[dict[int, np.dtype[Any]]] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: np.dtype("<i4")}


@dataclass(frozen=True)
class Tensor:
    """`values` holds constants only."""

    name: str
    shape: tuple[int, ...]
    values: np.ndarray | None


@dataclass(frozen=True)
class Operator:
    """`options`: `strides` and `dilations` (h, w), `same` padding, `multiplier` of a depthwise one, `axis`."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str = "NONE"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TfliteModel:
    """Indices in operators, `inputs` and `outputs` count in `tensors`."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(data: bytes) -> TfliteModel:
    """The graph of a TFLite file.

    Raises:
        ModelError: `bad_model`, no TFLite file, or one with more than this reader knows.
    """
    if data[4:8] != b"TFL3":
        raise ModelError("not a TFLite file", code="bad_model")
    try:
        return _model(_Table.root(data))
    except (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"unreadable TFLite file: {type(error).__name__}", code="bad_model") from error


class _Table:
    """One FlatBuffers table; fields are asked for by their number in the schema."""

    def __init__(self, data: bytes, position: int) -> None:
        from flatbuffers.table import Table  # type: ignore[import-untyped]

        if not 0 <= position < len(data):
            raise IndexError(position)
        self._data, self._table = data, Table(data, position)

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, int.from_bytes(data[:4], "little"))

    def number(self, slot: int, kind: str, default: int = 0) -> int:
        at = self._table.Offset(4 + 2 * slot)
        return int(struct.unpack_from(kind, self._data, self._table.Pos + at)[0]) if at else default

    def array(self, slot: int, dtype: str) -> np.ndarray:
        at = self._table.Offset(4 + 2 * slot)
        if not at:
            return np.zeros(0, dtype)
        return np.frombuffer(self._data, dtype, self._table.VectorLen(at), self._table.Vector(at))

    def numbers(self, slot: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self.array(slot, "<i4")[:MAX_ITEMS])

    def text(self, slot: int) -> str:
        return self.array(slot, "u1").tobytes().decode("utf-8", "replace")

    def table(self, slot: int) -> _Table:
        return _Table(self._data, self._table.Indirect(self._table.Pos + self._table.Offset(4 + 2 * slot)))

    def tables(self, slot: int) -> Iterator[_Table]:
        at = self._table.Offset(4 + 2 * slot)
        count = self._table.VectorLen(at) if at else 0
        if count > MAX_ITEMS:
            raise ValueError(count)
        start = self._table.Vector(at) if at else 0
        for index in range(count):
            yield _Table(self._data, self._table.Indirect(start + 4 * index))


def _model(root: _Table) -> TfliteModel:
    # Before version 3a of the schema the code was one byte; later files hold it in both places.
    codes = [max(code.number(0, "<b"), code.number(3, "<i")) for code in root.tables(1)]
    [graph] = root.tables(2)
    buffers = list(root.tables(4))
    tensors = tuple(_tensor(table, buffers) for table in graph.tables(0))
    operators = tuple(_operator(table, codes) for table in graph.tables(3))
    return TfliteModel(tensors, operators, graph.numbers(1), graph.numbers(2))


def _tensor(table: _Table, buffers: list[_Table]) -> Tensor:
    shape = table.numbers(0)
    raw = buffers[table.number(2, "<I")].array(0, "u1")
    values = raw.view(_TYPES[table.number(1, "<b")]).reshape(shape) if raw.size else None
    return Tensor(table.text(3), shape, values)


def _operator(table: _Table, codes: list[int]) -> Operator:
    code = codes[table.number(0, "<I")]
    if code not in OPERATORS:
        raise ModelError(f"TFLite operator {code} is not supported", code="bad_model")
    kind, inputs, outputs = OPERATORS[code], table.numbers(1), table.numbers(2)
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return _convolution(table.table(4), kind, inputs, outputs)
    if kind == "ADD":
        return Operator(kind, inputs, outputs, ACTIVATIONS[table.table(4).number(0, "<b")])
    if kind == "CONCATENATION":
        settings = table.table(4)
        axis = settings.number(0, "<i")
        return Operator(kind, inputs, outputs, ACTIVATIONS[settings.number(1, "<b")], {"axis": axis})
    return Operator(kind, inputs, outputs)


def _convolution(settings: _Table, kind: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Operator:
    deep = kind == "DEPTHWISE_CONV_2D"  # one more field, before the activation
    after = 4 if deep else 3
    options = {
        "same": settings.number(0, "<b") == 0,
        "strides": (settings.number(2, "<i"), settings.number(1, "<i")),
        "multiplier": settings.number(3, "<i") if deep else 0,
        "dilations": (settings.number(after + 2, "<i", 1), settings.number(after + 1, "<i", 1)),
    }
    return Operator(kind, inputs, outputs, ACTIVATIONS[settings.number(after, "<b")], options)
