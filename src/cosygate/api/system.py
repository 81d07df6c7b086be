"""What operators and load balancers ask: alive, ready, metrics, and which models there are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from cosygate.api.addresses import forwarded
from cosygate.api.callers import identify
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.readiness import Readiness
from cosygate.kit import metrics
from cosygate.kit.breaker import Phase
from cosygate.kit.networks import MetricsDoor
from cosygate.model.principal import Scope
from cosygate.ports.callers import Callers


class BreakerView(BaseModel):
    engine: int  # from 0; not its address, which is no business of whoever asks
    breaker: Phase


class Health(BaseModel):
    status: str = "ok"
    version: str
    engines: list[BreakerView]


class Ready(BaseModel):
    ready: bool
    reasons: list[str]
    engines: list[BreakerView]


class ModelView(BaseModel):
    name: str
    languages: list[str]
    words: bool
    speakers: bool
    live_speakers: bool
    language: bool
    emotion: bool
    events: bool
    punctuation: bool
    itn: bool
    hotwords: bool
    live: bool


class EngineView(BaseModel):
    name: str
    version: str
    up: bool
    slots: int
    models: list[ModelView]


class Models(BaseModel):
    engines: list[EngineView]


class _Scrapes:
    """One at a time, however many ask: those who asked before it began share what it finds."""

    def __init__(self, measure: Callable[[], Awaitable[None]]) -> None:
        self._measure = measure
        self._turn = asyncio.Lock()
        self._begun = 0  # looks
        self._told = 0  # the number of the one whose text this is
        self._text = b""

    async def text(self) -> bytes:
        wanted = self._begun + 1  # one that runs already may have looked before what the caller wants to see
        async with self._turn:
            if self._told < wanted:
                self._begun = look = self._begun + 1
                await self._measure()
                self._text = await asyncio.to_thread(metrics.exposition)
                self._told = look
            return self._text


def router(
    engines: EngineRoom,
    callers: Callers,
    readiness: Readiness,
    measure: Callable[[], Awaitable[None]],
    door: MetricsDoor,
    version: str,
) -> APIRouter:
    """`measure` sets the gauges that a scrape asks for."""
    routes = APIRouter(tags=["System"])
    scrapes = _Scrapes(measure)

    def breakers() -> list[BreakerView]:
        return [BreakerView(engine=place, breaker=one.breaker) for place, one in enumerate(engines.status())]

    @routes.get("/health")
    async def health() -> Health:
        """The process lives. 200 as long as it does."""
        return Health(version=version, engines=breakers())

    @routes.get("/readyz", responses={503: {"model": Ready}})
    async def ready() -> Response:
        """Can take work; with reasons when it cannot. No engine is ever one: what is sent meanwhile is kept."""
        reasons = await readiness.reasons()
        body = Ready(ready=not reasons, reasons=reasons, engines=breakers())
        return Response(body.model_dump_json(), 503 if reasons else 200, media_type="application/json")

    @routes.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def scrape(request: Request) -> Response:
        """Prometheus metrics. Open to loopback and `metrics_allow`; others need a token with the scope admin."""
        # A proxy on this machine speaks for somebody else.
        if forwarded(request.scope) or not door.open_to(request.client.host if request.client else None):
            await identify(request, callers, Scope.ADMIN)
        return Response(await scrapes.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @routes.get("/v1/models")
    async def models(request: Request) -> Models:
        """Engines, their models, and what each can."""
        await identify(request, callers, Scope.TASK_READ)
        await engines.refresh()
        found = [
            EngineView(
                name=info.name,
                version=info.version,
                up=up,
                slots=info.slots,
                models=[ModelView.model_validate(m, from_attributes=True) for m in info.models],
            )
            for info, up in engines.infos()
        ]
        return Models(engines=found)

    return routes
