"""A loopback proxy before an S3 server that does to answers what networks and busy servers do.

Each request asks `plan` for a fault; None passes it through. Faults: `500`, `503` (SlowDown), `timeout` (no answer),
`reset` (the connection is reset instead of an answer), `truncated` (a part of the body, then the end), `stalled` (a
part of the body, then silence), `slow` (the body in small drops), `flipped` (one bit of the body is another).
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

Plan = Callable[[str, str, int], "str | None"]
"""(method, path, how many requests came before) -> fault."""

FAULTS = ("500", "503", "timeout", "reset", "truncated", "stalled", "slow")
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_INTERNAL = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
_HOP = {"connection", "transfer-encoding", "content-length", "server", "date", "keep-alive"}


class FlakyS3(ThreadingHTTPServer):
    """Started by `flaky_s3`; `plan` may be changed while it runs."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str, plan: Plan, silence_s: float, drop_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.plan = urlparse(upstream).netloc, plan
        self.silence_s, self.drop_s = silence_s, drop_s
        self.torn_at = 0.5
        self.closing = threading.Event()
        self.requests, self.done = Counter[str](), Counter[str | None]()
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, method: str, path: str) -> str | None:
        with self._lock:
            chosen = self.plan(method, path, self.requests.total())
            self.requests[method] += 1
            self.done[chosen] += 1
        return chosen

    def handle_error(self, *_: object) -> None:
        """Clients that went away are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    server: FlakyS3
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Silent."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault(self.command, self.path)
        if fault in ("500", "503"):
            self._send(int(fault), [], _SLOW_DOWN if fault == "503" else _INTERNAL)
        elif fault == "timeout":
            self.server.closing.wait(self.server.silence_s)
            self.close_connection = True
        elif fault == "reset":
            self._reset()
        else:
            self._pass_on(body, fault)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer  # noqa: N815 - the base class asks for these names

    def _pass_on(self, body: bytes, fault: str | None) -> None:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            data = answer.read()
        finally:
            upstream.close()
        headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP]
        told = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        self._send(answer.status, headers, data, fault, int(told) if told else None)

    def _send(
        self,
        status: int,
        headers: list[tuple[str, str]],
        data: bytes,
        fault: str | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "flipped" and data:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        if fault in ("truncated", "stalled"):
            self.wfile.write(data[: int(len(data) * self.server.torn_at)])
            self.wfile.flush()
            if fault == "stalled":
                self.server.closing.wait(self.server.silence_s)
            self.close_connection = True
        elif fault == "slow":
            step = max(1, len(data) // 20)
            for start in range(0, len(data), step):
                self.wfile.write(data[start : start + step])
                self.wfile.flush()
                self.server.closing.wait(self.server.drop_s)
        else:
            self.wfile.write(data)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


@contextmanager
def flaky_s3(
    upstream: str, plan: Plan = lambda *_: None, silence_s: float = 30.0, drop_s: float = 0.02
) -> Iterator[FlakyS3]:
    server = FlakyS3(upstream, plan, silence_s, drop_s)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def now_and_then(
    share: float, seed: int, faults: tuple[str, ...] = FAULTS, methods: str = "GET HEAD"
) -> Plan:
    """That share of the requests fails, by chance of a seed."""
    chance = random.Random(seed)

    def plan(method: str, path: str, number: int) -> str | None:
        return chance.choice(faults) if method in methods.split() and chance.random() < share else None

    return plan


def always(fault: str, method: str = "GET") -> Plan:
    return lambda asked, path, number: fault if asked == method else None
