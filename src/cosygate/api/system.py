"""What operators and load balancers ask: alive, ready, metrics, and which models there are."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from cosygate.api.callers import identify
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.readiness import Readiness
from cosygate.kit import metrics
from cosygate.model.principal import Scope
from cosygate.ports.callers import Callers

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Health(BaseModel):
    status: str = "ok"
    version: str


class Ready(BaseModel):
    ready: bool
    reasons: list[str]


class ModelView(BaseModel):
    name: str
    languages: list[str]
    words: bool
    speakers: bool
    emotion: bool
    live: bool


class EngineView(BaseModel):
    name: str
    version: str
    up: bool
    slots: int
    models: list[ModelView]


class Models(BaseModel):
    engines: list[EngineView]


@dataclass(frozen=True, slots=True)
class MetricsDoor:
    """Who may read /metrics without a token: loopback always, and these networks."""

    allow: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> MetricsDoor:
        """Addresses and networks separated by commas or spaces. Raises ValueError."""
        return cls(tuple(ipaddress.ip_network(item) for item in text.replace(",", " ").split()))

    def open_to(self, host: str | None) -> bool:
        try:
            address = ipaddress.ip_address(host or "")
        except ValueError:
            return False
        # On a socket for both families, callers by IPv4 show up as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2).
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in (*_LOOPBACK, *self.allow))


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

    @routes.get("/health")
    async def health() -> Health:
        """The process lives. 200 as long as it does."""
        return Health(version=version)

    @routes.get("/readyz", responses={503: {"model": Ready}})
    async def ready() -> Response:
        """Can take work; with reasons when it cannot."""
        reasons = await readiness.reasons()
        body = Ready(ready=not reasons, reasons=reasons)
        return Response(body.model_dump_json(), 503 if reasons else 200, media_type="application/json")

    @routes.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def scrape(request: Request) -> Response:
        """Prometheus metrics. Open to loopback and `metrics_allow`; others need a token with the scope admin."""
        if not door.open_to(request.client.host if request.client else None):
            await identify(request, callers, Scope.ADMIN)
        await measure()
        return Response(
            await asyncio.to_thread(metrics.exposition), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

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
