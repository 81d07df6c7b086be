"""API keys and revocations, as transactions.

Whether anything was revoked is asked every other second by every gateway: the number of rows and the sum of their times
tell, and only when they have changed are the rows read.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate import errors
from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.locks import locked
from cosygate.adapters.records_sql.schema_guard import api_keys, revocations
from cosygate.model.api_key import ApiKey
from cosygate.model.principal import key_credential
from cosygate.ports.keys import Revoked

MOST = 100_000  # revocations kept at once
TICKETS_LIVE_S = 8 * 86_400.0  # what was got with a key or a token (a share ticket) may live on so long
_CREDENTIAL, _OWNER = "credential", "owner"

_ADD = sa.insert(api_keys)
_FIND = sa.select(api_keys).where(api_keys.c.id == bindparam("which"))
_PAGE = sa.select(api_keys).where(api_keys.c.id > bindparam("after")).order_by(api_keys.c.id).limit(bindparam("most"))
_PAGE_OF = _PAGE.where(api_keys.c.tenant == bindparam("whose"))
_USED = (
    sa.update(api_keys)
    .where(api_keys.c.id == bindparam("which"))
    .where(sa.or_(api_keys.c.used_at.is_(None), api_keys.c.used_at < bindparam("at", type_=sa.Double)))
    .values(used_at=bindparam("at", type_=sa.Double))
)
_REVOKE = (
    sa.update(api_keys)
    .where(api_keys.c.id == bindparam("which"), api_keys.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now", type_=sa.Double))
)
_KEYS_OF = sa.select(api_keys.c.id).where(
    api_keys.c.tenant == bindparam("tenant_of"),
    api_keys.c.subject == bindparam("subject_of"),
    api_keys.c.revoked_at.is_(None),
)
_NOW, _UNTIL = bindparam("now", type_=sa.Double), bindparam("until", type_=sa.Double)
_AGAIN = (  # a clock that went back takes nothing back
    sa.update(revocations)
    .where(revocations.c.kind == bindparam("kind_of"), revocations.c.value == bindparam("what"))
    .values(
        before=sa.case((revocations.c.before > _NOW, revocations.c.before), else_=_NOW),
        expires_at=sa.case((revocations.c.expires_at > _UNTIL, revocations.c.expires_at), else_=_UNTIL),
    )
)
_FIRST = sa.insert(revocations)
_PURGE = sa.delete(revocations).where(revocations.c.expires_at < bindparam("now", type_=sa.Double))
_MARK = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(revocations.c.before), 0.0)).select_from(revocations)
_ALL = sa.select(revocations.c.kind, revocations.c.value, revocations.c.before)


class SqlKeys:
    """ports/keys.py, Keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: ApiKey) -> None:
        row = {name: getattr(key, name) for name in ApiKey.__dataclass_fields__}
        row["scopes"] = " ".join(sorted(key.scopes))
        await self._database.write(lambda connection: connection.execute(_ADD, row).rowcount)

    async def find(self, key_id: str) -> ApiKey | None:
        def run(connection: sa.Connection) -> ApiKey | None:
            row = connection.execute(_FIND, {"which": key_id}).one_or_none()
            return None if row is None else _key(row)

        return await self._database.read(run)

    async def page(self, tenant: str | None, after: str, limit: int) -> list[ApiKey]:
        where = {"after": after, "most": limit} | ({} if tenant is None else {"whose": tenant})
        query = _PAGE if tenant is None else _PAGE_OF
        return await self._database.read(lambda connection: [_key(row) for row in connection.execute(query, where)])

    async def used(self, times: Mapping[str, float]) -> None:
        def run(connection: sa.Connection) -> None:
            for key_id, at in sorted(times.items()):  # in one order: two that meet on Postgres wait for each other once
                connection.execute(_USED, {"which": key_id, "at": at})

        await self._database.write(run)


class SqlRevocations:
    """ports/keys.py, Revocations."""

    def __init__(self, database: Database, *, most: int = MOST) -> None:
        self._database = database
        self._most = most

    async def key(self, key_id: str, now: float) -> bool:
        def run(connection: sa.Connection) -> bool:
            if connection.execute(_REVOKE, {"which": key_id, "now": now}).rowcount == 1:
                self._void(connection, _CREDENTIAL, key_credential(key_id), now + TICKETS_LIVE_S, now)
                return True
            return connection.execute(_FIND, {"which": key_id}).one_or_none() is not None

        return await self._database.write(run)

    async def token(self, credential: str, expires_at: float, now: float) -> None:
        until = max(now, expires_at) + TICKETS_LIVE_S
        await self._database.write(lambda connection: self._void(connection, _CREDENTIAL, credential, until, now))

    async def owner(self, owner: str, expires_at: float, now: float) -> int:
        tenant, _, subject = owner.partition("/")

        def run(connection: sa.Connection) -> int:
            self._void(connection, _OWNER, owner, expires_at, now)
            keys = list(connection.execute(_KEYS_OF, {"tenant_of": tenant, "subject_of": subject}).scalars())
            for key_id in keys:
                connection.execute(_REVOKE, {"which": key_id, "now": now})
            return len(keys)

        return await self._database.write(run)

    async def read(self, mark: tuple[int, float], now: float) -> Revoked | None:
        def run(connection: sa.Connection) -> Revoked | None:
            count, total = connection.execute(_MARK).one()
            if (count, total) == mark:
                return None
            rows = connection.execute(_ALL).all()
            return Revoked(
                mark=(count, total),  # of before: what was written between the two is read next time
                credentials=frozenset(row.value for row in rows if row.kind == _CREDENTIAL),
                owners={row.value: row.before for row in rows if row.kind == _OWNER},
            )

        return await self._database.read(run)

    def _void(self, connection: sa.Connection, kind: str, value: str, until: float, now: float) -> None:
        locked(connection, "revocations")
        connection.execute(_PURGE, {"now": now})
        if connection.execute(_AGAIN, {"kind_of": kind, "what": value, "now": now, "until": until}).rowcount:
            return
        if connection.execute(_MARK).one()[0] >= self._most:
            raise errors.StorageFull(
                f"{self._most} are revoked already; revoke all of an owner's, or change the secret"
            )
        connection.execute(_FIRST, {"kind": kind, "value": value, "before": now, "expires_at": until})


def _key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    values = dict(row._mapping)
    values["scopes"] = frozenset(values["scopes"].split())
    return ApiKey(**values)
