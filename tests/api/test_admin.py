"""The operator's door: who may, what it shows, and what draining does, in every gateway and over a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.faults import Victim, recording, submit, wait_for
from tests.support.server import wait_task

ADMIN = {"scopes": ["admin"]}
CALLS = [("GET", "overview", None), ("POST", "drain", {"on": True}), ("POST", "deliveries/msg_1/replay", None)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with Victim(tmp_path_factory.mktemp("admin"), workers=2, engines=1, script={"texts": ["Hello."]}) as running:
        yield running
    assert "Traceback" not in running.log()


def overview(server: Victim) -> dict[str, Any]:
    with server.http("root", **ADMIN) as http:
        answer = http.get("/v1/admin/overview")
        assert answer.status_code == 200, answer.text
        seen: dict[str, Any] = answer.json()
        return seen


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_only_operators_may(server: Victim, method: str, path: str, body: object) -> None:
    with server.http() as http:  # the usual scopes
        answer = http.request(method, f"/v1/admin/{path}", json=body)
        assert (answer.status_code, answer.json()["code"], answer.json()["scope"]) == (403, "scope_missing", "admin")
    assert httpx2.request(method, f"{server.url}/v1/admin/{path}", json=body).status_code == 401
    assert overview(server)["drained_since"] is None


def test_what_it_shows(server: Victim) -> None:
    with server.http("anna", tenant="acme") as http:
        wait_task(http, submit(http, "shown", recording(1, 2.0)))

    def told() -> dict[str, Any] | None:
        found = overview(server)
        return found if any(use["tenant"] == "acme" for use in found["usage"]) else None

    seen = wait_for(told, "the use")
    [use] = [use for use in seen["usage"] if use["tenant"] == "acme"]
    assert use["day_s"] == use["month_s"] == pytest.approx(2.0, abs=0.01)
    [engine] = seen["engines"]
    assert (engine["engine"], engine["name"], engine["up"], engine["breaker"]) == ("0", "scripted", True, "closed")
    assert engine["slots"] >= 1 and seen["queue"]["jobs"] == 0 and seen["dead_count"] == 0 and seen["reasons"] == []


def test_a_waiting_queue_is_shown_by_tenant(tmp_path_factory: pytest.TempPathFactory) -> None:
    script = {"texts": ["Late."], "delay_s": 60}
    with Victim(tmp_path_factory.mktemp("queue"), engines=1, engine_slots=1, runner_jobs=1, script=script) as server:
        for tenant, count in (("acme", 3), ("bolt", 1)):
            with server.http("anna", tenant=tenant) as http:
                for number in range(count):
                    submit(http, f"{tenant}-{number}", recording(number, 2.0))
        queue = wait_for(
            lambda: found if (found := overview(server)["queue"])["jobs"] == 3 and found["running"] == 1 else None,
            "one to be claimed",
        )
        assert queue["seconds"] == pytest.approx(6.0, abs=0.1) and queue["oldest_s"] >= 0
        assert {row["tenant"]: row["jobs"] for row in queue["tenants"]} == {"acme": 2, "bolt": 1}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "body_malformed"),
        (b"{", 400, "body_malformed"),
        (b"[]", 422, "invalid_request"),
        (b'{"on": "perhaps"}', 422, "invalid_request"),
        (b'{"on": true, "off": true}', 422, "invalid_request"),
        (b"x" * 5000, 413, "too_large"),
    ],
)
def test_what_is_no_order_is_refused(server: Victim, body: bytes, status: int, code: str) -> None:
    with server.http("root", **ADMIN) as http:
        answer = http.post("/v1/admin/drain", content=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert overview(server)["drained_since"] is None


def test_a_drained_service_finishes_what_it_has_and_takes_nothing_new(server: Victim) -> None:
    data = recording(7, 2.0)
    half = len(data) // 2
    with server.http() as http, server.http("root", **ADMIN) as root:
        assert http.put("/v1/audio/begun/0", content=data[:half]).status_code == 200
        try:
            answer = root.post("/v1/admin/drain", json={"on": True})
            assert answer.status_code == 200 and answer.json()["drained_since"] > 0
            # Each request may meet either of the two gateways: after a moment all are refused.
            refused = [0]

            def closed() -> bool:
                with server.http() as other:  # a connection of its own
                    refused[0] = refused[0] + 1 if other.get("/readyz").status_code == 503 else 0
                return refused[0] >= 8

            wait_for(closed, "every gateway to know")
            answer = http.put("/v1/audio/new/0", content=data)
            assert (answer.status_code, answer.json()["code"]) == (503, "draining") and "retry-after" in answer.headers
            assert httpx2.get(f"{server.url}/health").status_code == 200
            answer = http.put("/v1/audio/begun/1", content=data[half:], params={"is_last": "1"})
            assert answer.status_code == 202, answer.text
            assert wait_task(http, answer.json()["task_id"])["state"] == "succeeded"
            port = server.port
            server.stop()
            server.start(port)
            assert httpx2.get(f"{server.url}/readyz").json()["reasons"] == ["draining"]
        finally:
            with server.http("root", **ADMIN) as again:
                assert again.post("/v1/admin/drain", json={"on": False}).json() == {"drained_since": None}

        def open_again() -> bool:
            with server.http() as other:
                return other.put("/v1/audio/after/0", content=b"x").status_code == 200

        wait_for(open_again, "work to be taken again")
