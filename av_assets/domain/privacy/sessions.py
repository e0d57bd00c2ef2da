"""Sessions of onnxruntime, and pictures in the form that networks take.

Belongs here: opening a model, shaping its input. Does not belong here: the meaning of any output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import sha256_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def open_session(path: Path, threads: int, device: Literal["auto", "cpu"] = "cpu") -> Any:
    """An onnxruntime session: sequential, `threads` wide on a CPU, where it gives the same answer every time.

    Args:
        device: "auto" takes CUDA where the runtime offers it and it starts, else the CPU.

    Raises:
        ModelError: `bad_model`, no ONNX model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    # Waiting threads that spin take the cores that decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    if device == "auto" and _has_cuda():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise ModelError(f"not an ONNX model: {type(error).__name__}", code="bad_model", file=path) from error


def _has_cuda() -> bool:
    """Whether the runtime was built for CUDA and there is a driver; it complains loudly where there is none."""
    import ctypes

    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    # CUDA and cuDNN may lie in packages beside this one instead of on the loader's path.
    onnxruntime.preload_dlls()
    return True


def weights_digest(path: Path) -> str:
    """sha256 of the weights.

    Raises:
        ModelError: `missing_weights`.
    """
    if not path.is_file():
        raise ModelError("weights are missing", code="missing_weights", file=path, remedy="fetch them first")
    return sha256_file(path)


def resized(rgb: np.ndarray, scale: float, max_side_px: int, multiple: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture (uint8) with sides rounded up to `multiple`, and the factors (x, y) back to the source."""
    import cv2

    height, width = rgb.shape[:2]
    scale = min(scale, max_side_px / max(height, width))
    new_h, new_w = (max(multiple, -(-round(side * scale) // multiple) * multiple) for side in (height, width))
    picture = rgb if (new_h, new_w) == (height, width) else cv2.resize(rgb, (new_w, new_h))
    return picture, np.array([width / new_w, height / new_h], np.float32)


def planes(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Equal pictures (h, w, 3) -> (n, 3, h, w) float32."""
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2), dtype=np.float32)
