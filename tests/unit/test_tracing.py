"""Spans: what is continued and what is not, what recording costs when it is off, and that a receiver which is away,
hangs or refuses costs spans alone. The receiver is a real one (tests/support/otlp_receiver.py)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from cosygate.kit import metrics, otlp, tracing
from cosygate.kit.tracing import Kind, Parent
from tests.support.faults import wait_for
from tests.support.otlp_receiver import Receiver

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening
        tracing.stop(1.0)
    wait_for(lambda: not _senders(), "the thread that sends ends")


def start(receiver: Receiver, ratio: float = 1.0) -> None:
    tracing.start(receiver.url, ratio, service="test", instance="one")


def _senders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "spans"]


def dropped(reason: str) -> float:
    return metrics.spans_dropped.labels(reason)._value.get()


def finish(count: int) -> None:
    for _ in range(count):
        with tracing.begin("x", Kind.SERVER, TRACE, None):
            pass


# --- what callers say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),  # version 2 of the specification: its id is random, too
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"01-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_valid_traceparent_is_continued(value: str, sampled: bool) -> None:
    assert tracing.incoming([(b"traceparent", value.encode())]) == Parent(TRACE, SPAN, sampled)
    assert tracing.incoming([("traceparent", value)]) == Parent(TRACE, SPAN, sampled)  # gRPC's metadata are text


@pytest.mark.parametrize(
    "value",
    [
        "",
        "xyz",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
    ],
)
def test_an_invalid_one_is_not(value: str) -> None:
    assert tracing.incoming([(b"traceparent", value.encode())]) is None


def test_two_of_them_say_nothing() -> None:
    header = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
    assert tracing.incoming([header, header]) is None


def test_a_tracestate_goes_on_unless_it_is_long() -> None:
    header = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
    told = tracing.incoming([header, (b"tracestate", b"a=1"), (b"other", b"x"), (b"tracestate", b"b=2")])
    assert told is not None
    assert told.state == "a=1,b=2"
    told = tracing.incoming([header, (b"tracestate", b"a=" + b"x" * 600)])
    assert told is not None
    assert told.state == ""


# --- off ---------------------------------------------------------------------------------------------------------


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    code = """
import sys
from cosygate.kit import tracing
tracing.start("", 1.0, service="s", instance="i")
with tracing.begin("a", tracing.Kind.SERVER, "1" * 32, None) as span, tracing.span("b"):
    span.set({"x": 1}, name="c")
    span.failed("y")
assert not span.recorded and tracing.current() is tracing.NOTHING
tracing.stop()
print([name for name in sys.modules if name.startswith(("opentelemetry", "requests", "google"))])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_a_span_that_is_off_is_no_object_of_its_own() -> None:
    """The same one each time: nothing is made, so nothing is paid for."""
    assert tracing.begin("a", Kind.SERVER, TRACE, None) is tracing.NOTHING
    assert tracing.begin("a", Kind.SERVER, TRACE, Parent(TRACE, SPAN, True)) is tracing.NOTHING
    assert tracing.continued("a", Kind.CONSUMER, TRACE, SPAN) is tracing.NOTHING
    assert tracing.span("a") is tracing.NOTHING


def test_a_trace_id_travels_on_for_log_lines_but_asks_nobody_to_record() -> None:
    header = tracing.outgoing(TRACE)["traceparent"]
    assert tracing.incoming([("traceparent", header)]) == Parent(TRACE, header.split("-")[2], False)
    assert tracing.outgoing("") == {}


# --- who decides -------------------------------------------------------------------------------------------------


def test_the_callers_flag_decides_and_else_the_ratio(receiver: Receiver) -> None:
    start(receiver, ratio=0.25)
    low, high = "f" * 16 + "3fffffffffffffff", "0" * 16 + "4000000000000000"
    assert tracing.begin("a", Kind.SERVER, low, None).recorded
    assert not tracing.begin("a", Kind.SERVER, high, None).recorded
    assert tracing.begin("a", Kind.SERVER, high, Parent(high, SPAN, True)).recorded
    assert not tracing.begin("a", Kind.SERVER, low, Parent(low, SPAN, False)).recorded
    assert not tracing.continued("a", Kind.CONSUMER, low, "").recorded  # what it continues was not recorded


@pytest.mark.parametrize(("ratio", "all_of_them"), [(0.0, False), (1.0, True)])
def test_none_and_all(receiver: Receiver, ratio: float, all_of_them: bool) -> None:
    start(receiver, ratio)
    for trace_id in ("0" * 31 + "1", "f" * 32, TRACE):
        assert tracing.begin("a", Kind.SERVER, trace_id, None).recorded is all_of_them


# --- recorded ----------------------------------------------------------------------------------------------------


async def test_spans_form_a_tree_through_tasks_and_headers(receiver: Receiver) -> None:
    start(receiver)

    async def work() -> None:
        with tracing.span("task", Kind.INTERNAL) as span:
            span.set({"n": 3, "unknown": None})

    told = Parent(TRACE, SPAN, True, "a=1,b=2")
    with tracing.begin("HTTP", Kind.SERVER, TRACE, told) as first:
        assert tracing.current() is first
        first.set({"http.route": "/x"}, name="GET /x")
        await asyncio.create_task(work())
        with tracing.span("call", Kind.CLIENT) as call:
            sent = tracing.outgoing(TRACE)
    assert tracing.current() is tracing.NOTHING
    with tracing.continued("later", Kind.CONSUMER, TRACE, first.span_id) as later:
        later.link("1" * 32, "2" * 16)
        later.link("1" * 32, "")
    assert sent == {"traceparent": f"00-{TRACE}-{call.span_id}-01", "tracestate": "a=1,b=2"}
    await asyncio.to_thread(tracing.stop)
    by_name = {s.name: s for s in receiver.of(TRACE)}
    assert {name: (s.parent_id, s.kind) for name, s in by_name.items()} == {
        "GET /x": (SPAN, 2),
        "task": (first.span_id, 1),
        "call": (first.span_id, 3),
        "later": (first.span_id, 5),
    }
    assert by_name["task"].attributes == {"n": 3}
    assert by_name["call"].state == "a=1,b=2"
    assert by_name["later"].links == (("1" * 32, "2" * 16),)
    assert by_name["later"].service == "test"
    assert by_name["later"].instance.endswith("/one")


def test_of_an_exception_the_code_is_told_and_never_the_words(receiver: Receiver) -> None:
    start(receiver)

    class OurError(Exception):
        code = "engine_failed"

    for error in (ValueError("canary words"), OurError("canary words"), asyncio.CancelledError("canary words")):
        with pytest.raises(type(error)), tracing.begin("x", Kind.SERVER, TRACE, None):
            raise error
    with pytest.raises(ValueError, match="canary"), tracing.begin("x", Kind.SERVER, TRACE, None) as span:
        span.failed("known_before")
        raise ValueError("canary words")
    tracing.stop()
    spans = receiver.of(TRACE)
    assert [(s.attributes["error.type"], s.failed) for s in spans] == [
        ("ValueError", True),
        ("engine_failed", True),
        ("cancelled", False),
        ("known_before", True),
    ]
    assert b"canary" not in receiver.raw


def test_the_usual_variables_of_opentelemetry_add_headers(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x")
    start(receiver)
    finish(1)
    tracing.stop()
    assert receiver.headers[0]["authorization"] == "Bearer x"


@pytest.mark.parametrize("endpoint", ["http://h:4318", "http://h:4318/", "http://h:4318/v1/traces"])
def test_an_endpoint_is_a_base(endpoint: str) -> None:
    assert otlp.traces_url(endpoint) == "http://h:4318/v1/traces"


# --- a receiver in trouble ---------------------------------------------------------------------------------------


def test_what_does_not_fit_is_dropped_and_counted_and_nobody_waits(receiver: Receiver) -> None:
    receiver.hang.set()
    start(receiver)
    before = dropped("queue_full")
    finish(otlp.QUEUE_MAX + 2 * 512)  # one batch is on its way at most
    assert dropped("queue_full") - before >= 512
    began = time.monotonic()
    tracing.stop(0.3)
    assert time.monotonic() - began < 5  # it would be tried for longer


def test_what_is_refused_is_counted_and_told_once_a_minute(receiver: Receiver) -> None:
    receiver.answer = 400
    before = dropped("not_delivered")
    with capture_logs() as lines:
        start(receiver)
        finish(1)
        wait_for(lambda: receiver.headers, "a first try")
        finish(2)
        tracing.stop()
    assert dropped("not_delivered") - before == 3
    assert [line["event"] for line in lines] == ["tracing.lost"]
    assert "400" in lines[0]["why"]


def test_who_is_asked_to_come_back_later_does_not_wait_for_that_at_the_end(receiver: Receiver) -> None:
    receiver.answer = 503
    before = dropped("not_delivered")
    start(receiver)
    finish(3)
    began = time.monotonic()
    tracing.stop(0.2)
    wait_for(lambda: dropped("not_delivered") - before == 3, "the last batch is given up")
    assert time.monotonic() - began < 4  # it would be tried for five seconds


def test_a_receiver_that_comes_back_gets_what_comes_then(receiver: Receiver) -> None:
    start(receiver)
    receiver.answer = 400
    finish(1)
    wait_for(lambda: receiver.headers, "a first try")
    receiver.answer = 200
    finish(1)
    tracing.stop()
    assert len(receiver.spans) == 1


def test_at_the_end_what_waits_is_sent(receiver: Receiver) -> None:
    start(receiver)
    finish(3)
    tracing.stop()
    assert len(receiver.spans) == 3
    assert not _senders()
