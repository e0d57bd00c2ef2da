"""A Kubernetes API server for tests: it checks what it is sent as strictly as a real one, and runs it as a process.

Pods only: create, get, list (label and field selectors), watch-free logs with follow, delete. A pod's command runs on
this machine with the pod's environment and nothing else. There is no admission, scheduling or RBAC.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlparse

import kubernetes_validate
import yaml

VERSION = "1.33"
PROJECT = Path(__file__).parents[2]
POD = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods(/(?P<name>[^/]+))?(?P<log>/log)?")
Object = dict[str, Any]


@dataclass
class Pod:
    """One pod and the process of its only container."""

    body: Object
    process: subprocess.Popen[bytes]
    lines: list[bytes] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        """Collect what the process writes, with the time at which it did, until it ends."""
        assert self.process.stdout is not None
        with self.process.stdout as written:
            for line in written:
                stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z")
                self.lines.append(stamp.encode() + b" " + line)
        self.process.wait()
        self.ended.set()

    @property
    def seen(self) -> Object:
        """The pod as the API shows it now."""
        [container] = self.body["spec"]["containers"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        code = self.process.returncode
        if self.ended.is_set():
            exit_code = code if code >= 0 else 128 - code
            state = {"terminated": {"exitCode": exit_code, "reason": "Error" if code else "Completed"}}
            phase = "Failed" if code else "Succeeded"
        else:
            state, phase = {"running": {"startedAt": now}}, "Running"
        status = {
            "phase": phase,
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "restartCount": 0,
                    "ready": phase == "Running",
                    "state": state,
                }
            ],
        }
        return {**self.body, "status": status}


class FakeCluster:
    """The server; `created` are all pods that it accepted, `refused` what its schema said about the others."""

    def __init__(self, environment: dict[str, str]) -> None:
        """`environment` is what the image of a pod would bring along."""
        self.environment = environment
        self.pods: dict[str, Pod] = {}
        self.created: list[Object] = []
        self.refused: list[str] = []
        cluster = self

        class Handler(_Handler):
            at = cluster

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self.pods.values():
            if pod.process.poll() is None:
                pod.process.kill()
            pod.ended.wait(10)
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, path: Path) -> Path:
        host, port = self._server.server_address[:2]
        one = [{"name": "fake", "cluster": {"server": f"http://{host!s}:{port}"}}]
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": one,
                    "users": [{"name": "fake", "user": {}}],
                    "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
                    "current-context": "fake",
                }
            )
        )
        return path

    def create(self, namespace: str, body: Object) -> tuple[int, Object]:
        body = {"apiVersion": "v1", "kind": "Pod", **body}
        try:
            kubernetes_validate.validate(body, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            self.refused.append(error.message)
            return 422, _status(422, "Invalid", error.message)
        name = body["metadata"]["name"]
        if name in self.pods:
            return 409, _status(409, "AlreadyExists", name)
        [container] = body["spec"]["containers"]
        body["metadata"] = {"namespace": namespace, **body["metadata"]}
        self.created.append(body)
        self.pods[name] = pod = Pod(body, self._start(container))
        threading.Thread(target=pod.read, daemon=True).start()
        return 201, pod.seen

    def _start(self, container: Object) -> subprocess.Popen[bytes]:
        env = {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}
        return subprocess.Popen(
            [*container["command"], *container.get("args", [])],
            env={**self.environment, **env},
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def listed(self, query: dict[str, list[str]]) -> Object:
        """The pods that the selectors choose."""
        found = [pod.seen for pod in self.pods.values()]
        for clause in ",".join(query.get("fieldSelector", [])).split(","):
            if clause:
                key, _, value = clause.partition("=")
                assert key == "metadata.name", f"no field {key} here"
                found = [pod for pod in found if pod["metadata"]["name"] == value]
        for clause in ",".join(query.get("labelSelector", [])).split(","):
            if clause:
                key, _, value = clause.partition("=")
                found = [pod for pod in found if pod["metadata"].get("labels", {}).get(key) == value]
        return {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": found}


class _Handler(BaseHTTPRequestHandler):
    at: FakeCluster
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, code: int, body: Object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _asked(self) -> tuple[re.Match[str] | None, dict[str, list[str]]]:
        url = urlparse(self.path)
        return POD.fullmatch(url.path), parse_qs(url.query)

    def do_POST(self) -> None:
        asked, _ = self._asked()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked is None:
            self._answer(404, _status(404, "NotFound", self.path))
        else:
            self._answer(*self.at.create(asked["namespace"], body))

    def do_GET(self) -> None:
        asked, query = self._asked()
        if asked is not None and asked["name"] is None:
            self._answer(200, self.at.listed(query))
        elif asked is None or asked["name"] not in self.at.pods:
            self._answer(404, _status(404, "NotFound", self.path))
        elif asked["log"]:
            self._logs(self.at.pods[asked["name"]])
        else:
            self._answer(200, self.at.pods[asked["name"]].seen)

    def do_DELETE(self) -> None:
        asked, _ = self._asked()
        pod = self.at.pods.pop(asked["name"] or "", None) if asked is not None else None
        if pod is None:
            self._answer(404, _status(404, "NotFound", self.path))
            return
        if pod.process.poll() is None:
            pod.process.terminate()
        self._answer(200, pod.seen)

    def _logs(self, pod: Pod) -> None:
        """Chunks as they come, until the process ends."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while True:
            over = pod.ended.is_set()
            for line in pod.lines[sent:]:
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                sent += 1
            if over and sent == len(pod.lines):
                break
            time.sleep(0.02)
        self.wfile.write(b"0\r\n\r\n")


def _status(code: int, reason: str, message: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def image_environment() -> dict[str, str]:
    """What the image of the training pods brings: this interpreter as `python`, and the project."""
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    return {"PATH": path, "PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "ignore", "HOME": "/nonexistent"}
