"""A worker's /health and /metrics over HTTP, from threads of the process that looks after the others."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET6

from cosygate.kit.networks import MetricsDoor
from cosygate.serve import CannotStart

_AT_ONCE = 16  # connections; what comes beyond them is closed unanswered
_SLOW_S = 5.0  # without a byte


@contextlib.contextmanager
def telling(
    where: tuple[str, int], door: MetricsDoor, metrics_dir: Path, health: Callable[[], dict[str, int]]
) -> Iterator[None]:
    """While the body runs. `health` tells `processes`, how many are `running` (all of them, or 503), and more. Metrics
    are for those whom `door` lets in. Raises CannotStart."""
    from cosygate.kit.metrics import exposition  # imported here: it loads what this process otherwise does without

    class Answers(BaseHTTPRequestHandler):
        timeout = _SLOW_S
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            if self.path == "/health":
                told = health()
                self._answer(200 if told["running"] == told["processes"] else 503, json.dumps(told).encode())
            elif self.path != "/metrics":
                self._answer(404)
            elif door.open_to(str(self.client_address[0])) and "X-Forwarded-For" not in self.headers:
                self._answer(200, exposition(str(metrics_dir)), "text/plain; version=0.0.4; charset=utf-8")
            else:
                self._answer(401)

        def _answer(self, status: int, body: bytes = b"", kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass  # its lines are no JSON

    try:
        server = _Bounded(where, Answers)
    except OSError as error:
        raise CannotStart(f"cannot listen on {where[0]} port {where[1]}: {error.strerror}") from None
    thread = threading.Thread(target=server.serve_forever, name="telling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Bounded(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, where: tuple[str, int], answers: type[BaseHTTPRequestHandler]) -> None:
        if ":" in where[0]:
            self.address_family = AF_INET6
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(where, answers)

    def process_request(self, request: object, client_address: object) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)  # type: ignore[arg-type]  # a socket, and its address
        else:
            self.shutdown_request(request)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that left in the middle: nobody is to be told."""
