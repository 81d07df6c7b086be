"""Health, readiness, models, metrics, the description of the API, and what every answer carries."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable

import httpx2
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cosygate.kit import metrics
from cosygate.ports.engine import CAPABILITIES
from tests.api.conftest import code_of, wav
from tests.support.server import Server, wait_task

Send = Callable[..., httpx2.Response]


def test_alive_and_ready(server: Server) -> None:
    engines = [{"engine": 0, "breaker": "closed"}]
    health = httpx2.get(f"{server.url}/health").json()
    assert (health["status"], health["engines"]) == ("ok", engines)
    ready = httpx2.get(f"{server.url}/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": [], "engines": engines})


def test_models_tell_what_they_can(alice: httpx2.Client) -> None:
    engine = alice.get("/v1/models").json()["engines"][0]
    assert engine["name"] == "scripted"
    assert engine["up"] is True
    assert engine["slots"] >= 1
    assert engine["models"][0].keys() == {"name", "languages", *CAPABILITIES}


def test_metrics_by_their_fixed_names(server: Server, send: Send, alice: httpx2.Client, session_id: str) -> None:
    task_id = send(session_id, 0, wav(2.0), is_last="1").json()["task_id"]
    wait_task(alice, task_id)
    text = httpx2.get(f"{server.url}/metrics").text
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert {name.removesuffix("_total") for name in metrics.NAMES} <= families.keys() | {"cv_rejected"}
    samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families.values() for s in f.samples}
    assert samples["cv_task_total", (("state", "succeeded"),)] >= 1
    assert samples["cv_audio_seconds_total", (("door", "file"),)] >= 2.0
    assert samples["cv_upload_bytes_total", ()] >= len(wav(2.0))
    route = ("route", "/v1/audio/{session_id}/{seq}")
    assert samples["cv_request_total", (("method", "PUT"), route, ("status", "202"))] >= 1
    assert session_id not in text  # labels are templates, never ids
    assert task_id not in text


def series(server: Server) -> set[str]:
    """Every series there is, without its value."""
    lines = httpx2.get(f"{server.url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def test_the_first_scrape_shows_every_metric(tmp_path_factory: pytest.TempPathFactory) -> None:
    """And what is known of labels at 0: a first failure must be a rise, not a series that begins at 1."""
    with Server(tmp_path_factory.mktemp("fresh"), recogniser="scripted") as server:
        text = httpx2.get(f"{server.url}/metrics").text
    shown = {f.name for f in text_string_to_metric_families(text) if f.samples}
    assert {name.removesuffix("_total") for name in metrics.NAMES} == shown
    for known in (
        'cv_request_total{method="PUT",route="/v1/audio/{session_id}/{seq}",status="503"} 0.0',
        'cv_request_seconds_bucket{le="0.48",route="/v1/audio/{session_id}/{seq}"} 0.0',
        'cv_task_total{state="failed"} 0.0',
        'cv_task_failed_total{code="engine_failed"} 0.0',
        'cv_rejected_total{reason="storage_full"} 0.0',
        "cv_task_duration_count 0.0",
    ):
        assert known in text.splitlines()


def test_odd_requests_make_no_series_without_end(server: Server) -> None:
    """Methods, paths, ids, tenants and names that a client makes up are nobody's label."""
    with server.http("mallory", tenant="acme-0") as http:
        before = series(server)

        def odd(number: int) -> None:
            name = f"odd{number}"
            match number % 5:
                case 0:
                    http.request(("PROPFIND", "MKCOL", "LOCK", "PURGE", "REPORT")[number // 5 % 5], f"/{name}")
                case 1:
                    http.get(f"/v1/{name}/{name}", params={name: name})
                case 2:
                    http.put(f"/v1/audio/{name}/x{number}", content=b"", headers={"X-" + name: name})
                case 3:
                    http.get(f"/v1/task/{name}", headers={"Authorization": f"Bearer {name}"})
                case _:
                    token = server.token(name, tenant=name)
                    http.delete(f"/v1/audio/{name}", headers={"Authorization": f"Bearer {token}"})

        for number in range(500):
            odd(number)
        once = series(server)
        assert len(once - before) < 40
        assert not [one for one in once if "odd" in one or "acme" in one or "mallory" in one or "PROPFIND" in one]
        assert 'cv_request_total{method="OTHER",route="unmatched",status="404"}' in once
        for number in range(500, 1000):
            odd(number)
        assert series(server) - once == set()


def test_why_tasks_failed_is_counted(server: Server, send: Send, alice: httpx2.Client, session_id: str) -> None:
    def counted() -> float:
        lines = httpx2.get(f"{server.url}/metrics").text.splitlines()
        return float(
            next(x for x in lines if x.startswith('cv_task_failed_total{code="media_undecodable"}')).split()[1]
        )

    before = counted()
    task_id = send(session_id, 0, b"fLaC" + bytes(2000), is_last="1").json()["task_id"]
    assert wait_task(alice, task_id)["error"]["code"] == "media_undecodable"
    assert counted() == before + 1


def test_routes_and_methods_that_are_not_there(alice: httpx2.Client) -> None:
    assert code_of(alice.get("/v1/nothing")) == (404, "not_found")
    answer = alice.post("/v1/tasks")
    assert code_of(answer) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


def test_the_description_has_every_route_and_problem(alice: httpx2.Client) -> None:
    described = alice.get("/openapi.json").json()
    assert {
        "/v1/audio", "/v1/audio/{session_id}", "/v1/audio/{session_id}/{seq}", "/v1/task/{task_id}",
        "/v1/task/{task_id}/events", "/v1/task/{task_id}/transcript", "/v1/task/{task_id}/audio",
        "/v1/task/{task_id}/transcript/versions",
        "/v1/task/{task_id}/audio-cookie", "/v1/tasks", "/v1/models", "/v1/usage", "/v1/webhooks/deliveries",
        "/v1/webhooks/deliveries/{delivery_id}/replay", "/v1/admin/overview", "/v1/admin/drain",
        "/v1/admin/deliveries/{delivery_id}/replay", "/health", "/readyz", "/metrics",
        "/v1/live/tickets", "/v1/live/{session}/shares", "/v1/live/{session}/events",
    } == described["paths"].keys()  # fmt: skip
    assert "Problem" in described["components"]["schemas"]
    assert {"code": "task_not_found", "status": 404, "title": "There is no such task", "retryable": False} in described[
        "x-problems"
    ]
    assert "HTTPValidationError" not in json.dumps(described)


@pytest.mark.parametrize("path", ["/", "/docs", "/page/main.js", "/page/base.css", "/openapi.json", "/health"])
def test_the_page_comes_with_its_headers(server: Server, path: str) -> None:
    answer = httpx2.get(server.url + path)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.headers["x-trace-id"]) == 32


def test_the_lines_of_a_job_tell_whose_it_is(server: Server) -> None:
    with server.http("carol", tenant="acme") as carol:
        done = carol.put("/v1/audio/whose/0", params={"is_last": "1"}, content=wav(0.2))
        wait_task(carol, done.json()["task_id"])
    lines = [json.loads(line) for line in server.log().splitlines()]
    [started] = [
        line for line in lines if line.get("task_id") == done.json()["task_id"] and line["action"] == "task.started"
    ]
    assert (started["user_id"], started["tenant"]) == ("carol", "acme")
    assert started["trace_id"] == done.headers["x-trace-id"]


def test_a_log_line_a_request_without_secrets(server: Server, alice: httpx2.Client) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    alice.get("/v1/tasks", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    deadline = time.monotonic() + 5  # the line is written after the answer
    while trace not in server.log() and time.monotonic() < deadline:
        time.sleep(0.02)
    lines = [json.loads(line) for line in server.log().splitlines()]
    mine = [line for line in lines if line.get("trace_id") == trace]
    assert [line["action"] for line in mine] == ["http.request"]
    assert mine[0]["user_id"] == "alice"
    assert mine[0]["tenant"] == "default"
    assert {"ts", "level", "cost_ms", "route", "status"} <= mine[0].keys()
    assert alice.headers["authorization"].split()[1] not in server.log()
    assert server.secret not in server.log()


def test_a_refused_client_that_waits_for_leave_to_send_is_not_told_to(server: Server) -> None:
    """RFC 9110 §10.1.1: with `Expect: 100-continue`, an answer instead of 100 spares both sides the body."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(b"PUT /v1/audio/x/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\nExpect: 100-continue\r\n\r\n")
        assert wire.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_one_caller_cannot_hold_every_event_stream(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("streams")
    script = data / "script.json"
    script.write_text(json.dumps({"texts": ["x"], "delay_s": 60}))
    with Server(data, recogniser="scripted", script=script) as server, server.http() as http:
        task_id = http.put("/v1/audio/s/0", content=wav(), params={"is_last": "1"}).json()["task_id"]
        head = f"GET /v1/task/{task_id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n\r\n"
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                wire = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
                wire.sendall(head.encode())
                assert wire.recv(4096).startswith(b"HTTP/1.1 200 ")
            refused = http.get(f"/v1/task/{task_id}/events")
            assert code_of(refused) == (429, "too_many_streams")
            with server.http("bob") as other:
                assert other.get("/v1/tasks").status_code == 200


def test_a_stuck_gateway_is_replaced(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Server(tmp_path_factory.mktemp("stuck"), recogniser="scripted", watch_every_s=1) as server:
        gateway = server.find("cosygate.gateway")[0]
        gateway.suspend()
        deadline = time.monotonic() + 60  # three unanswered questions, a second apart and each waited for
        while gateway.is_running() and gateway.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "the stuck gateway still runs"
            time.sleep(0.2)
        assert httpx2.get(f"{server.url}/health", timeout=30).status_code == 200
