"""A bundle as a model repository of the Triton inference server.

    <name>/config.pbtxt                  what goes in and out, batching, queue, warm-up
    <name>/<version>/model.py            the python backend, onnxruntime inside
    <name>/<version>/inference_config.json, model*.onnx
Belongs here: these files. Does not belong here: running a server (`resources.triton_server`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, Final

from av_assets.domain.models.runtime import CONFIG_FILE
from av_assets.policies.packaging import TritonServing

MODEL_NAME: Final = "perception"
VERSION: Final = "1"
TEMPLATE_FILE: Final = "config.pbtxt"
BACKEND_FILE: Final = "model.py"
_TYPES: Final = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "int64": "TYPE_INT64"}


def write_repository(
    config: Mapping[str, Any],
    bundle: Path,
    templates: Path,
    precision: str,
    serving: TritonServing,
    out: Path,
) -> None:
    """Write the repository that serves one precision of `bundle` into the folder `out`.

    Args:
        config: inference_config.json as it will be published. templates: folder with config.pbtxt and model.py.
    """
    version = out / MODEL_NAME / VERSION
    version.mkdir(parents=True)
    text = (templates / TEMPLATE_FILE).read_text("utf-8")
    (out / MODEL_NAME / TEMPLATE_FILE).write_text(config_pbtxt(config, text, precision, serving), "utf-8")
    (version / BACKEND_FILE).write_bytes((templates / BACKEND_FILE).read_bytes())
    for name in (CONFIG_FILE, str(config["files"][precision]["path"])):
        (version / name).write_bytes((bundle / name).read_bytes())


def config_pbtxt(config: Mapping[str, Any], template: str, precision: str, serving: TritonServing) -> str:
    """The model's configuration as Triton reads it (protobuf text of its ModelConfig)."""
    inputs, outputs = config["inputs"], config["outputs"]
    return Template(template).substitute(
        name=MODEL_NAME,
        max_batch=serving.max_batch,
        inputs=",\n".join(_tensor(i["name"], i) for i in inputs),
        outputs=",\n".join(_tensor(name, described) for name, described in outputs.items()),
        instances=serving.instances,
        kept_versions=serving.kept_versions,
        preferred=", ".join(map(str, serving.preferred_batches)),
        delay_us=serving.max_queue_delay_us,
        queue=serving.max_queue_size,
        precision=precision,
        threads=serving.threads,
        warmup=",\n".join(_warmup(inputs, size) for size in sorted({1, serving.max_batch})),
    )


def _tensor(name: str, described: Mapping[str, Any]) -> str:
    return f'  {{ name: "{name}", data_type: {_TYPES[described["dtype"]]}, dims: {_dims(described)} }}'


def _dims(described: Mapping[str, Any]) -> str:
    return f"[ {', '.join(str(size) for size in described['shape'][1:])} ]"


def _warmup(inputs: list[Mapping[str, Any]], size: int) -> str:
    """A request of zeros at start, so that the first vehicle does not wait for allocations."""
    rows = [
        f"{{ data_type: {_TYPES[given['dtype']]}, dims: {_dims(given)}, zero_data: true }}"
        for given in inputs
    ]
    named = zip(inputs, rows, strict=True)
    lines = "\n".join(f'    inputs {{ key: "{given["name"]}", value: {row} }}' for given, row in named)
    return f'  {{ name: "batch of {size}", batch_size: {size}\n{lines}\n  }}'
