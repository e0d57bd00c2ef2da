"""A bundle served by a real Triton, from the tool environment `triton`: Debian's Python 3.11 and a registry."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from untaught import untaught_checkpoint

from av_assets.domain.errors import TransientError
from av_assets.domain.models.runtime import OnnxPerception, read_config
from av_assets.domain.packaging.export import export_float32
from av_assets.domain.packaging.parity import noise
from av_assets.domain.packaging.source import read_source
from av_assets.domain.packaging.triton_repository import MODEL_NAME, write_repository
from av_assets.policies.packaging import PackagingPolicy
from resources.tool_environments import INTERPRETERS, PINS, tool_environment
from resources.triton_server import NAME, TritonServer, triton_server

TEMPLATES = PINS.parent / "triton"
TYPES = {"uint8": "UINT8", "float32": "FP32"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    checkpoint = untaught_checkpoint(folder / "checkpoint.pt", variant="camera_lidar_radar")
    export_float32(read_source(checkpoint), folder / "bundle", PackagingPolicy.load())
    return folder / "bundle"


@pytest.fixture(scope="module")
def repository(bundle: Path) -> Path:
    out = bundle.parent / "repository"
    write_repository(read_config(bundle), bundle, TEMPLATES, "fp32", PackagingPolicy.load().triton, out)
    return out


@pytest.fixture(scope="module")
def environment_ready() -> None:
    if not Path(INTERPRETERS[NAME]).is_file():
        pytest.skip(f"no {INTERPRETERS[NAME]}: apt-get install python3.11 python3.11-venv libpython3.11")
    try:
        tool_environment(NAME)
    except TransientError as error:
        pytest.skip(f"Triton cannot be had here: {error}")


@pytest.fixture(scope="module")
def server(repository: Path, environment_ready: None) -> Iterator[TritonServer]:
    with triton_server(repository) as running:
        yield running


def given(bundle: Path, rows: int) -> dict[str, np.ndarray]:
    specs = OnnxPerception(bundle)._network.inputs
    return dict(next(iter(noise(specs, rows, rows, 7)))[1])


def ask(server: TritonServer, inputs: dict[str, np.ndarray]) -> Any:
    import tritonclient.grpc as triton

    sent = []
    for name, value in inputs.items():
        tensor = triton.InferInput(name, list(value.shape), TYPES.get(str(value.dtype), "FP64"))
        tensor.set_data_from_numpy(value)
        sent.append(tensor)
    with triton.InferenceServerClient(server.grpc) as client:
        return client.infer(MODEL_NAME, sent)


@pytest.mark.parametrize("rows", [1, 5])
def test_answers_are_those_of_the_runtime(rows: int, bundle: Path, server: TritonServer) -> None:
    inputs = given(bundle, rows)
    answer = ask(server, inputs)
    expected = OnnxPerception(bundle).run(inputs)
    assert set(expected) == set(read_config(bundle)["outputs"])
    for name, value in expected.items():
        np.testing.assert_allclose(answer.as_numpy(name), value, atol=1e-5)


def test_requests_that_come_together_run_together(bundle: Path, server: TritonServer) -> None:
    import tritonclient.grpc as triton

    inputs = given(bundle, 12)
    expected = OnnxPerception(bundle).run(inputs, ("scores",))["scores"]
    with triton.InferenceServerClient(server.grpc) as client:
        before = client.get_inference_statistics(MODEL_NAME).model_stats[0]
        answers: dict[int, Any] = {}
        done = threading.Semaphore(0)
        for row in range(12):
            sent = []
            for name, value in inputs.items():
                tensor = triton.InferInput(name, [1, *value.shape[1:]], TYPES[str(value.dtype)])
                tensor.set_data_from_numpy(value[row : row + 1])
                sent.append(tensor)

            def keep(result: Any, error: Any, row: int = row) -> None:
                answers[row] = error or result.as_numpy("scores")[0]
                done.release()

            client.async_infer(MODEL_NAME, sent, keep)
        assert all(done.acquire(timeout=30) for _ in range(12))
        for row in range(12):
            np.testing.assert_allclose(answers[row], expected[row], atol=1e-5)
        after = client.get_inference_statistics(MODEL_NAME).model_stats[0]
    assert after.inference_count - before.inference_count == 12
    assert after.execution_count - before.execution_count < 12


@pytest.mark.parametrize("change", ["shape", "type", "missing"])
def test_wrong_requests_are_refused(change: str, bundle: Path, server: TritonServer) -> None:
    from tritonclient.utils import InferenceServerException

    inputs = given(bundle, 1)
    if change == "shape":
        inputs["picture"] = np.ascontiguousarray(inputs["picture"][..., :-32])
    elif change == "type":
        inputs["picture"] = inputs["picture"].astype(np.float32)
    else:
        del inputs["bev"]
    with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT"):
        ask(server, inputs)


def test_metrics_count_what_was_answered(bundle: Path, server: TritonServer) -> None:
    ask(server, given(bundle, 1))
    lines = [line for line in server.read_metrics().splitlines() if line.startswith("nv_inference_count{")]
    assert len(lines) == 1
    assert MODEL_NAME in lines[0]
    assert float(lines[0].split()[-1]) >= 1


def test_tampered_weights_are_not_served(repository: Path, environment_ready: None, tmp_path: Path) -> None:
    copy = shutil.copytree(repository, tmp_path / "copy")
    weights = copy / MODEL_NAME / "1" / "model.onnx"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with (
        pytest.raises(TransientError, match=r"is not what inference_config\.json names"),
        triton_server(copy),
    ):
        pass
