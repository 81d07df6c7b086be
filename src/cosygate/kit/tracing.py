"""Spans: what a request, a job or an engine call was part of, and how long it took (docs/tracing.md).

    request ─► job (its row keeps trace_id and span_id) ─► engine call ─► the engine's own span
                                                    └────► webhook

Until `start` is told where spans go, and in traces that are not sampled, everything here does nothing, at the cost of a
call, and nothing of OpenTelemetry is loaded. What records and sends is otlp.py. For the event loop's thread.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

Value = str | int | float | bool
_STATE_MAX = 512  # characters; a longer tracestate is not handed on (W3C Trace Context §3.3.1.5)
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")  # §3.2
_NAMES = frozenset({b"traceparent", "traceparent", b"tracestate", "tracestate"})


class Kind(StrEnum):
    """Of a span, as OpenTelemetry has them."""

    INTERNAL = "internal"
    SERVER = "server"  # answers somebody
    CLIENT = "client"  # waits for somebody's answer
    CONSUMER = "consumer"  # does what was queued


@dataclass(frozen=True, slots=True)
class Parent:
    """A span somewhere else, which others continue."""

    trace_id: str  # 32 lower-case hex digits
    span_id: str  # 16
    sampled: bool
    state: str = ""  # its tracestate, handed on as it came


class Span:
    """One that nobody records. As a context it is the current one: spans that begin within are its children."""

    __slots__ = ()
    recorded = False
    trace_id = span_id = state = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Ends it, as failed when an exception passes: of that, its code or its class is told, never its words."""

    def set(self, attributes: Mapping[str, Value | None], *, name: str = "") -> None:
        """What it was about; docs/tracing.md lists them. Never text, a file's name, a token. None: not known."""

    def failed(self, code: str) -> None:
        """It has, with this stable code."""

    def link(self, trace_id: str, span_id: str) -> None:
        """Names a span of another trace that belongs to it."""


class Recorder(Protocol):
    """otlp.Recorder."""

    def samples(self, trace_id: str) -> bool:
        """Whether a trace that nobody has decided about is recorded."""

    def begin(self, name: str, kind: Kind, trace_id: str, parent: Parent | None) -> Span:
        """A span that is recorded: a child of `parent`, or the first of its trace."""

    def stop(self, within_s: float) -> None:
        """Sends what waits, for so long at most."""


NOTHING = Span()
_current: ContextVar[Span] = ContextVar("span", default=NOTHING)
_recorder: Recorder | None = None


def start(endpoint: str, ratio: float, *, service: str, instance: str) -> None:
    """From now on spans are recorded and sent to `endpoint` (a URL, OTLP over HTTP; empty: none are). `ratio`: the
    share of traces that no caller has decided about. Once per process."""
    global _recorder
    if endpoint and os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
        # Imported here: a process that traces nothing is spared all of it.
        from cosygate.kit.otlp import Recorder as Otlp

        _recorder = Otlp(endpoint, ratio, service=service, instance=instance)


def stop(within_s: float = 2.0) -> None:
    """Sends what waits, and waits for no longer than that."""
    global _recorder
    recorder, _recorder = _recorder, None
    if recorder is not None:
        recorder.stop(within_s)


def current() -> Span:
    return _current.get()


def enter(span: Span) -> Token[Span]:
    """Makes it the current one (for otlp.py)."""
    return _current.set(span)


def leave(token: Token[Span]) -> None:
    _current.reset(token)


def begin(name: str, kind: Kind, trace_id: str, parent: Parent | None) -> Span:
    """The first span of this process in a trace: the caller's flag decides whether it is recorded, else the ratio."""
    if _recorder is None or not (_recorder.samples(trace_id) if parent is None else parent.sampled):
        return NOTHING
    return _recorder.begin(name, kind, trace_id, parent)


def span(name: str, kind: Kind = Kind.INTERNAL) -> Span:
    """A child of the current one; nothing where that is not recorded."""
    if _recorder is None:
        return NOTHING
    above = _current.get()
    if not above.recorded:
        return NOTHING
    return _recorder.begin(name, kind, above.trace_id, Parent(above.trace_id, above.span_id, True, above.state))


def continued(name: str, kind: Kind, trace_id: str, span_id: str) -> Span:
    """A child of a span that was stored, with a job or a session. `span_id` is empty where that was not recorded."""
    if _recorder is None or not span_id:
        return NOTHING
    return _recorder.begin(name, kind, trace_id, Parent(trace_id, span_id, True))


def incoming(headers: Iterable[tuple[bytes | str, bytes | str]]) -> Parent | None:
    """What the caller's headers (lower-case names) continue; None when they say nothing, or nothing valid."""
    told: list[str] = []
    states: list[str] = []
    for name, value in headers:
        if name in _NAMES:  # of dozens, at most two are
            values = told if len(name) == len("traceparent") else states
            values.append(value.decode("latin-1") if isinstance(value, bytes) else value)
    match = _TRACEPARENT.fullmatch(told[0]) if len(told) == 1 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    state = ",".join(states)
    return Parent(trace_id, span_id, bool(int(flags, 16) & 1), state if len(state) <= _STATE_MAX else "")


def outgoing(trace_id: str) -> dict[str, str]:
    """Headers for a call to somebody else, so that it continues the current span; where that is not recorded, they
    still carry `trace_id`, for log lines. Empty without one."""
    above = _current.get()
    if above.recorded:
        headers = {"traceparent": f"00-{above.trace_id}-{above.span_id}-01"}
        return headers | {"tracestate": above.state} if above.state else headers
    if not trace_id:
        return {}
    return {"traceparent": f"00-{trace_id}-{random.getrandbits(64) or 1:016x}-00"}
