"""What tenants have used and how much they may, as transactions. (endings.py writes the use.)"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.live import OPEN_OF_TENANT, owners_of
from cosygate.adapters.records_sql.locks import locked
from cosygate.adapters.records_sql.schema_guard import quotas, usage
from cosygate.model.usage import Quota, TenantTotal, Use

_OF_TENANT = (
    sa.select(usage.c.day, usage.c.door, usage.c.seconds, usage.c.recordings)
    .where(usage.c.tenant == bindparam("whose"), usage.c.day >= bindparam("since"))
    .order_by(usage.c.day, usage.c.door)
)
_MONTH_S = sa.func.sum(usage.c.seconds)
_DAY_S = sa.func.sum(sa.case((usage.c.day == bindparam("today"), usage.c.seconds), else_=0.0))
_TOTALS = (
    sa.select(usage.c.tenant, _DAY_S, _MONTH_S)
    .where(usage.c.day >= bindparam("since"))
    .group_by(usage.c.tenant)
    .order_by(_MONTH_S.desc(), usage.c.tenant)
    .limit(bindparam("most"))
)
_QUOTAS = sa.select(quotas.c.tenant, quotas.c.day_s, quotas.c.month_s, quotas.c.live)
_QUOTA = sa.select(quotas.c.day_s, quotas.c.month_s, quotas.c.live).where(quotas.c.tenant == bindparam("whose"))
_FIRST = sa.insert(quotas)
_CLEAR = sa.delete(quotas).where(quotas.c.tenant == bindparam("whose"))


class SqlUsage:
    """ports/usage.py, UsageRecords."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_tenant(self, tenant: str, since: str) -> list[Use]:
        where = {"whose": tenant, "since": since}
        return await self._database.read(
            lambda connection: [Use(*row) for row in connection.execute(_OF_TENANT, where)]
        )

    async def totals(self, day: str, since: str, limit: int) -> list[TenantTotal]:
        where = {"today": day, "since": since, "most": limit}
        return await self._database.read(
            lambda connection: [TenantTotal(*row) for row in connection.execute(_TOTALS, where)]
        )

    async def live_open(self, tenant: str) -> int:
        return await self._database.read(
            lambda connection: connection.execute(OPEN_OF_TENANT, owners_of(tenant)).scalar_one()
        )


class SqlQuotas:
    """ports/usage.py, QuotaRecords."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[str, Quota]:
        return await self._database.read(
            lambda connection: {tenant: Quota(*rest) for tenant, *rest in connection.execute(_QUOTAS)}
        )

    async def set(self, tenant: str, quota: Quota) -> Quota:
        def run(connection: sa.Connection) -> Quota:
            locked(connection, "quotas")
            there = connection.execute(_QUOTA, {"whose": tenant}).one_or_none()
            whole = quota.over(Quota(*there)) if there else quota
            connection.execute(_CLEAR, {"whose": tenant})
            values = {"tenant": tenant, "day_s": whole.day_s, "month_s": whole.month_s, "live": whole.live}
            connection.execute(_FIRST, values)
            return whole

        return await self._database.write(run)

    async def clear(self, tenant: str) -> bool:
        def run(connection: sa.Connection) -> bool:
            locked(connection, "quotas")
            return connection.execute(_CLEAR, {"whose": tenant}).rowcount == 1

        return await self._database.write(run)
