"""A real HTTP server on a loopback port whose every answer a test decides, cut connections included."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # without the query
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Answer:
    """`cut` drops the connection instead of ending the answer: after the body, or at once without a status (0)."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


def ok(data: Mapping[str, Any], status: int = 200) -> Answer:
    return Answer(status, json.dumps(data).encode())


def problem(status: int, code: str, headers: Mapping[str, str] | None = None, **members: Any) -> Answer:
    body = {"type": "about:blank", "title": code, "status": status, "detail": f"about {code}", "code": code}
    return Answer(status, json.dumps({**body, "trace_id": "f" * 32, **members}).encode(), "application/problem+json",
                  headers or {})  # fmt: skip


def sse(events: list[tuple[int, str, dict[str, Any]]], *, cut: bool = False) -> Answer:
    text = "".join(f"id: {seq}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" for seq, kind, data in events)
    return Answer(200, ("retry: 1000\n\n: hello\n\n" + text).encode(), "text/event-stream", cut=cut)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in the middle of an answer is part of the tests."""


@contextmanager
def serving(answer: Callable[[Request], Answer]) -> Iterator[str]:
    """The server's address, until the block ends. `answer` runs in the server's threads."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 64 * 1024  # one write per answer: Nagle's delay between two would dominate every test

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            parts = urlsplit(self.path)
            query = {k: v[-1] for k, v in parse_qs(parts.query).items()}
            headers = {k.lower(): v for k, v in self.headers.items()}
            reply = answer(Request(self.command, parts.path, query, headers, body))
            if reply.status == 0:
                self.close_connection = True
                return
            self.send_response_only(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body) + reply.cut))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)
            self.close_connection = reply.cut

        do_GET = do_PUT = do_DELETE = do_POST = _any

        def log_message(self, *args: Any) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
