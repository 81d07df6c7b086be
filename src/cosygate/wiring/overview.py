"""The operator's view, from where each part of it is known."""

from __future__ import annotations

from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.overview import Overview
from cosygate.flows.quotas import QuotaWatch
from cosygate.flows.readiness import Readiness
from cosygate.flows.switchboard import Switchboard
from cosygate.flows.webhook_desk import Webhooks
from cosygate.kit.clock import Clock
from cosygate.model.overview import EngineSeen, QueueSeen, TenantWaiting


def overview(
    version: str,
    *,
    records: SqlRecords,
    engines: EngineRoom,
    quotas: QuotaWatch,
    webhooks: Webhooks,
    readiness: Readiness,
    switchboard: Switchboard,
    clock: Clock,
) -> Overview:
    async def queue(rows: int) -> QueueSeen:
        depth = await records.depth.waiting()
        return QueueSeen(
            jobs=depth.jobs,
            seconds=depth.seconds,
            oldest_s=max(0.0, clock.now() - depth.oldest_at) if depth.oldest_at is not None else 0.0,
            running=len(await records.leases.running()),
            tenants=[TenantWaiting(tenant, waiting.jobs, waiting.seconds) for tenant, waiting in depth.heaviest(rows)],
        )

    async def seen() -> list[EngineSeen]:
        await engines.refresh()
        return [
            EngineSeen(
                engine=one.key,
                name=one.name,
                version=one.version,
                up=one.up,
                slots=one.slots,
                busy=one.busy,
                live_slots=one.live_slots,
                live_busy=one.live_busy,
                breaker=one.breaker.value,
                probe_in_s=round(one.probe_in_s, 1),
            )
            for one in engines.status()
        ]

    async def sessions() -> int:
        return len(await records.live_keeping.open_sessions())

    return Overview(
        version=version,
        clock=clock,
        readiness=readiness,
        switchboard=switchboard,
        queue=queue,
        engines=seen,
        live_sessions=sessions,
        usage=quotas.totals,
        dead=webhooks.dead_letters,
    )
