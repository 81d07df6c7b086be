"""What is known of webhooks' receivers, as transactions: the secrets that they share with tenants, and those that said
410."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.schema_guard import webhook_secrets, webhooks_gone
from cosygate.model.webhook import Gone

_SECRET = sa.select(webhook_secrets).where(webhook_secrets.c.tenant == bindparam("whose"))
_ADD_SECRET = sa.insert(webhook_secrets)
_FRESH = bindparam("fresh", type_=sa.Text)
_ROTATE = (
    sa.update(webhook_secrets)
    .where(webhook_secrets.c.tenant == bindparam("whose"), webhook_secrets.c.secret != _FRESH)
    .values(secret=_FRESH, created_at=bindparam("now", type_=sa.Double))
    .values(previous=webhook_secrets.c.secret, previous_until=bindparam("until", type_=sa.Double))
)
_IS_GONE = (webhooks_gone.c.tenant == bindparam("whose")) & (webhooks_gone.c.url == bindparam("to"))
SEEN_GONE = sa.select(webhooks_gone.c.url).where(_IS_GONE)
ENABLE = sa.delete(webhooks_gone).where(_IS_GONE)
_GONE = sa.select(webhooks_gone).order_by(webhooks_gone.c.tenant, webhooks_gone.c.url).limit(bindparam("most"))
_GONE_OF = _GONE.where(webhooks_gone.c.tenant == bindparam("whose"))
_GONE_BEHIND = _GONE.where(
    sa.tuple_(webhooks_gone.c.tenant, webhooks_gone.c.url) > sa.tuple_(bindparam("tenant"), bindparam("url"))
)
_FORGET = ENABLE.where(webhooks_gone.c.since < bindparam("before", type_=sa.Double))


class SqlReceivers:
    """ports/webhooks.py, Receivers and GoneReceivers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looked_to = "", ""  # tenant and URL

    async def add_secret(self, tenant: str, secret: str, now: float) -> bool:
        def run(connection: sa.Connection) -> bool:
            if (there := connection.execute(_SECRET, {"whose": tenant}).one_or_none()) is not None:
                return bool(there.secret == secret)
            connection.execute(_ADD_SECRET, {"tenant": tenant, "secret": secret, "created_at": now})
            return True

        return await self._database.write(run)

    async def rotate_secret(self, tenant: str, secret: str, now: float, until: float) -> bool:
        values = {"whose": tenant, "fresh": secret, "now": now, "until": until}

        def run(connection: sa.Connection) -> bool:
            connection.execute(_ROTATE, values)
            row = connection.execute(_SECRET, {"whose": tenant}).one_or_none()
            return row is not None and row.secret == secret

        return await self._database.write(run)

    async def secrets(self, tenant: str, now: float) -> tuple[str, ...]:
        row = await self._database.read(lambda connection: connection.execute(_SECRET, {"whose": tenant}).one_or_none())
        if row is None:
            return ()
        return (row.secret, row.previous) if row.previous is not None and now < row.previous_until else (row.secret,)

    async def gone(self, tenant: str | None, limit: int) -> Sequence[Gone]:
        query, where = (_GONE, {}) if tenant is None else (_GONE_OF, {"whose": tenant})
        return await self._database.read(
            lambda connection: [Gone(*row) for row in connection.execute(query, {"most": limit, **where})]
        )

    async def enable(self, tenant: str, url: str) -> bool:
        which = {"whose": tenant, "to": url}
        return await self._database.write(lambda connection: connection.execute(ENABLE, which).rowcount > 0)

    async def forget_gone(self, before: float, limit: int) -> bool:
        """By the key, a page at a time: they may be millions, and there is no index of their age."""
        tenant, url = self._looked_to
        where = {"tenant": tenant, "url": url, "most": limit}
        page = await self._database.read(lambda connection: connection.execute(_GONE_BEHIND, where).all())
        old = [{"whose": row.tenant, "to": row.url, "before": before} for row in page if row.since < before]
        if old:
            await self._database.write(lambda connection: connection.execute(_FORGET, old).rowcount)
        more = len(page) == limit
        self._looked_to = (page[-1].tenant, page[-1].url) if more else ("", "")
        return more
