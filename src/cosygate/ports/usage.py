"""What tenants have used (it is written with each job's end), and their own quotas."""

from __future__ import annotations

from typing import Protocol

from cosygate.model.usage import Quota, TenantTotal, Use


class UsageRecords(Protocol):
    """Every method raises DatabaseBusy."""

    async def of_tenant(self, tenant: str, since: str) -> list[Use]:
        """From the day `since` (YYYY-MM-DD) on, by day and door."""

    async def totals(self, day: str, since: str, limit: int) -> list[TenantTotal]:
        """Of the `limit` tenants that used most since the day `since`, most first: of `day` alone, and since then."""

    async def live_open(self, tenant: str) -> int:
        """Live sessions of the tenant that are open now."""


class QuotaRecords(Protocol):
    """Tenants' own quotas. Every method raises DatabaseBusy, changing nothing."""

    async def all(self) -> dict[str, Quota]:
        """Of every tenant that has one."""

    async def set(self, tenant: str, quota: Quota) -> Quota:
        """What is not None in `quota` replaces what the tenant had. Returns the whole."""

    async def clear(self, tenant: str) -> bool:
        """The settings count for the tenant again. False: there was nothing to clear."""
