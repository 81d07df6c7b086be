"""A receiver of traces as a collector is one: OTLP over HTTP, protobuf, on a local port. It keeps what it was sent."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.faults import wait_for


@dataclass(frozen=True)
class Span:
    """One span as it arrived."""

    name: str
    kind: int  # 1 internal, 2 server, 3 client, 5 consumer
    trace_id: str
    span_id: str
    parent_id: str  # empty: the first of its trace
    state: str  # tracestate
    began_ns: int
    ended_ns: int
    failed: bool
    service: str
    instance: str
    attributes: dict[str, Any] = field(default_factory=dict)
    links: tuple[tuple[str, str], ...] = ()  # trace and span


class Receiver:
    """Listens while it is a context. `answer` is the status of its answers; `hang` makes it give none."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw = b""  # all that came, for those who look for what must not be in there
        self.headers: list[dict[str, str]] = []
        self.answer = 200
        self.hang = threading.Event()
        self._let_go = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if receiver.hang.is_set():
                    receiver._let_go.wait(60)
                    self.close_connection = True
                    return
                receiver._take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                told = ExportTraceServiceResponse().SerializeToString()
                self.send_response(receiver.answer)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: TracebackType | object) -> None:
        self._let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def of(self, trace_id: str) -> list[Span]:
        return sorted((s for s in self.spans if s.trace_id == trace_id), key=lambda s: s.began_ns)

    def wait(self, trace_id: str, count: int, timeout_s: float = 15.0) -> list[Span]:
        """The spans of a trace once there are so many."""
        return wait_for(
            lambda: spans if len(spans := self.of(trace_id)) >= count else None,
            f"{count} spans of {trace_id}, of which there are {[s.name for s in self.of(trace_id)]}",
            timeout_s,
        )

    def wait_for(self, wanted: Callable[[Span], bool], timeout_s: float = 15.0) -> Span:
        return wait_for(lambda: next((s for s in self.spans if wanted(s)), None), "a span", timeout_s)

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        assert path == "/v1/traces" and headers["content-type"] == "application/x-protobuf"
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.raw += body
        self.headers.append(headers)
        if self.answer != 200:
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            whose = {a.key: _value(a.value) for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_span(span, whose) for span in scope.spans]


def _span(span: Any, whose: dict[str, Any]) -> Span:
    return Span(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        failed=span.status.code == 2,
        service=whose["service.name"],
        instance=whose["service.instance.id"],
        attributes={a.key: _value(a.value) for a in span.attributes},
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
    )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
