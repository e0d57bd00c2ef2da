"""inference_config.json: everything that a host needs to know to run the files of a bundle.

Belongs here: its content, and the note inside each ONNX file. Does not belong here: reading it (`models.runtime`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from av_assets.domain.evidence.digests import canonical_json, sha256_bytes
from av_assets.domain.models.inputs import InputLayout
from av_assets.domain.models.network import INPUT_SCALE
from av_assets.domain.models.runtime import FP32
from av_assets.domain.packaging.source import Source

SCHEMA: Final = 2
SCORE_FLOOR: Final = 0.01  # of what the runtime hands out; evaluation and serving set their own, higher ones
FILES: Final = {
    "fp32": "model.onnx",
    "fp16": "model.fp16.onnx",
    "int8": "model.int8.onnx",
    "torchscript": "model.ts.pt",
}


def metadata(source: Source, opset: int, precision: str = FP32) -> dict[str, str]:
    """What an ONNX file says of itself (metadata_props)."""
    return {
        "checkpoint_sha256": source.checkpoint_sha256,
        "dataset_digest": source.state["dataset_digest"],
        "config_digest": source.state["config_digest"],
        "classes": ",".join(source.classes),
        "planes": ",".join(InputLayout.of(source.config).planes),
        "normalisation": canonical_json(_normalisation()).decode(),
        "opset": str(opset),
        "precision": precision,
    }


def inference_config(source: Source, opset: int, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The description of `files` (precision -> bytes); only fp32 is usable until a gate has passed the others."""
    return {
        "schema": SCHEMA,
        "model_sha256": sha256_bytes(files[FP32]),
        "checkpoint_sha256": source.checkpoint_sha256,
        "dataset_digest": source.state["dataset_digest"],
        "config_digest": source.state["config_digest"],
        "classes": list(source.classes),
        "score_floor": SCORE_FLOOR,
        "opset": opset,
        "normalisation": _normalisation(),
        "files": {name: _file(name, data) for name, data in sorted(files.items())},
        "usable": [FP32],
        "refused": {},
        "variant": source.config.variant,
        "lidars": list(source.config.lidars) if InputLayout.of(source.config).lidar else [],
        "radars": list(source.config.radars) if InputLayout.of(source.config).radar else [],
        "layout": InputLayout.of(source.config).describe(),
        "inputs": _inputs(source),
        "outputs": _outputs(source),
    }


def with_precisions(
    config: Mapping[str, Any], files: Mapping[str, bytes], usable: Sequence[str], refused: Mapping[str, str]
) -> dict[str, Any]:
    """The description once the gate has decided: which further files there are, and why others may not be used."""
    described = dict(config["files"]) | {name: _file(name, data) for name, data in files.items()}
    return dict(config) | {
        "files": dict(sorted(described.items())),
        "usable": list(usable),
        "refused": dict(sorted(refused.items())),
    }


def _file(name: str, data: bytes) -> dict[str, Any]:
    return {"path": FILES[name], "sha256": sha256_bytes(data), "bytes": len(data)}


def _normalisation() -> dict[str, Any]:
    return {"scale": INPUT_SCALE, "inside_graph": True}


def _inputs(source: Source) -> list[dict[str, Any]]:
    layout = InputLayout.of(source.config)
    more: dict[str, dict[str, Any]] = {
        "picture": {"planes": list(layout.planes), "resize": "area"},
        "bev": {"planes": list(layout.grid_planes), "velocity": "over ground, along the ego axes"},
        "projection": {
            "unit": "homogeneous px of the picture from metres in the ego frame; zeros: no camera"
        },
    }
    return [
        {"name": spec.name, "dtype": spec.dtype, "shape": [None, *spec.shape], **more[spec.name]}
        for spec in source.inputs
    ]


def _outputs(source: Source) -> dict[str, Any]:
    config = source.config
    found, found3d = config.max_detections, config.max_detections_3d
    size = [config.input_height, config.input_width]
    known = {
        "boxes": _output("float32", [found, 4], "input px, x1 y1 x2 y2"),
        "scores": _output("float32", [found], "0..1, falling"),
        "classes": _output("int64", [found], "index into classes"),
        "drivable": _output("float32", size, "probability"),
        "boxes3d": _output("float32", [found3d, 9], "x y z l w h yaw vx vy in the ego frame: m, rad, m/s"),
        "scores3d": _output("float32", [found3d], "0..1, falling"),
        "classes3d": _output("int64", [found3d], "index into classes"),
    }
    return {name: known[name] for name in source.outputs if name not in source.heads}


def _output(dtype: str, shape: list[int], unit: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [None, *shape], "unit": unit}
