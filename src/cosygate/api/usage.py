"""GET /v1/usage: what the caller's tenant has used, and what is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from cosygate.api.callers import identify
from cosygate.api.described import problem_responses
from cosygate.flows.usage import UsageDesk, UsageSeen
from cosygate.model.principal import Scope
from cosygate.model.usage import Period, Use
from cosygate.ports.callers import Callers


class DoorUse(BaseModel):
    seconds: float = Field(description="Of audio, of recordings that were transcribed.")
    recordings: int


class QuotaView(BaseModel):
    limit: float
    remaining: float


class PeriodView(BaseModel):
    begins: datetime
    resets: datetime
    seconds: float
    recordings: int
    doors: dict[str, DoorUse] = Field(description="`file` and `live`, where there was any use.")
    quota: QuotaView | None = Field(description="In seconds of audio; null: there is none.")


class LiveUse(BaseModel):
    open: int = Field(description="Sessions of the tenant that are open now.")
    quota: QuotaView | None


class RateLimitView(BaseModel):
    """The tightest limit of this principal on what `name` says."""

    name: str
    limit: int
    window_s: int
    remaining: int
    reset_s: int = Field(description="Seconds until there is room for more than `remaining`.")


class UsageView(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "tenant": "default",
                "day": {
                    "begins": "2026-11-22T00:00:00Z",
                    "resets": "2026-11-23T00:00:00Z",
                    "seconds": 125.5,
                    "recordings": 7,
                    "doors": {
                        "file": {"seconds": 65.5, "recordings": 6},
                        "live": {"seconds": 60.0, "recordings": 1},
                    },
                    "quota": {"limit": 3600.0, "remaining": 3474.5},
                },
                "month": {
                    "begins": "2026-11-01T00:00:00Z",
                    "resets": "2026-12-01T00:00:00Z",
                    "seconds": 125.5,
                    "recordings": 7,
                    "doors": {
                        "file": {"seconds": 65.5, "recordings": 6},
                        "live": {"seconds": 60.0, "recordings": 1},
                    },
                    "quota": None,
                },
                "live": {"open": 1, "quota": {"limit": 5, "remaining": 4}},
                "rate_limits": [
                    {"name": "recordings", "limit": 600, "window_s": 60, "remaining": 598, "reset_s": 42},
                    {"name": "live", "limit": 600, "window_s": 60, "remaining": 600, "reset_s": 0},
                ],
            }
        }
    )
    tenant: str
    day: PeriodView
    month: PeriodView
    live: LiveUse
    rate_limits: list[RateLimitView] = Field(description="Of the principal; empty when they are off.")


def router(desk: UsageDesk, callers: Callers) -> APIRouter:
    routes = APIRouter(tags=["Usage"])

    @routes.get("/v1/usage", responses=problem_responses(401, 403, 429, 503))
    async def usage(request: Request) -> UsageView:
        """What the caller's tenant has used today and this month (UTC), its quotas, and the caller's rate limits."""
        return view(await desk.of(await identify(request, callers, Scope.TASK_READ)))

    return routes


def view(seen: UsageSeen) -> UsageView:
    return UsageView(
        tenant=seen.tenant,
        day=_period(seen.day, seen.rows, seen.quota.day_s),
        month=_period(seen.month, seen.rows, seen.quota.month_s),
        live=LiveUse(open=seen.live_open, quota=_quota(seen.quota.live, seen.live_open)),
        rate_limits=[
            RateLimitView(
                name=standing.name,
                limit=standing.limit,
                window_s=standing.window_s,
                remaining=standing.remaining,
                reset_s=math.ceil(standing.reset_s),
            )
            for standing in seen.standings
        ],
    )


def _period(period: Period, rows: Sequence[Use], quota: float | None) -> PeriodView:
    rows = [row for row in rows if row.day >= period.begins]
    doors = {
        door: DoorUse(
            seconds=round(sum(row.seconds for row in rows if row.door == door), 3),
            recordings=sum(row.recordings for row in rows if row.door == door),
        )
        for door in sorted({row.door for row in rows})
    }
    used = sum(row.seconds for row in rows)
    return PeriodView(
        begins=datetime.fromisoformat(period.begins).replace(tzinfo=UTC),
        resets=datetime.fromtimestamp(period.ends_at, UTC),
        seconds=round(used, 3),
        recordings=sum(row.recordings for row in rows),
        doors=doors,
        quota=_quota(quota, used),
    )


def _quota(limit: float | None, used: float) -> QuotaView | None:
    return QuotaView(limit=limit, remaining=round(max(0.0, limit - used), 3)) if limit else None
