"""The network as ONNX: any batch size, and a note inside the file of what it was made from.

Belongs here: the exporter and what is stripped from its output. Does not belong here: other precisions (`half`,
`int8`).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import onnx
import torch

from av_assets.domain.packaging.source import Source

MAX_BATCH: Final = 1024


def to_onnx(source: Source, opset: int, metadata: Mapping[str, str]) -> bytes:
    """The float32 model; equal networks and metadata give equal bytes."""
    names = [spec.name for spec in source.inputs]
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    with _quiet():
        program = torch.onnx.export(
            source.network,
            source.example(2),
            dynamo=True,
            opset_version=opset,
            input_names=names,
            output_names=list(source.outputs),
            dynamic_shapes=tuple({0: batch} for _ in names),
            verbose=False,
        )
    assert program is not None
    return settled(program.model_proto, metadata)


def settled(model: Any, metadata: Mapping[str, str]) -> bytes:
    """The bytes of a checked model that says `metadata` of itself and nothing of the machine that made it."""
    _strip(model)
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _strip(model: Any) -> None:
    """Remove stack traces and the like: they hold paths, and make equal networks unequal bytes."""
    del model.metadata_props[:]
    model.graph.doc_string = ""
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    del model.graph.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns about its own internals and logs missing optional packages."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
