"""One trace across real processes: a request, the job that it made, the engine call, the engine's own work; and a live
session's few spans. They arrive at a real receiver (tests/support/otlp_receiver.py), and tell nothing of what was said.
"""

from __future__ import annotations

import base64
import json
import random
import re
import sqlite3
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from tests.support.faults import Victim, cut, recording, wait_for
from tests.support.otlp_receiver import Receiver, Span
from tests.support.server import wait_task

CALLER = "00f067aa0ba902b7"
ENGINE_SPAN = "cosygate.engine.v1.SpeechEngine/Recognize"
PUT = "PUT /v1/audio/{session_id}/{seq}"
ATTRIBUTES = {
    *("http.request.method", "http.route", "http.response.status_code", "error.type"),
    *("rpc.system", "rpc.grpc.status_code"),
    *("cosygate.task_id", "cosygate.attempt", "cosygate.state", "cosygate.audio_s", "cosygate.engine"),
    *("cosygate.outcome", "cosygate.close_code"),
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Victim]:
    script = {"texts": ["canary words"], "rules": [{"when": {"seconds": [1.2, 1.3]}, "do": "fail"}]}
    folder = tmp_path_factory.mktemp("traces") / "data"
    hooks = {"webhook_scheme": "any", "webhook_allow": "127.0.0.0/8"}
    with Victim(folder, script=script, otlp_endpoint=receiver.url, workers=2, **hooks) as running:
        yield running


def trace(number: int) -> str:
    return f"{number:032x}"


def parent(trace_id: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{CALLER}-{flags}", "tracestate": "caller=1"}


def send(http: httpx2.Client, name: str, data: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """In two chunks, with the same parent; the task once it has ended."""
    first, last = cut(data, 20_000)
    assert http.put(f"/v1/audio/{name}/0", content=first, headers=headers).status_code == 200
    answer = http.put(f"/v1/audio/{name}/1", content=last, params={"is_last": 1}, headers=headers)
    assert answer.headers["x-trace-id"] == headers["traceparent"].split("-")[1]
    return wait_task(http, answer.json()["task_id"])


def tree(spans: list[Span]) -> dict[str, list[str]]:
    """name → names of its children, from the caller's span on."""
    names = {CALLER: "caller"} | {span.span_id: span.name for span in spans}
    found: dict[str, list[str]] = {}
    for span in spans:
        found.setdefault(names[span.parent_id], []).append(span.name)
    return found


def test_an_upload_is_one_tree_over_three_processes(server: Victim, receiver: Receiver) -> None:
    with server.http() as http:
        task = send(http, "canary-name", recording(1), parent(trace(1)))
    spans = receiver.wait(trace(1), 5)
    assert tree(spans) == {
        "caller": [PUT, PUT],
        PUT: ["task.run"],
        "task.run": ["engine.call"],
        "engine.call": [ENGINE_SPAN],
    }
    first, second, run, call, engine = spans
    assert run.parent_id == second.span_id
    assert [(s.service, s.kind) for s in spans] == [
        *[("cosygate-gateway", 2)] * 2, ("cosygate-gateway", 5), ("cosygate-gateway", 3), ("cosygate-engine", 2)
    ]  # fmt: skip
    assert first.state == second.state == "caller=1"
    assert "cosygate.task_id" not in first.attributes
    assert second.attributes == {
        "http.request.method": "PUT",
        "http.route": "/v1/audio/{session_id}/{seq}",
        "http.response.status_code": 202,
        "cosygate.task_id": task["task_id"],
    }
    assert run.attributes == {
        "cosygate.task_id": task["task_id"],
        "cosygate.attempt": 0,
        "cosygate.audio_s": 2.0,
        "cosygate.state": "succeeded",
    }
    assert call.attributes == {"cosygate.outcome": "ok", "cosygate.engine": "scripted", "cosygate.audio_s": 2.0}
    assert engine.attributes["rpc.grpc.status_code"] == 0
    assert call.began_ns <= engine.began_ns
    assert run.began_ns <= call.began_ns <= call.ended_ns <= run.ended_ns


def test_every_log_line_of_it_has_the_same_trace_id(server: Victim) -> None:
    with server.http() as http:
        send(http, "lines", recording(2), parent(trace(2)))
    lines = [json.loads(line) for line in server.log().splitlines()]
    actions = [line["action"] for line in lines if line.get("trace_id") == trace(2)]
    assert sorted(actions) == sorted(
        ["http.request", "http.request", "task.started", "engine.call", "engine.call", "task.finished"]
    )


def test_an_unsampled_caller_gets_no_span_anywhere(server: Victim, receiver: Receiver) -> None:
    with server.http() as http:
        send(http, "unsampled", recording(3), parent(trace(3), flags="00"))
        send(http, "sampled", recording(4), parent(trace(4)))
    receiver.wait(trace(4), 5)  # whatever came before it has been sent by now, from every process
    assert receiver.of(trace(3)) == []


def test_a_failure_is_told_by_its_code(server: Victim, receiver: Receiver) -> None:
    with server.http() as http:
        task = send(http, "fails", recording(5, 1.25), parent(trace(5)))
    assert task["state"] == "failed"
    spans = receiver.wait(trace(5), 2 + 3 * 3)
    assert all(span.failed for span in spans if span.name != PUT)
    assert {s.attributes["error.type"] for s in spans if s.name == ENGINE_SPAN} == {"INTERNAL"}
    assert {s.attributes["error.type"] for s in spans if s.name == "engine.call"} == {"engine_failed"}
    runs = [s for s in spans if s.name == "task.run"]
    assert [s.attributes["cosygate.attempt"] for s in runs] == [0, 1, 2]
    assert [s.attributes.get("cosygate.state") for s in runs] == [None, None, "failed"]


def test_a_refusal_is_no_failure_of_ours(server: Victim, receiver: Receiver) -> None:
    with server.http() as http:
        assert http.get("/v1/task/canary-name", headers=parent(trace(6))).status_code == 404
    [span] = receiver.wait(trace(6), 1)
    assert not span.failed
    assert span.attributes["http.route"] == "/v1/task/{task_id}"


def test_questions_of_load_balancers_are_no_traces(server: Victim, receiver: Receiver) -> None:
    with server.http() as http:
        for path in ("/health", "/readyz", "/metrics"):
            assert http.get(path, headers=parent(trace(7))).status_code == 200
        http.get("/v1/models", headers=parent(trace(7)))
    [span] = receiver.wait(trace(7), 1)
    assert span.attributes["http.route"] == "/v1/models"


def test_a_trace_without_a_caller_begins_here(server: Victim, receiver: Receiver) -> None:
    with server.http() as http:
        trace_id = http.get("/v1/tasks").headers["x-trace-id"]
    [span] = receiver.wait(trace_id, 1)
    assert span.parent_id == ""


def live(server: Victim, headers: dict[str, str], *messages: dict[str, Any]) -> Iterator[Any]:
    own = {"Authorization": f"Bearer {server.token()}"} | headers
    with connect(server.url.replace("http", "ws") + "/v1/live", additional_headers=own, proxy=None) as ws:
        for message in messages:
            ws.send(json.dumps(message))
        yield ws


def test_a_live_session_is_three_spans_and_a_resumed_one_is_linked(server: Victim, receiver: Receiver) -> None:
    start = {"type": "start", "sample_rate": 16_000}
    for ws in live(server, parent(trace(8)), start):
        ready = json.loads(ws.recv(10))
        for index in range(0, 16_000, 1600):
            ws.send(struct.pack(">Q", index) + random.Random(index).randbytes(3200))
        while json.loads(ws.recv(10)).get("samples", 0) < 16_000:
            pass
    resume = {"type": "resume", "session": ready["session"], "resume_token": ready["resume_token"], "last_final": None}
    for ws in live(server, parent(trace(9)), resume):
        offset = json.loads(ws.recv(10))["offset"]
        ws.send(json.dumps({"type": "end", "samples": offset}))
        while (told := json.loads(ws.recv(10)))["type"] != "done":
            pass
    assert told["task_id"] == ready["session"]
    # Another gateway that takes it over begins another call, in the same trace.
    first = wait_for(lambda: spans if _calls(spans := receiver.of(trace(8))) in (1, 2) else None, "the session's spans")
    assert tree(first)["caller"] == ["WS /v1/live"]
    assert set(tree(first)["WS /v1/live"]) == {"engine.call"}
    assert first[0].attributes["cosygate.task_id"] == ready["session"]
    heard = [span.attributes["cosygate.audio_s"] for span in first if span.name == "engine.call"]
    assert max(heard) <= 1.0 <= sum(heard)  # each from the last restart point on, together all of it
    lines = [json.loads(line) for line in server.log().splitlines() if ready["session"] in line]
    assert [line["audio_s"] for line in lines if line["action"] == "engine.call"] == heard
    [second] = receiver.wait(trace(9), 1)
    assert second.links == ((trace(8), first[0].span_id),)
    assert second.attributes["cosygate.close_code"] == 1000


def _calls(spans: list[Span]) -> int:
    """How many engine calls there are of a session, once all has come that belongs to them; else 0."""
    names = Counter(span.name for span in spans)
    count = names["engine.call"]
    whole = names == Counter({"WS /v1/live": 1, "engine.call": count, ENGINE_SPAN: count})
    above = {CALLER, *(span.span_id for span in spans)}
    return count if whole and all(span.parent_id in above for span in spans) else 0


def test_the_webhook_is_in_the_trace_and_hands_it_on(server: Victim, receiver: Receiver) -> None:
    secret = "whsec_" + base64.b64encode(b"canary" * 6).decode()
    with closing(sqlite3.connect(server.data_dir / "cosygate.db", timeout=10)) as database, database:
        database.execute("INSERT INTO webhook_secrets (tenant, secret, created_at) VALUES ('default', ?, 0)", (secret,))
    got: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            got.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as hooks, server.http() as http:
        thread = threading.Thread(target=hooks.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        query = {"is_last": "1", "callback_url": f"http://127.0.0.1:{hooks.server_port}/canary?canary=1"}
        answer = http.put("/v1/audio/hooked/0", content=recording(11), params=query, headers=parent(trace(11)))
        assert answer.status_code == 202, answer.text
        wait_for(lambda: got, "the webhook")
        hooks.shutdown()
        thread.join()
    spans = receiver.wait(trace(11), 5)
    assert tree(spans)["caller"] == [PUT]
    assert sorted(tree(spans)[PUT]) == ["task.run", "webhook.send"]
    [sent] = [span for span in spans if span.name == "webhook.send"]
    assert got[0]["traceparent"] == f"00-{trace(11)}-{sent.span_id}-01"
    assert sent.kind == 3
    assert sent.attributes["http.response.status_code"] == 204
    assert sent.attributes["cosygate.task_id"] == answer.json()["task_id"]


def test_nothing_of_what_was_said_or_named_is_in_a_span_and_every_attribute_is_in_the_page(
    server: Victim, receiver: Receiver
) -> None:
    """After the others: it looks at all that they have sent."""
    assert b"canary" not in receiver.raw
    assert server.token().encode() not in receiver.raw
    found = {key for span in receiver.spans for key in span.attributes}
    assert found == ATTRIBUTES
    page = (Path(__file__).parents[2] / "docs" / "tracing.md").read_text()
    assert {key for key in ATTRIBUTES if f"`{key}`" not in page} == set()
    assert {span.name for span in receiver.spans if not span.name.startswith(("GET ", "PUT "))} <= set(page.split("`"))
    assert {span.instance.rpartition("/")[2] for span in receiver.spans} == {"gateway-0", "gateway-1", "engine-0"}


def test_the_picture_has_every_kind_of_span_that_a_recording_makes() -> None:
    docs = Path(__file__).parents[2] / "docs"
    kinds = r"^\| `([^`]+)`.* \| (?:server|client|consumer) \|"
    table = re.findall(kinds, (docs / "tracing.md").read_text(), re.MULTILINE)
    wanted = {name.rpartition(".v1.")[2] for name in table if not name.startswith(("GET ", "WS "))}
    drawn = set(re.findall(r">([^<]+)</text>", (docs / "images" / "trace.svg").read_text()))
    assert len(wanted) == 4
    assert {PUT, *wanted} <= drawn, "run scripts/draw_trace.py"


def test_a_server_that_ends_sends_what_it_has(server: Victim, receiver: Receiver) -> None:
    with server.http() as http:
        send(http, "the-end", recording(10), parent(trace(10)))
    assert server.stop() == 0
    assert len(receiver.of(trace(10))) == 5


def test_a_receiver_that_hangs_keeps_nobody_waiting(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.hang.set()
        with Victim(tmp_path / "data", otlp_endpoint=receiver.url) as server:
            with server.http() as http:
                assert send(http, "s", recording(1), parent(trace(1)))["state"] == "succeeded"
            assert server.stop() == 0
            lines = [json.loads(line) for line in server.log().splitlines()]
    assert not [line for line in lines if line["action"] == "child.killed"]
    assert len([line for line in lines if line["action"] == "tracing.lost"]) <= 2  # of two processes
    assert not [line for line in lines if line["action"] == "library.said"]


def test_an_endpoint_with_a_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="OTEL_EXPORTER_OTLP_HEADERS"):
        Victim(tmp_path / "data", otlp_endpoint="http://me:canary@127.0.0.1:4318").start()
