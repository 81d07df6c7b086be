"""What callers are told of their tenant's use."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cosygate.flows.limiting import Limiting
from cosygate.flows.quotas import QuotaWatch
from cosygate.kit.clock import Clock
from cosygate.model.overview import TenantUse
from cosygate.model.principal import Principal
from cosygate.model.standing import Standing
from cosygate.model.usage import Period, Quota, Use, day_of, month_of
from cosygate.ports.usage import UsageRecords


@dataclass(frozen=True, slots=True)
class UsageSeen:
    tenant: str
    day: Period
    month: Period
    rows: list[Use]  # of the month
    quota: Quota  # 0: none
    live_open: int
    standings: list[Standing]


class UsageDesk:
    def __init__(self, usage: UsageRecords, quotas: QuotaWatch, limiting: Limiting, clock: Clock) -> None:
        self._usage = usage
        self._quotas = quotas
        self._limiting = limiting
        self._clock = clock

    async def of(self, caller: Principal) -> UsageSeen:
        """From the database, as it is now. Raises DatabaseBusy, LimitsUnavailable."""
        now = self._clock.now()
        day, month = day_of(now), month_of(now)
        rows, live_open, standings = await asyncio.gather(
            self._usage.of_tenant(caller.tenant, month.begins),
            self._usage.live_open(caller.tenant),
            self._limiting.standings(caller),
        )
        quota = self._quotas.of(caller.tenant)
        return UsageSeen(caller.tenant, day, month, rows, quota, live_open, standings)

    async def totals(self, limit: int) -> list[TenantUse]:
        """Of the `limit` tenants that used most this month, most first. Raises DatabaseBusy."""
        return await self._quotas.totals(limit)
