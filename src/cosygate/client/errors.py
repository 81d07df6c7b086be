"""What the client raises: one tree, drawn on top, made from the server's problem+json answers (RFC 9457).

ClientError
├── Unreachable     no answer: connection refused or cut, timeout, TLS
├── BadAnswer       an answer that is not CosyGate's
├── Denied          401, 403: no valid token, or one without the scope
├── NotFound        404, 410: does not exist, is someone else's, or is erased
├── Conflict        409: contradicts what is stored
├── Rejected        any other 4xx: what was sent is wrong
├── ServerBusy      408, 429, 5xx: the same may work later (the client has tried again already)
├── SourceChanged   the file changed while it was being sent
├── TaskFailed      a task that was waited for failed or was cancelled
└── WaitTimeout     a task that was waited for took longer than allowed; it goes on
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

import httpx2

from cosygate.client.records import Task

_MORE_LATER = frozenset({408, 425, 429, 500, 502, 503, 504, 507})


class ClientError(Exception):
    """Base of all. `code` is stable (docs/errors.md lists the server's), `status` the HTTP status (None without an
    answer), `detail` one sentence, `trace_id` what to look for in the server's log, `retryable` whether the same
    request may succeed later, `retry_after` the seconds that the server asked to wait, `extra` further members."""

    default_code: ClassVar[str] = "client_error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        trace_id: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.status = status
        self.trace_id = trace_id
        self.retryable = retryable
        self.retry_after = retry_after
        self.extra = extra or {}
        self.tries = 1  # requests made before this was raised

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" + (f" (trace {self.trace_id})" if self.trace_id else "")


class Unreachable(ClientError):
    default_code = "unreachable"


class BadAnswer(ClientError):
    default_code = "bad_answer"


class Denied(ClientError):
    default_code = "denied"


class NotFound(ClientError):
    default_code = "not_found"


class Conflict(ClientError):
    default_code = "conflict"


class Rejected(ClientError):
    default_code = "rejected"


class ServerBusy(ClientError):
    default_code = "server_busy"


class SourceChanged(ClientError):
    default_code = "source_changed"


class WaitTimeout(ClientError):
    default_code = "wait_timeout"


class TaskFailed(ClientError):
    """`task` is the task as it ended; `code` and `detail` are its error's, `cancelled` when somebody gave it up."""

    default_code = "cancelled"

    def __init__(self, task: Task) -> None:
        failure = task.error
        super().__init__(
            failure.detail if failure else f"the task was {task.state}", code=failure.code if failure else None
        )
        self.task = task


_BY_STATUS: dict[int, type[ClientError]] = {401: Denied, 403: Denied, 404: NotFound, 409: Conflict, 410: NotFound}


def from_response(response: httpx2.Response) -> ClientError:
    """The error that a read answer of status 300 or more means."""
    status = response.status_code
    problem = _problem(response)
    if status < 400:
        return BadAnswer(f"{response.url.host} answered with a redirect ({status})", status=status)
    if problem is None and status not in _MORE_LATER:
        return BadAnswer(f"status {status}, and no problem+json: is this a CosyGate server?", status=status)
    problem = problem or {}
    kind = _BY_STATUS.get(status) or (ServerBusy if status in _MORE_LATER else Rejected)
    known = {"type", "title", "status", "detail", "code", "trace_id"}
    return kind(
        str(problem.get("detail") or problem.get("title") or f"the server answered {status}"),
        code=problem.get("code"),
        status=status,
        trace_id=problem.get("trace_id") or response.headers.get("x-trace-id"),
        retryable=status in _MORE_LATER,
        retry_after=_retry_after(response),
        extra={k: v for k, v in problem.items() if k not in known},
    )


def _problem(response: httpx2.Response) -> dict[str, Any] | None:
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        problem = json.loads(response.content)
    except ValueError:
        return None
    return problem if isinstance(problem, dict) else None


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds (RFC 9110 §10.2.3). A date counts from the answer's own Date, so the two clocks need not agree."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
        return max(0.0, (until - parsedate_to_datetime(response.headers["date"])).total_seconds())
    except (ValueError, TypeError, KeyError):
        return None


_BY_CLOSE: dict[int, type[ClientError]] = {
    1009: Rejected,
    1011: ServerBusy,
    1012: ServerBusy,
    1013: ServerBusy,
    4008: ServerBusy,
    4400: Rejected,
    4401: Denied,
    4404: NotFound,
    4408: ServerBusy,
    4409: Conflict,
    4429: ServerBusy,
    4503: ServerBusy,
}


def from_close(code: int, error: Mapping[str, Any] | None, *, retryable: bool) -> ClientError:
    """What the end of a live connection means: its close code, and the `error` message before it if there was one."""
    error = error or {}
    kind = _BY_CLOSE.get(code) or (Unreachable if retryable else BadAnswer)
    known = {"type", "title", "status", "detail", "code", "trace_id"}
    told = error.get("code")
    return kind(
        str(error.get("detail") or f"the live connection ended with close code {code}"),
        code=told if isinstance(told, str) else None,
        trace_id=error.get("trace_id"),
        retryable=retryable,
        extra={k: v for k, v in error.items() if k not in known} | {"close_code": code},
    )
