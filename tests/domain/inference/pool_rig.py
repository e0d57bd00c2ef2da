"""A tiny network that runs in onnxruntime, and drives for it to look at.

The network's first score is the mean brightness of the input picture, so that equal answers mean equal pictures. Its
first box is the left half of the input.
Belongs here: bundles and shards for tests of inference. Does not belong here: tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.evidence.digests import sha256_bytes, sha256_file
from av_assets.domain.loading.sources import ShardRef

WIDTH, HEIGHT, CAMERA, STEP_NS = 64, 32, "camera_front", 100_000_000
CLASSES = ("vehicle", "pedestrian", "cone")


def write_model(folder: Path, classes: tuple[str, ...] = CLASSES, shift: float = 0.0) -> Path:
    """A bundle folder; `shift` makes it another model."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: np.ndarray) -> Any:
        return numpy_helper.from_array(value, name)

    nodes = [
        helper.make_node("Cast", ["picture"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "full"], ["share"]),
        helper.make_node("Add", ["share", "shift"], ["first"]),
        helper.make_node("Unsqueeze", ["first", "last"], ["column"]),
        helper.make_node("Mul", ["column", "weights"], ["scores"]),
        helper.make_node("Unsqueeze", ["scores", "last2"], ["wide"]),
        helper.make_node("Mul", ["wide", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "corners"], ["boxes"]),
        helper.make_node("Cast", ["scores"], ["rounded"], to=TensorProto.INT64),
        helper.make_node("Mul", ["rounded", "nought"], ["none"]),
        helper.make_node("Add", ["none", "kinds"], ["classes"]),
    ]
    constants = [
        constant("axes", np.array([1, 2, 3], np.int64)),
        constant("full", np.float32(255 * 3 / 5)),  # two of five planes are empty without a lidar
        constant("shift", np.float32(shift)),
        constant("last", np.array([1], np.int64)),
        constant("last2", np.array([2], np.int64)),
        constant("weights", np.array([[1.0, 0.5]], np.float32)),
        constant("zero", np.zeros((1, 1, 4), np.float32)),
        constant("corners", np.array([[[0, 0, WIDTH / 2, HEIGHT], [0, 0, 4, 4]]], np.float32)),
        constant("nought", np.zeros((1, 1), np.int64)),
        constant("kinds", np.array([[0, 1]], np.int64)),
    ]
    outputs = {
        "boxes": (TensorProto.FLOAT, [2, 4]),
        "scores": (TensorProto.FLOAT, [2]),
        "classes": (TensorProto.INT64, [2]),
    }
    graph = helper.make_graph(
        nodes, "brightness",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, ["n", 5, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info(n, kind, ["n", *shape]) for n, (kind, shape) in outputs.items()],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    weights = model.SerializeToString()
    names = {TensorProto.FLOAT: "float32", TensorProto.INT64: "int64"}
    config = {
        "schema": 2, "model_sha256": sha256_bytes(weights), "classes": list(classes), "score_floor": 0.01,
        "files": {"fp32": {"path": "model.onnx", "sha256": sha256_bytes(weights), "bytes": len(weights)}},
        "usable": ["fp32"], "refused": {},
        "layout": {"width": WIDTH, "height": HEIGHT, "lidar": True, "radar": False, "grid": None},
        "inputs": [{"name": "picture", "dtype": "uint8", "shape": [None, 5, HEIGHT, WIDTH]}],
        "outputs": {n: {"dtype": names[k], "shape": [None, *s]} for n, (k, s) in outputs.items()},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(weights)
    (folder / "inference_config.json").write_text(json.dumps(config))
    return folder


def jpeg(seed: int) -> bytes:
    """A picture of twice the network's size; equal seeds give equal bytes."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (4, 8, 3)).astype(np.uint8)
    picture = cv2.resize(small, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".jpg", picture)[1])


def write_shard(
    path: Path, drive: str, number: int, frames: int = 10, camera: str = CAMERA, missing: tuple[int, ...] = (),
    broken: tuple[int, ...] = (), start_ns: int = 0,
) -> Path:  # fmt: skip
    """A clip of `frames` rows; those of `missing` have no picture, those of `broken` bytes that are none."""
    rows = []
    for row in range(frames):
        place = number * frames + row
        data = b"no picture" if row in broken else jpeg(1000 * number + row)
        cell = {
            "data": data,
            "encoding": "jpeg",
            "sensor_ns": place,
            "log_ns": place,
            "delta_ns": 0,
            "valid": True,
        }
        absent = dict.fromkeys(("data", "encoding", "sensor_ns", "log_ns", "delta_ns")) | {"valid": False}
        rows.append(
            {"clip_id": f"{drive}/{number:05d}", "frame_index": place, "ref_ns": start_ns + place * STEP_NS,
             "keyframe": row == 0, camera: absent if row in missing else cell}
        )  # fmt: skip
    table = pa.Table.from_pylist(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table.replace_schema_metadata({"redacted": "true", "drive": drive}), path, compression="none",
        use_dictionary=False,
    )  # fmt: skip
    return path


def write_drive(folder: Path, drive: str, clips: int = 3, **more: Any) -> list[ShardRef]:
    """Shards of a drive below `folder`/clips."""
    return [
        ref_of(write_shard(folder / "clips" / f"{n:05d}.parquet", drive, n, **more), folder)
        for n in range(clips)
    ]


def ref_of(path: Path, folder: Path) -> ShardRef:
    return ShardRef(sha256_file(path), path.stat().st_size, path.relative_to(folder).as_posix())
