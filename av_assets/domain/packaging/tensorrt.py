"""TensorRT engines of a bundle, built where a GPU is: tensorrt.json and engine files, or the reason for none.

An engine runs on the GPU architecture and the version of TensorRT that it was built with and nowhere else, so both are
recorded; hosts with others build their own from model.onnx.
Belongs here: building and that record. Does not belong here: finding out what a machine has (`models.session`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from av_assets.domain.models.session import DRIVER, PARSER, TENSORRT, InputSpec, gpu_count, present_providers
from av_assets.policies.packaging import PackagingPolicy

FOLDER: Final = "tensorrt"
INFER: Final = "libnvinfer.so.10"
# CUDA driver API: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_MAJOR, _MINOR = 75, 76


def build_engines(
    models: Mapping[str, bytes], inputs: Sequence[InputSpec], out_dir: Path, policy: PackagingPolicy
) -> dict[str, Any]:
    """Build an engine of each of `models` (precision -> ONNX) into `out_dir`/tensorrt; returns tensorrt.json."""
    reason = why_none(policy)
    if reason:
        return {"engines": [], "reason": reason}
    gpu, version = _gpu(), _version()
    engines = []
    for precision, model in sorted(models.items()):
        folder = out_dir / FOLDER / precision
        folder.mkdir(parents=True)
        _build(model, inputs, folder, precision, policy)
        for path in sorted(folder.glob("*.engine")):
            engines.append(
                {
                    "precision": precision,
                    "path": path.relative_to(out_dir).as_posix(),
                    "tensorrt": version,
                    **gpu,
                }
            )
    return {"engines": engines, "reason": ""}


def why_none(policy: PackagingPolicy) -> str:
    """Why no engine can be built here; empty where one can."""
    if not policy.tensorrt:
        return "switched off by the policy"
    if gpu_count() == 0:
        return f"no GPU: {DRIVER} is not here or sees none"
    if TENSORRT not in present_providers():
        return f"no TensorRT: {PARSER} is not here, or onnxruntime was built without it"
    return ""


def _build(
    model: bytes, inputs: Sequence[InputSpec], folder: Path, precision: str, policy: PackagingPolicy
) -> None:
    """onnxruntime builds the engine when it first runs the model, and keeps it in `folder`."""
    import onnxruntime as ort

    def shapes(rows: int) -> str:
        return ",".join(f"{spec.name}:{'x'.join(map(str, (rows, *spec.shape)))}" for spec in inputs)

    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        "trt_int8_enable": "1" if precision == "int8" else "0",
        "trt_profile_min_shapes": shapes(1),
        "trt_profile_opt_shapes": shapes(policy.tensorrt_max_batch),
        "trt_profile_max_shapes": shapes(policy.tensorrt_max_batch),
    }
    session = ort.InferenceSession(model, providers=[(TENSORRT, options), "CPUExecutionProvider"])
    session.run(None, {spec.name: np.zeros((1, *spec.shape), spec.dtype) for spec in inputs})


def _gpu() -> dict[str, str]:
    """Name and architecture of the first GPU, e.g. sm_90."""
    driver, name = ctypes.CDLL(DRIVER), ctypes.create_string_buffer(256)
    values = [ctypes.c_int(), ctypes.c_int()]
    driver.cuDeviceGetName(name, 256, 0)
    for value, attribute in zip(values, (_MAJOR, _MINOR), strict=True):
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
    return {"gpu": name.value.decode(), "architecture": f"sm_{values[0].value}{values[1].value}"}


def _version() -> str:
    number = int(ctypes.CDLL(INFER).getInferLibVersion())
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
