"""The outermost layer, pure ASGI: a trace id in every response, one log line and one metric a request, the security
headers, and an answer even when something crashed or the body was not read to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from time import perf_counter
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cosygate import errors
from cosygate.api.addresses import Proxies
from cosygate.api.problems import problem
from cosygate.kit import metrics, tracing
from cosygate.kit.clock import Randomness
from cosygate.kit.logs import bound, logger

_log = logger()
_QUIET = frozenset({"/health", "/readyz", "/metrics"})  # asked every few seconds: logged only when they fail
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:{media}; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _policy(media: str) -> bytes:
    """`media`: an address from whose origin recordings may be played, too; or nothing."""
    there = urlsplit(media)
    return _CSP.format(media=f" {there.scheme}://{there.netloc}" if media else "").encode()


_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"microphone=(self), camera=(), geolocation=()"),
]
# A body that is still coming when its answer is known already. A small one is read, and the connection lives on. For
# others the answer goes out at once, and what still comes is read and thrown away for a moment: closed earlier, the
# client would get a reset instead of the answer (RFC 9112 §9.6).
_SMALL_BYTES = 64 * 1024
_LINGER_S = 1.0
_AT_ONCE = frozenset({429, 503})  # under load: no connection is kept busy with what is refused anyway


class Edge:
    def __init__(self, app: ASGIApp, randomness: Randomness, slow_s: float, proxies: Proxies, media: str = "") -> None:
        """`slow_s`: a request that takes longer is logged as slow. `proxies`: whose X-Forwarded-Proto is believed.
        `media`: where recordings are fetched from, if not here."""
        self._headers = [*_HEADERS, (b"content-security-policy", _policy(media))]
        self._app = app
        self._randomness = randomness
        self._slow_s = slow_s
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["scheme"] = self._proxies.scheme(scope)  # cookies are Secure, and HSTS is told, behind a proxy as well
        parent = tracing.incoming(scope["headers"])
        trace_id = parent.trace_id if parent else self._randomness.trace_id()
        exchange = _Exchange(scope, receive, send, trace_id, self._slow_s, self._headers)
        with bound(trace_id=trace_id), _span(scope["path"], trace_id, parent):
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except ClientDisconnect:
                exchange.left()
            except Exception:
                await exchange.crashed()
            finally:
                exchange.record()


def _span(path: str, trace_id: str, parent: tracing.Parent | None) -> tracing.Span:
    if path in _QUIET:
        return tracing.NOTHING
    return tracing.begin("HTTP", tracing.Kind.SERVER, trace_id, parent)


class _Exchange:
    """One request and its response, as seen at the edge."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        trace_id: str,
        slow_s: float,
        headers: Sequence[tuple[bytes, bytes]],
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self.trace_id = scope["trace_id"] = trace_id
        self._slow_s = slow_s
        self._headers = headers
        self._began = perf_counter()
        self._status = 0
        self._body_begun = False
        self._body_over = False
        self._lingers = False  # the answer goes out before the body has come
        self._answered = 0.0
        self._goes_on = False  # as long as its client likes: server-sent events
        self._body_s = 0.0  # waited for the body, and for the answer to be taken
        self._answer_s = 0.0

    async def receive(self) -> Message:
        self._body_begun = True
        began = 0.0 if self._body_over or self._answered else perf_counter()
        try:
            message = await self._receive()
        finally:
            if began:
                self._body_s += perf_counter() - began
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_over = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = message["headers"] = [*message.get("headers", ()), *self._headers]
            headers.append((b"x-trace-id", self.trace_id.encode()))
            self._goes_on = any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in headers)
            if self._scope["scheme"] == "https":
                headers.append((b"strict-transport-security", b"max-age=31536000"))
            if self._scope["path"].startswith("/v1/") and not any(name == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))  # what one caller may see is no proxy's to keep
            if not self._body_over:
                await self._part_with_body()
                if not self._body_over:
                    headers.append((b"connection", b"close"))
            await self._hand_on(message)
        elif self._lingers and not message.get("more_body", False):
            self._answered = perf_counter()
            await self._send({**message, "more_body": True})  # the answer is complete: it has a length
            await self._throw_away()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._hand_on(message)

    async def _hand_on(self, message: Message) -> None:
        began = perf_counter()
        try:
            await self._send(message)
        finally:
            self._answer_s += perf_counter() - began

    async def _part_with_body(self) -> None:
        """Before an answer that does not wait for it. What comes of it after the answer would be nobody's to bound, so
        the connection ends then, unless the body has."""
        if self._status == errors.BodyStalled.status:
            return  # it has been waited for already
        headers = dict(self._scope["headers"])
        if b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0":
            self._body_over = True  # there is none, and the connection lives on
            return
        if not self._body_begun and b"expect" in headers:
            return  # it waits for our word before it sends anything (RFC 9110 §10.1.1): this answer is it
        declared = headers.get(b"content-length", b"")
        small = self._status not in _AT_ONCE and declared.isdigit() and int(declared) <= _SMALL_BYTES
        if small or self._status < 400:
            await self._throw_away()
        else:
            self._lingers = True

    async def _throw_away(self) -> None:
        """The rest of the body, for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while not self._body_over:
                    await self.receive()

    def left(self) -> None:
        """The client has, in the middle of its body: recorded as 499. (The framework took it for a crash, and has
        answered 500 to nobody.)"""
        if self._status == errors.CosyGateError.status:
            self._status = 0

    async def crashed(self) -> None:
        _log.exception("http.crashed", route=self._route(), **self._caller())
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
        metrics.requests.labels(metrics.method(self._scope["method"]), status, route).inc()
        metrics.request_seconds.labels(route).observe(spent)
        span = tracing.current()
        if span.recorded:
            self._describe(span, route, status)
        told = {
            "method": self._scope["method"],
            "route": route,
            "status": status,
            **self._caller(),
            "cost_ms": _ms(spent),
        }
        if route not in _QUIET or status >= 400:
            _log.info("http.request", **told)
        if spent > self._slow_s and not self._goes_on:
            handler_s = max(0.0, spent - self._body_s - self._answer_s)
            where = {"body_ms": _ms(self._body_s), "handler_ms": _ms(handler_s), "answer_ms": _ms(self._answer_s)}
            _log.warning("http.slow", **told, **where)

    def _caller(self) -> dict[str, str | None]:
        caller = self._scope.get("caller")
        return {"user_id": caller.subject if caller else None, "tenant": caller.tenant if caller else None}

    def _describe(self, span: tracing.Span, route: str, status: int) -> None:
        method = self._scope["method"]
        about: dict[str, tracing.Value | None] = {"http.request.method": method, "http.route": route}
        span.set(about | {"http.response.status_code": status}, name=f"{method} {route}")
        if status >= 500:
            span.failed(str(status))
        elif status == 499:
            span.failed("cancelled")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
