"""Schemathesis drives the description of the API against a real server: whatever it makes of a request, the answer is
one that the description announces, and never a server error. The budget is fixed and the run repeatable."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import checks

from tests.support.server import Server

_BUDGET = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
_CHECKS = (
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
)
# Each with its own counts: a route that disappears from the description fails, one that is added is driven, too.
_OPERATIONS = [
    "GET /health", "GET /metrics", "GET /readyz", "GET /v1/models", "GET /v1/tasks", "POST /v1/audio",
    "GET /v1/audio/{session_id}", "DELETE /v1/audio/{session_id}", "PUT /v1/audio/{session_id}/{seq}",
    "GET /v1/task/{task_id}", "DELETE /v1/task/{task_id}", "GET /v1/task/{task_id}/audio",
    "POST /v1/task/{task_id}/audio-cookie", "GET /v1/task/{task_id}/events", "GET /v1/task/{task_id}/transcript",
    "PATCH /v1/task/{task_id}/transcript", "GET /v1/task/{task_id}/transcript/versions",
    "GET /v1/admin/overview", "POST /v1/admin/drain", "POST /v1/admin/deliveries/{delivery_id}/replay",
    "POST /v1/live/tickets", "POST /v1/live/{session}/shares", "GET /v1/live/{session}/events",
    "GET /v1/usage", "GET /v1/webhooks/deliveries", "POST /v1/webhooks/deliveries/{delivery_id}/replay",
]  # fmt: skip


@pytest.fixture(scope="module")
def operations(server: Server) -> dict[str, Any]:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    return {operation.label: operation for operation in (result.ok() for result in schema.get_all_operations())}


def test_every_operation_is_driven(operations: dict[str, Any]) -> None:
    assert sorted(operations) == sorted(_OPERATIONS)


@pytest.mark.parametrize("label", _OPERATIONS)
def test_answers_are_as_described(server: Server, operations: dict[str, Any], label: str) -> None:
    headers = {"Authorization": f"Bearer {server.token('fuzzer')}"}

    @_BUDGET
    @given(case=operations[label].as_strategy())
    def drive(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, checks=_CHECKS)

    drive()


def test_a_real_task_is_as_described(server: Server, operations: dict[str, Any]) -> None:
    """Random ids find no task: the answers with content are checked on one that exists."""
    from tests.api.conftest import wav
    from tests.support.server import wait_task

    with server.http("fuzzer") as http:
        answer = http.put("/v1/audio/described/0", content=wav(), params={"is_last": "1"})
        task_id = answer.json()["task_id"]
        wait_task(http, task_id)
        for label in _OPERATIONS:
            if "{task_id}" in label and label.startswith("GET"):
                case = operations[label].Case(path_parameters={"task_id": task_id})
                headers = {"Authorization": http.headers["authorization"]}
                checked = case.call_and_validate(headers=headers, checks=_CHECKS)
                assert checked.status_code == 200
