"""The operator's door, for tokens with the scope admin: the state of the whole installation, draining it, dead letters.

GET  /v1/admin/overview                    what /admin shows
POST /v1/admin/drain                       {"on": true}: nothing new is begun anywhere; false: again
POST /v1/admin/deliveries/{id}/replay      a dead letter is tried again
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from cosygate.api import described
from cosygate.api.bodies import BodyPace, small_json
from cosygate.api.callers import identify
from cosygate.flows.identifying import Identifying
from cosygate.flows.overview import Overview
from cosygate.flows.webhook_desk import Webhooks
from cosygate.model.overview import OverviewSeen
from cosygate.model.principal import Scope


class Drain(BaseModel):
    model_config = ConfigDict(extra="forbid")
    on: bool


class Drained(BaseModel):
    drained_since: float | None


def router(overview: Overview, callers: Identifying, pace: BodyPace, webhooks: Webhooks) -> APIRouter:
    routes = APIRouter(tags=["Operator"])
    known = described.problem_responses(401, 403, 503)

    @routes.get("/v1/admin/overview", responses=known)
    async def seen(request: Request) -> OverviewSeen:
        """The state of the whole installation, as /admin shows it."""
        await identify(request, callers, Scope.ADMIN)
        return await overview.now()

    @routes.post(
        "/v1/admin/drain",
        responses={**known, **described.problem_responses(400, 408, 413, 422)},
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": Drain.model_json_schema()}}}
        },
    )
    async def drain(request: Request) -> Drained:
        """Takes nothing new, in any gateway and over restarts, until it is turned off again. What has begun goes on."""
        await identify(request, callers, Scope.ADMIN)
        wanted = await small_json(request, pace, Drain)
        await overview.switchboard.drain(wanted.on)
        return Drained(drained_since=overview.switchboard.drained_since)

    @routes.post(
        "/v1/admin/deliveries/{delivery_id}/replay",
        responses=described.problem_responses(401, 403, 404, 409, 503),
        status_code=202,
        response_class=Response,
    )
    async def again(request: Request, delivery_id: str) -> Response:
        """Tries a dead letter of any tenant again, with the same id."""
        await identify(request, callers, Scope.ADMIN)
        await webhooks.replay(None, delivery_id)
        return Response(status_code=202)

    return routes
