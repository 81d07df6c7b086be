"""Errors as clients see them: application/problem+json (RFC 9457). No stack, no path, no secret."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from cosygate import errors
from cosygate.api.limit_fields import RETRY_AFTER_S, fields, retry_after
from cosygate.kit import metrics

PROBLEM = "application/problem+json"
_DOCS = "/docs#"  # `type` is a reference: the page that explains the code


def members(error: errors.CosyGateError, trace_id: str) -> dict[str, Any]:
    """What `error` says beside the standard members."""
    if not error.retryable:
        return error.extra
    wait_s = error.extra.get("retry_after", RETRY_AFTER_S)
    return error.extra | {"retry_after": retry_after(wait_s, trace_id)}


class _Problem(Response):
    """Counted as it goes out, once a request: another one may have gone in its place (api/strangers.py)."""

    media_type = PROBLEM
    code = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start" and scope.setdefault("problem", self) is self:
                metrics.rejected.labels(self.code).inc()

        await super().__call__(scope, receive, counted)


def problem(error: errors.CosyGateError, trace_id: str) -> Response:
    """The answer that `error` stands for."""
    body: dict[str, Any] = {
        "type": f"{_DOCS}{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "trace_id": trace_id,
        **members(error, trace_id),
    }
    headers = {}
    if error.retryable:
        after = body["retry_after"]
        headers["Retry-After"] = str(after)
        if "policy" in body:  # a rate limit's
            headers |= fields(body["policy"], body["limit"], body["window_s"], 0, after)
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    response = _Problem(orjson.dumps(body), error.status, headers)
    response.code = error.code
    return response


class MethodNotAllowed(errors.Invalid):
    code, title, status = "method_not_allowed", "This method is not allowed here", 405


class BadRequest(errors.Invalid):
    code, title, status = "bad_request", "The request cannot be understood", 400


_BY_STATUS: dict[int, type[errors.CosyGateError]] = {404: errors.NotFound, 405: MethodNotAllowed}


async def on_error(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for our own tree."""
    if not isinstance(error, errors.CosyGateError):
        error = errors.CosyGateError()
    return problem(error, request.scope.get("trace_id", ""))


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework raises by itself: no such route, wrong method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    known = _BY_STATUS.get(status, BadRequest if 400 <= status < 500 else errors.CosyGateError)()
    response = problem(known, request.scope.get("trace_id", ""))
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


async def on_validation_error(request: Request, error: Exception) -> Response:
    """FastAPI's own checks of declared parameters: names what is wrong, never repeats the value."""
    wrong = error.errors() if hasattr(error, "errors") else []
    where = ", ".join(".".join(str(p) for p in e.get("loc", ())) for e in wrong[:5])
    return problem(errors.Invalid(f"not valid: {where}"), request.scope.get("trace_id", ""))
