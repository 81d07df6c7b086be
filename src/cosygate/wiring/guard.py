"""What protects the service: limits and quotas, the queue's bound, breakers, and the gate that asks them all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cosygate.adapters.limits_memory import MemoryCounters
from cosygate.adapters.limits_sqlite import SqliteCounters
from cosygate.adapters.records_sql import SqlRecords
from cosygate.api.addresses import Proxies
from cosygate.api.strangers import Strangers
from cosygate.flows.admission import Admission, QueueLimits
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.gate import Begun, Gate
from cosygate.flows.limiting import Limiting
from cosygate.flows.quotas import QuotaWatch
from cosygate.flows.usage import UsageDesk
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.networks import parse_networks
from cosygate.model.rates import UNAUTHENTICATED, parse_named_rates, parse_rates
from cosygate.model.usage import Quota
from cosygate.ports.limits import Counters
from cosygate.ports.records import QueueDepth
from cosygate.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis


@dataclass(frozen=True, slots=True)
class Limits:
    limiting: Limiting
    strangers: Strangers
    quotas: QuotaWatch
    usage: UsageDesk


@dataclass(frozen=True, slots=True)
class Guard:
    limiting: Limiting
    admission: Admission
    gate: Gate


def admission_of(settings: Settings, depth: QueueDepth, clock: Clock, randomness: Randomness) -> Admission:
    limits = QueueLimits(settings.queue_max_s, settings.queue_tenant_share, settings.queue_low_share)
    return Admission(depth, clock, randomness, limits, processes=settings.workers, elsewhere=settings.shared)


async def limits_of(
    settings: Settings,
    records: SqlRecords,
    shared: Path | None,
    redis: Redis | None,
    clock: Clock,
    stack: AsyncExitStack,
) -> Limits:
    """`shared`: the folder in memory of what this machine's gateways share; `redis`: what the gateways of several
    machines share."""
    quotas = QuotaWatch(
        records.usage,
        records.quotas,
        clock,
        Quota(settings.quota_day_s, settings.quota_month_s, settings.quota_live),
    )
    await quotas.look()
    counters = _counters(settings, shared, redis, clock)
    stack.push_async_callback(counters.close)
    rates = parse_named_rates(settings.rate_limits)
    rates[UNAUTHENTICATED] = parse_rates(settings.unauthenticated_limit)
    passes = settings.rate_limits_failing == "open"
    limiting = Limiting(counters, quotas, clock, rates=rates, failing_open=passes)
    strangers = Strangers(limiting, Proxies(parse_networks(settings.trusted_proxies)))
    return Limits(limiting, strangers, quotas, UsageDesk(records.usage, quotas, limiting, clock))


def _counters(settings: Settings, shared: Path | None, redis: Redis | None, clock: Clock) -> Counters:
    if redis is not None:
        from cosygate.adapters.limits_redis import RedisCounters  # with redis-py, which embedded mode does without

        return RedisCounters(redis, clock)
    if settings.workers > 1 and shared is not None:
        return SqliteCounters(shared / "counters.sqlite", clock)
    return MemoryCounters(clock)


def guard(
    limiting: Limiting, begun: Begun, engines: EngineRoom, admission: Admission, drained: Callable[[], bool]
) -> Guard:
    gate = Gate(
        begun=begun,
        limiting=limiting,
        admission=admission,
        blocked_s=engines.blocked_s,
        drained=drained,
    )
    return Guard(limiting, admission, gate)
