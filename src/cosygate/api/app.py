"""The gateway's HTTP application, put together from its doors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from cosygate import errors
from cosygate.api import admin, article, live_http, pages, system, tasks, transcripts, usage, webhooks
from cosygate.api.bodies import BodyPace
from cosygate.api.edge import Edge
from cosygate.api.lane import ChunkLane
from cosygate.api.live import LiveDoor, LiveLane
from cosygate.api.problems import on_error, on_http_exception, on_validation_error
from cosygate.api.strangers import StrangerLane, Strangers
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.editing import Editing
from cosygate.flows.gate import Gate
from cosygate.flows.identifying import Identifying
from cosygate.flows.ingest import Ingest
from cosygate.flows.live.desk import Live
from cosygate.flows.live.watching import Watching
from cosygate.flows.overview import Overview
from cosygate.flows.readiness import Readiness
from cosygate.flows.tasks import Tasks
from cosygate.flows.usage import UsageDesk
from cosygate.flows.webhook_desk import Webhooks
from cosygate.kit import metrics
from cosygate.kit.clock import Randomness
from cosygate.kit.networks import MetricsDoor
from cosygate.ports.tickets import Tickets

_ABOUT = """Recordings in, transcripts out. Send chunks in any order and in parallel; what was acknowledged is durable.

Every error is `application/problem+json` with a stable `code` (docs/errors.md); every response carries `X-Trace-Id`.
"""


@dataclass(frozen=True, slots=True)
class Doors:
    """What the application needs of the house."""

    ingest: Ingest
    gate: Gate
    tasks: Tasks
    editing: Editing
    engines: EngineRoom
    readiness: Readiness
    measure: Callable[[], Awaitable[None]]
    callers: Identifying
    tickets: Tickets
    live: Live
    watching: Watching
    live_door: LiveDoor
    webhooks: Webhooks
    strangers: Strangers
    usage: UsageDesk
    overview: Overview
    randomness: Randomness
    pace: BodyPace
    metrics_door: MetricsDoor
    slow_request_s: float
    version: str
    media: str = ""  # where recordings are fetched from, if not here


def build(doors: Doors) -> ASGIApp:
    app = FastAPI(
        title="CosyGate",
        version=doors.version,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            errors.CosyGateError: on_error,
            HTTPException: on_http_exception,
            RequestValidationError: on_validation_error,
        },
    )
    chunks = article.ArticleDoor(doors.ingest, doors.gate, doors.callers, doors.pace)
    _include(app, article.router(chunks))
    _include(app, tasks.router(doors.tasks, doors.callers, doors.tickets, lambda: doors.readiness.draining))
    _include(app, transcripts.router(doors.editing, doors.callers, doors.pace))
    _include(
        app,
        system.router(doors.engines, doors.callers, doors.readiness, doors.measure, doors.metrics_door, doors.version),
    )
    _include(
        app,
        live_http.router(doors.live, doors.watching, doors.callers, doors.tickets, lambda: doors.readiness.draining),
    )
    _include(app, usage.router(doors.usage, doors.callers))
    _include(app, webhooks.router(doors.webhooks, doors.callers))
    _include(app, admin.router(doors.overview, doors.callers, doors.pace, doors.webhooks))
    _include(app, pages.router())
    app.mount("/page", pages.files())
    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    lanes = StrangerLane(ChunkLane(app, chunks.put_chunk), doors.strangers)
    proxies = doors.strangers.proxies
    return Edge(LiveLane(lanes, doors.live_door), doors.randomness, doors.slow_request_s, proxies, doors.media)


def _include(app: FastAPI, router: APIRouter) -> None:
    app.include_router(router)
    for route in router.routes:
        if isinstance(route, APIRoute):
            metrics.begin_route(route.path, route.methods or (), route.status_code or 200)


def _describe(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own description, with what our doors do by hand: bearer tokens, and problems instead of its errors."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = _PROBLEM
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1/"):
                operation["security"] = [{"bearer": []}]
            invalid = operation["responses"].get("422", {})
            if "application/json" in invalid.get("content", {}):
                invalid["description"] = "Problem (RFC 9457)"
                invalid["content"] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    # What a problem's `type` points to: /docs shows each code under its own anchor.
    schema["x-problems"] = [
        {"code": e.code, "status": e.status, "title": e.title, "retryable": e.retryable} for e in errors.all_errors()
    ]
    app.openapi_schema = schema
    return schema


_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "trace_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "retry_after": {"type": "integer"},
    },
    "example": {
        "type": "/docs#task_not_found",
        "title": "There is no such task",
        "status": 404,
        "detail": "There is no such task",
        "code": "task_not_found",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    },
}
