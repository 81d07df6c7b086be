"""A receiver of webhooks: a real HTTP server on a local port, with or without TLS, that behaves as a test says."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from standardwebhooks import Webhook

from tests.support.faults import wait_for


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    peer: str  # the address that it came from

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """The payload, if the signature is the secret's. Raises WebhookVerificationError."""
        found: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return found


Behaviour = Callable[[BaseHTTPRequestHandler, Call], None]


def answers(status: int, **headers: str) -> Behaviour:
    def behave(handler: BaseHTTPRequestHandler, _: Call) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", "0")
        handler.end_headers()

    return behave


class Receiver:
    """Listens while it is a context. `behaviour` may be changed at any time, or set for one path alone in `at`."""

    def __init__(self, behaviour: Behaviour | None = None, *, tls: ssl.SSLContext | None = None,
                 host: str = "127.0.0.1", port: int = 0) -> None:  # fmt: skip
        self.calls: list[Call] = []
        self.behaviour = behaviour or answers(204)
        self.at: dict[str, Behaviour] = {}
        self.let_go = threading.Event()
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.close_connection = True
                body = self.rfile.read(int(self.headers["content-length"]))
                call = Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body, self.client_address[0])
                receiver._serve(self, call)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass  # the gateway went away: that is what some tests are about

        self._server = Server((host, port), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._host = f"[{host}]" if ":" in host else host
        self._scheme = "https" if tls is not None else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self._host}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: TracebackType | object) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, count: int = 1, path: str | None = None, timeout_s: float = 20.0) -> list[Call]:
        """The calls (to `path`) once there are so many."""
        return wait_for(
            lambda: found if len(found := [c for c in self.calls if path in (None, c.path)]) >= count else None,
            f"{count} webhooks, of which there are {len(self.calls)}",
            timeout_s,
        )

    def _serve(self, handler: BaseHTTPRequestHandler, call: Call) -> None:
        with self._lock:
            self.calls.append(call)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.at.get(call.path, self.behaviour)(handler, call)
        except OSError:
            pass
        finally:
            with self._lock:
                self._at_once -= 1

    # --- behaviours -------------------------------------------------------------------------------------------------

    def never(self, handler: BaseHTTPRequestHandler, _: Call) -> None:
        """Takes the request and says nothing."""
        self.let_go.wait(60)

    def drips(self, handler: BaseHTTPRequestHandler, _: Call) -> None:
        """A byte of the answer's head now and then, for ever."""
        for byte in b"HTTP/1.1 200 OK\r\n" + b"x-slow: " + b"." * 10_000:
            handler.wfile.write(bytes([byte]))
            if self.let_go.wait(0.05):
                return

    def floods(self, handler: BaseHTTPRequestHandler, _: Call) -> None:
        """200 with a gigabyte; how much went out is in `sent`."""
        self.sent = 0
        handler.send_response(200)
        handler.send_header("content-length", str(1 << 30))
        handler.end_headers()
        piece = bytes(1 << 16)
        while self.sent < 1 << 30 and not self.let_go.is_set():
            handler.wfile.write(piece)
            self.sent += len(piece)


def certificate(folder: Path, *names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server that is called one of `names` (DNS:… or IP:…), and for a client that trusts it."""
    key, cert = folder / "receiver.key", folder / "receiver.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=receiver", "-addext", f"subjectAltName={','.join(names)}", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=str(cert))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def soon(look: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
