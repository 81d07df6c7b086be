"""Spans as OpenTelemetry's SDK records them, sent as OTLP over HTTP (for tracing.py, which decides what is recorded).

A span that has ended waits in a bounded queue; a thread of its own sends what waits once a second. Nobody waits for it:
a receiver that is away, hangs or refuses costs the spans that do not fit, which are counted, and a log line a minute.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from cosygate import __version__
from cosygate.kit import metrics, tracing
from cosygate.kit.logs import logger
from cosygate.kit.tracing import Kind, Parent, Value

_log = logger()
QUEUE_MAX = 4096  # spans that wait; about 10 MB
_BATCH = 512
_EVERY_S = 1.0
_TRY_S = 5.0  # how long one batch is tried, repeats included
_SAY_EVERY_S = 60.0
_WHY_MAX = 200
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NO_STATE = TraceState()


class Recorder:
    """tracing.Recorder."""

    def __init__(self, endpoint: str, ratio: float, *, service: str, instance: str) -> None:
        self._bound = round(ratio * (1 << 64))
        self._ids = _Ids()
        told = {
            "service.name": service,
            "service.version": __version__,
            "service.instance.id": f"{platform.node()}/{instance}",
        }
        self._outbox = _Outbox(OTLPSpanExporter(traces_url(endpoint), timeout=_TRY_S))
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # what is not sampled never comes here
            resource=Resource.create(told),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._outbox)
        self._tracer = provider.get_tracer("cosygate", __version__)

    def samples(self, trace_id: str) -> bool:
        """By the lower half of the trace's id, as OpenTelemetry's TraceIdRatioBased: everybody decides the same."""
        return int(trace_id[16:], 16) < self._bound

    def begin(self, name: str, kind: Kind, trace_id: str, parent: Parent | None) -> tracing.Span:
        above = Context()
        if parent is not None:
            state = TraceState.from_header([parent.state]) if parent.state else _NO_STATE
            context = SpanContext(
                int(parent.trace_id, 16),
                int(parent.span_id, 16),
                is_remote=True,
                trace_flags=_SAMPLED,
                trace_state=state,
            )
            above = set_span_in_context(NonRecordingSpan(context), above)
        self._ids.trace_id = int(trace_id, 16)
        return _Recorded(self._tracer.start_span(name, above, SpanKind[kind.name]))

    def stop(self, within_s: float) -> None:
        self._outbox.stop(within_s)


def traces_url(endpoint: str) -> str:
    """Where traces go at an endpoint (OTLP specification, "Endpoint URLs for OTLP/HTTP")."""
    base = endpoint.rstrip("/")
    return base if base.endswith("/v1/traces") else f"{base}/v1/traces"


class _Ids(IdGenerator):
    """A trace's id is known before its first span: it is in the response and in log lines."""

    def __init__(self) -> None:
        self.trace_id = 0
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self._random.generate_span_id()


class _Recorded(tracing.Span):
    __slots__ = ("_span", "_token", "_told", "span_id", "state", "trace_id")
    recorded = True

    def __init__(self, span: OtelSpan) -> None:
        self._span = span
        self._token: Token[tracing.Span] | None = None
        self._told = False  # how it ended
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.span_id = f"{context.span_id:016x}"
        self.state = context.trace_state.to_header() if context.trace_state else ""

    def __enter__(self) -> Self:
        self._token = tracing.enter(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._token is not None:
            tracing.leave(self._token)
        if error is not None and not self._told:
            self.failed("cancelled" if isinstance(error, CancelledError) else _code(error))
        self._span.end()

    def set(self, attributes: Mapping[str, Value | None], *, name: str = "") -> None:
        for key, value in attributes.items():
            if value is not None:
                self._span.set_attribute(key, value)
        if name:
            self._span.update_name(name)

    def failed(self, code: str) -> None:
        self._told = True
        self._span.set_attribute("error.type", code)
        if code != "cancelled":  # that is nobody's fault
            self._span.set_status(Status(StatusCode.ERROR))

    def link(self, trace_id: str, span_id: str) -> None:
        if span_id:
            context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=_SAMPLED)
            self._span.add_link(context)


def _code(error: BaseException) -> str:
    code = getattr(error, "code", None)
    return code if isinstance(code, str) else type(error).__name__


class _Outbox(SpanProcessor):
    """What waits to be sent, and the thread that sends it."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._waiting: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._ending = False
        self._lost = 0  # since it was last told
        self._said_at = float("-inf")
        self._why = _Why()
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        if len(self._waiting) >= QUEUE_MAX:
            self._lose(1, "queue_full")
            return
        self._waiting.append(span)
        if len(self._waiting) >= _BATCH:
            self._wake.set()

    def stop(self, within_s: float) -> None:
        self._ending = True
        self._wake.set()
        self._thread.join(within_s)
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._ending:
            self._wake.wait(_EVERY_S)
            self._wake.clear()
            self._send()
        self._send()

    def _send(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                sent = self._exporter.export(batch) is SpanExportResult.SUCCESS
            except Exception as error:  # whatever it is: a thread that gave up would lose all that comes
                self._why.last = type(error).__name__
                sent = False
            if not sent:
                self._lose(len(batch), "not_delivered")
        self._tell()

    def _lose(self, count: int, reason: str) -> None:
        metrics.spans_dropped.labels(reason).inc(count)
        self._lost += count

    def _tell(self) -> None:
        now = time.monotonic()
        if self._lost and now - self._said_at >= _SAY_EVERY_S:
            self._said_at = now
            lost, self._lost = self._lost, 0
            _log.warning("tracing.lost", spans=lost, why=self._why.last)


class _Why(logging.Handler):
    """What OpenTelemetry has to say goes no further than here: a line a minute tells the last of it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        theirs = logging.getLogger("opentelemetry")
        theirs.handlers[:] = [self]
        theirs.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()[:_WHY_MAX]
