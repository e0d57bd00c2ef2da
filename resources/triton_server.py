"""A real Triton inference server on this machine: started for a model repository, reachable on loopback, ended by pid.

The server is the one inside the nvidia-pytriton wheel (`deployments/tools/triton.txt`); in a cluster the repository
goes to NVIDIA's own image instead. Its python backend looks for its files beside the models of this folder layout:
    backend/python/          the backend and its stub, copied once per server
Belongs here: the process and its ports. Does not belong here: the repository (`domain.packaging.triton_repository`).
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from av_assets.domain.errors import TransientError
from resources.tool_environments import tool_environment, tool_variables

NAME = "triton"
HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
MAX_LOG_BYTES = 1 << 20
MAX_SAID = 2000


@dataclass(frozen=True)
class TritonServer:
    """A running server. `grpc`: host:port for tritonclient.grpc; `http` and `metrics`: addresses."""

    pid: int
    http: str
    grpc: str
    metrics: str

    def read_metrics(self) -> str:
        """Counters in the text format of Prometheus."""
        with urllib.request.urlopen(self.metrics, timeout=10) as answer:
            return bytes(answer.read()).decode()


@contextmanager
def triton_server(repository: Path, start_timeout_s: float = START_TIMEOUT_S) -> Iterator[TritonServer]:
    """Serve every model of `repository` while the block runs.

    Raises:
        TransientError: tool_not_installed; triton_not_ready, the server ended or took too long (its errors are
            part of the message).
    """
    site = next((tool_environment(NAME) / "lib").glob("python3.*")) / "site-packages"
    with tempfile.TemporaryDirectory(prefix="triton-") as folder:
        backends = _backends(site / "pytriton" / "tritonserver", Path(folder))
        log = Path(folder) / "log"
        ports = _free_ports(3)
        server = TritonServer(
            0, f"http://{HOST}:{ports[0]}", f"{HOST}:{ports[1]}", f"http://{HOST}:{ports[2]}/metrics"
        )
        with log.open("wb") as out:
            process = subprocess.Popen(
                _command(site, repository, backends, ports),
                stdout=out,
                stderr=subprocess.STDOUT,
                env=_variables(site),
                start_new_session=True,
            )
        try:
            _wait(process, server, log, start_timeout_s)
            yield TritonServer(process.pid, server.http, server.grpc, server.metrics)
        finally:
            _stop(process)


def _backends(triton: Path, folder: Path) -> Path:
    """The python backend with the stub of its interpreter beside it, as Triton looks for them."""
    target = folder / "backends" / "python"
    shutil.copytree(triton / "backends" / "python", target)
    shutil.copy2(triton / "python_backend_stubs" / "3.11" / "triton_python_backend_stub", target)
    return target.parent


def _command(site: Path, repository: Path, backends: Path, ports: list[int]) -> list[str]:
    triton = site / "pytriton" / "tritonserver"
    places = zip(("http", "grpc", "metrics"), ports, strict=True)
    listening = [
        flag for kind, port in places for flag in (f"--{kind}-address={HOST}", f"--{kind}-port={port}")
    ]
    return [
        str(triton / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--cache-directory={triton / 'caches'}",
        "--exit-on-error=true",
        "--allow-gpu-metrics=false",
        "--log-verbose=0",
        *listening,
    ]


def _variables(site: Path) -> dict[str, str]:
    variables = tool_variables(LD_LIBRARY_PATH=str(site / "nvidia_pytriton.libs"))
    # The backend starts the python that it finds first.
    variables["PATH"] = f"{tool_environment(NAME) / 'bin'}:{variables.get('PATH', '')}"
    return variables


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait(process: subprocess.Popen[bytes], server: TritonServer, log: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.http}/v2/health/ready", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise TransientError(
        f"Triton did not become ready: {_errors(log)}",
        code="triton_not_ready",
        remedy="look at the log; a model that is refused names its reason there",
    )


def _errors(log: Path) -> str:
    """What the log says at level error, which Triton marks by the first letter; else its end."""
    with log.open("rb") as file:
        lines = file.read(MAX_LOG_BYTES).decode("utf-8", "replace").splitlines()
    said = [line for line in lines if re.match(r"E\d{4} |error:", line)]
    return "; ".join(said or lines[-5:])[:MAX_SAID]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
