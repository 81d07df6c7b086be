"""The outermost layer, pure ASGI: a trace id in every response, one log line and one metric a request, the security
headers, and an answer even when something crashed or the body was not read to its end."""

from __future__ import annotations

import asyncio
import contextlib
import re
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cosygate import errors
from cosygate.api.problems import problem
from cosygate.kit import metrics
from cosygate.kit.clock import Randomness
from cosygate.kit.logs import bound, logger

_log = logger()
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context §3.2
_QUIET = frozenset({"/health", "/readyz", "/metrics"})  # asked every few seconds: logged only when they fail
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"microphone=(self), camera=(), geolocation=()"),
    (b"content-security-policy", _CSP.encode()),
]
# A body that is still coming when its answer is known already. A small one is read, and the connection lives on. For
# others the answer goes out at once, and what still comes is read and thrown away for a moment: closed earlier, the
# client would get a reset instead of the answer (RFC 9112 §9.6).
_SMALL_BYTES = 64 * 1024
_LINGER_S = 1.0
_AT_ONCE = frozenset({429, 503})  # under load: no connection is kept busy with what is refused anyway


def trace_id_of(headers: list[tuple[bytes, bytes]], randomness: Randomness) -> str:
    """Continues a valid `traceparent`, else begins a new trace: 32 lower-case hex digits."""
    for name, value in headers:
        if name == b"traceparent":
            match = _TRACEPARENT.fullmatch(value)
            if match and match[1] != b"0" * 32 and not value.startswith(b"ff"):
                return match[1].decode()
    return randomness.trace_id()


class Edge:
    def __init__(self, app: ASGIApp, randomness: Randomness) -> None:
        self._app = app
        self._randomness = randomness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, trace_id_of(scope["headers"], self._randomness))
        with bound(trace_id=exchange.trace_id):
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except ClientDisconnect:
                pass  # nobody is there to be answered; recorded as 499
            except Exception:
                await exchange.crashed()
            finally:
                exchange.record()


class _Exchange:
    """One request and its response, as seen at the edge."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, trace_id: str) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self.trace_id = scope["trace_id"] = trace_id
        self._began = perf_counter()
        self._status = 0
        self._body_begun = False
        self._body_over = False
        self._lingers = False  # the answer goes out before the body has come
        self._answered = 0.0

    async def receive(self) -> Message:
        self._body_begun = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_over = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = message["headers"] = [*message.get("headers", ()), *_HEADERS]
            headers.append((b"x-trace-id", self.trace_id.encode()))
            if self._scope["scheme"] == "https":
                headers.append((b"strict-transport-security", b"max-age=31536000"))
            if self._scope["path"].startswith("/v1/") and not any(name == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))  # what one caller may see is no proxy's to keep
            if self._status >= 400 and not self._body_over:
                await self._part_with_body()
                if not self._body_over:
                    headers.append((b"connection", b"close"))
            await self._send(message)
        elif self._lingers and not message.get("more_body", False):
            self._answered = perf_counter()
            await self._send(message | {"more_body": True})  # the answer is complete: it has a length
            await self._throw_away()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._send(message)

    async def _part_with_body(self) -> None:
        """Before an early answer."""
        if self._status == errors.BodyStalled.status:
            return  # it has been waited for already
        headers = dict(self._scope["headers"])
        if not self._body_begun and b"expect" in headers:
            return  # it waits for our word before it sends anything (RFC 9110 §10.1.1): this answer is it
        declared = headers.get(b"content-length", b"")
        if self._status not in _AT_ONCE and declared.isdigit() and int(declared) <= _SMALL_BYTES:
            await self._throw_away()
        else:
            self._lingers = True

    async def _throw_away(self) -> None:
        """The rest of the body, for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while not self._body_over:
                    await self.receive()

    async def crashed(self) -> None:
        _log.exception("http.crashed", route=self._route())
        if not self._status:
            response = problem(errors.CosyGateError(), self.trace_id)
            await response(self._scope, self.receive, self.send)

    def _route(self) -> str:
        """The route's template, never the path: a path would make as many series as there are tasks."""
        route = self._scope.get("route")
        return str(getattr(route, "path", "")) or "unmatched"

    def record(self) -> None:
        route, status = self._route(), self._status or 499  # 499: the client left before an answer
        spent = (self._answered or perf_counter()) - self._began
        metrics.requests.labels(self._scope["method"], status, route).inc()
        metrics.request_seconds.labels(route).observe(spent)
        if route in _QUIET and status < 400:
            return
        caller = self._scope.get("caller")
        _log.info(
            "http.request",
            method=self._scope["method"],
            route=route,
            status=status,
            user_id=caller.subject if caller else None,
            tenant=caller.tenant if caller else None,
            cost_ms=round(spent * 1000, 1),
        )
