"""Webhooks, for those who are told: what became of each delivery, and once more please.

GET  /v1/webhooks/deliveries                own ones, newest first
POST /v1/webhooks/deliveries/{id}/replay    one that was delivered, or is dead, is tried again
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cosygate import errors
from cosygate.api.article import EXAMPLE_TASK
from cosygate.api.callers import identify
from cosygate.api.described import problem_responses
from cosygate.api.limit_fields import limit_fields
from cosygate.flows.webhook_desk import Webhooks
from cosygate.model.principal import Scope
from cosygate.model.webhook import Delivery, DeliveryState
from cosygate.ports.callers import Callers

_DELIVERY_ID = re.compile(r"msg_[0-9a-f]{32}")


class DeliveryView(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": f"msg_{EXAMPLE_TASK}",
                "task_id": EXAMPLE_TASK,
                "type": "task.succeeded",
                "url": "https://receiver.example/hooks",
                "state": "pending",
                "tries": 2,
                "created_at": "2026-11-22T09:30:00.310Z",
                "tried_at": "2026-11-22T09:30:05.810Z",
                "next_try_at": "2026-11-22T09:35:12Z",
                "status": 500,
                "error": "http_status",
            }
        }
    )
    id: str = Field(description="The `webhook-id` of every try.")
    task_id: str
    type: str
    url: str
    state: DeliveryState
    tries: int
    created_at: datetime
    tried_at: datetime | None = None
    next_try_at: datetime | None = None
    status: int | None = Field(None, description="The receiver's answer to the last try.")
    error: str | None = Field(None, description="Why the last try failed.")


class DeliveryPage(BaseModel):
    deliveries: list[DeliveryView]
    next_cursor: str | None = None


def view(delivery: Delivery) -> DeliveryView:
    pending = delivery.state is DeliveryState.PENDING
    return DeliveryView(
        id=delivery.id,
        task_id=delivery.job_id,
        type=delivery.kind,
        url=delivery.url,
        state=delivery.state,
        tries=delivery.attempt,
        created_at=_when(delivery.created_at),
        tried_at=_when(delivery.tried_at) if delivery.tried_at is not None else None,
        next_try_at=_when(delivery.due_at) if pending else None,
        status=delivery.status,
        error=delivery.error,
    )


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def router(webhooks: Webhooks, callers: Callers) -> APIRouter:
    routes = APIRouter(tags=["Webhooks"])

    @routes.get(
        "/v1/webhooks/deliveries",
        responses=problem_responses(401, 403, 422, 503),
        response_model_exclude_none=True,
    )
    async def page(
        request: Request,
        cursor: str | None = None,
        state: DeliveryState | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> DeliveryPage:
        """Own deliveries, newest first. `next_cursor` is absent on the last page."""
        caller = await identify(request, callers, Scope.TASK_READ)
        if cursor is not None and not _DELIVERY_ID.fullmatch(cursor):
            raise errors.Invalid("cursor is the next_cursor of an earlier page")
        found = await webhooks.page(caller, state, cursor, limit + 1)
        more = len(found) > limit
        return DeliveryPage(
            deliveries=[view(one) for one in found[:limit]], next_cursor=found[limit - 1].id if more else None
        )

    @routes.post(
        "/v1/webhooks/deliveries/{delivery_id}/replay",
        responses=problem_responses(401, 403, 404, 409, 429, 503, 507),
        response_model_exclude_none=True,
        status_code=202,
    )
    async def replay(request: Request, response: Response, delivery_id: str) -> DeliveryView:
        """Tries a delivery again, with the same id. A receiver that said 410 is enabled by it. It counts as a recording
        towards the caller's rate."""
        caller = await identify(request, callers, Scope.AUDIO_WRITE)
        if not _DELIVERY_ID.fullmatch(delivery_id):
            raise errors.DeliveryNotFound()
        delivery, standing = await webhooks.replay(caller, delivery_id)
        response.headers.update(limit_fields(standing))
        return view(delivery)

    return routes
