"""How much of their quotas tenants have used. The database is read beside the requests: what is known is at most a
second old, and a slow database holds nobody up for more than a moment."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from dataclasses import dataclass

from cosygate import errors
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.overview import TenantUse
from cosygate.model.usage import Period, Quota, Use, day_of, month_of
from cosygate.ports.usage import QuotaRecords, UsageRecords

_log = logger()
_OLDEST_S = 1.0
_AGAIN_S = 0.5  # older, it is read again while it is still good
_WAIT_S = 0.25  # of a request, for what is not known yet
_DOWN_S = 1.0  # after that, or a failure, nobody waits or tries for so long
_TENANTS = 10_000


class QuotasUnknown(Exception):
    """What the tenant has used cannot be read just now."""


@dataclass(frozen=True, slots=True)
class _Known:
    day: str  # that it was read on
    day_s: float
    month_s: float
    at: float  # when, by the monotonic clock


class QuotaWatch:
    def __init__(self, usage: UsageRecords, records: QuotaRecords, clock: Clock, usual: Quota) -> None:
        """`usual`: of tenants without a quota of their own."""
        self._usage = usage
        self._records = records
        self._clock = clock
        self._usual = usual
        self._own: dict[str, Quota] = {}
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._down_until = -math.inf  # unless the database answers after all

    async def look(self) -> None:
        """Reads the tenants' own quotas anew: once a second. What cannot be read stays as it was."""
        try:
            self._own = await self._records.all()
        except errors.Unavailable:
            return

    def of(self, tenant: str) -> Quota:
        own = self._own.get(tenant)
        return own.over(self._usual) if own else self._usual

    async def refusal(self, tenant: str) -> errors.QuotaExceeded | None:
        """What a new recording or session is refused with, when a quota of the tenant is used up. Raises
        QuotasUnknown."""
        quota = self.of(tenant)
        if not quota.day_s and not quota.month_s:
            return None
        now = self._clock.now()
        day, month = day_of(now), month_of(now)
        known = await self._recent(tenant, day, quota)
        if quota.month_s and known.month_s >= quota.month_s:
            return _exceeded(month, quota.month_s, known.month_s, now)
        if quota.day_s and known.day_s >= quota.day_s:
            return _exceeded(day, quota.day_s, known.day_s, now)
        return None

    async def totals(self, limit: int) -> list[TenantUse]:
        """Of the `limit` tenants that used most this month, most first. Raises DatabaseBusy."""
        now = self._clock.now()
        found = await self._usage.totals(day_of(now).begins, month_of(now).begins, limit)
        quotas = [self.of(total.tenant) for total in found]
        return [
            TenantUse(total.tenant, total.day_s, total.month_s, quota.day_s or 0.0, quota.month_s or 0.0)
            for total, quota in zip(found, quotas, strict=True)
        ]

    async def _recent(self, tenant: str, day: Period, quota: Quota) -> _Known:
        known = self._known.get(tenant)
        age = self._clock.monotonic() - known.at if known else math.inf
        if known and known.day != day.begins:
            known, age = None, math.inf  # of another day, perhaps of another month
        if known is not None and age < _AGAIN_S:
            return known
        reading = self._reading.get(tenant)
        down = self._clock.monotonic() < self._down_until
        if reading is None and not down:
            reading = self._reading[tenant] = asyncio.create_task(self._read(tenant))
        if known is not None and age <= _OLDEST_S:
            return known
        if reading is not None and not down:
            await asyncio.wait([reading], timeout=_WAIT_S)
            fresh = self._known.get(tenant)
            if fresh is not None and fresh.day == day.begins and fresh is not known:
                return fresh
            if not reading.done():
                self._down_until = self._clock.monotonic() + _DOWN_S
        if known is None or not self._over(known, quota):  # use never shrinks within its day
            raise QuotasUnknown
        return known

    @staticmethod
    def _over(known: _Known, quota: Quota) -> bool:
        pairs = (known.month_s, quota.month_s), (known.day_s, quota.day_s)
        return any(most and used >= most for used, most in pairs)

    async def _read(self, tenant: str) -> None:
        try:
            now, at = self._clock.now(), self._clock.monotonic()
            day = day_of(now).begins
            rows = await self._usage.of_tenant(tenant, month_of(now).begins)
            self._known[tenant] = _Known(day, seconds(rows, day), seconds(rows), at)
            self._known.move_to_end(tenant)
            if len(self._known) > _TENANTS:
                self._known.popitem(last=False)
            self._down_until = -math.inf
        except errors.Unavailable:
            self._down_until = self._clock.monotonic() + _DOWN_S  # told by whoever needs it
        except Exception:
            _log.exception("quotas.crashed")
        finally:
            del self._reading[tenant]


def seconds(rows: list[Use], since: str = "") -> float:
    """Of audio, from the day `since` on."""
    return sum(row.seconds for row in rows if row.day >= since)


def _exceeded(period: Period, most: float, used: float, now: float) -> errors.QuotaExceeded:
    return errors.QuotaExceeded(
        f"the tenant's quota of {most:g} seconds of audio a {period.name} is used up",
        retry_after=max(1, math.ceil(period.ends_at - now)),
        quota=period.name,
        limit=most,
        used=round(used, 3),
    )
