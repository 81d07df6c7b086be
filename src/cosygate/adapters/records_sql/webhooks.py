"""Deliveries that wait, and those of an owner, as transactions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate import errors
from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.locks import locked
from cosygate.adapters.records_sql.receivers import ENABLE, SEEN_GONE
from cosygate.adapters.records_sql.schema_guard import dead, deliveries, pending, under_way, webhooks_gone
from cosygate.model.webhook import Answer, Delivery, DeliveryState
from cosygate.ports.webhooks import Begun, Room

_TENANTS = 1_000  # looked at in one transaction; the next goes on behind them
_DEEP = 200  # due deliveries of one tenant that are looked at for a host with room

_columns = tuple(deliveries.c[name] for name in Delivery.__dataclass_fields__)
_now, _far = bindparam("now", type_=sa.Double), bindparam("far", type_=sa.Double)
_is_due = pending & (deliveries.c.due_at <= _now)
_has_jumped = pending & (deliveries.c.due_at > _far)  # the clock was far ahead when it was put off
_ANY_DUE = sa.select(sa.exists().where(_is_due) | sa.exists().where(_has_jumped))
_UNDER_WAY = sa.select(deliveries.c.tenant, deliveries.c.host).where(under_way, deliveries.c.due_at > _now)


def _tenants() -> sa.Select[Any]:
    """Tenants behind `after` that have something due: from one to the next by the index, however much each has."""
    first = sa.select(sa.func.min(deliveries.c.tenant).label("tenant")).where(
        pending, deliveries.c.tenant > bindparam("after")
    )
    found = first.cte("tenants", recursive=True)
    following = sa.select(sa.func.min(deliveries.c.tenant)).where(pending, deliveries.c.tenant > found.c.tenant)
    found = found.union_all(sa.select(following.scalar_subquery()).where(found.c.tenant.is_not(None)))
    mine = pending & (deliveries.c.tenant == found.c.tenant)
    oldest = sa.select(sa.func.min(deliveries.c.due_at)).where(mine).scalar_subquery()
    latest = sa.select(sa.func.max(deliveries.c.due_at)).where(mine).scalar_subquery()
    return (
        sa.select(found.c.tenant, oldest.label("oldest"), latest.label("latest"))
        .where(found.c.tenant.is_not(None))
        .limit(_TENANTS)
    )


_TENANTS_BEHIND = _tenants()
_OF_TENANT = sa.select(deliveries.c.id, deliveries.c.host).where(deliveries.c.tenant == bindparam("whose"))
# Hosts that have no room are left out here, or a long line for a dead one would hide what goes to others.
_FITTING = _OF_TENANT.where(deliveries.c.host.not_in(bindparam("full", expanding=True)))
_DUE = _FITTING.where(_is_due).order_by(deliveries.c.due_at).limit(_DEEP)
_JUMPED = _FITTING.where(_has_jumped).order_by(deliveries.c.due_at).limit(_DEEP)
_BEGIN = (
    sa.update(deliveries)
    .where(deliveries.c.id == bindparam("which"), pending)
    .values(attempt=deliveries.c.attempt + 1, begun_at=_now, tried_at=_now, due_at=bindparam("lost", type_=sa.Double))
    .returning(*_columns)
)
_OUTCOME = {
    "state": bindparam("to", type_=sa.Text),
    "due_at": bindparam("due", type_=sa.Double),
    "status": bindparam("answered", type_=sa.Integer),
    "error": bindparam("why", type_=sa.Text),
    "begun_at": None,
}
_END_ANY = sa.update(deliveries).where(deliveries.c.id == bindparam("which")).values(_OUTCOME)
_END = _END_ANY.where(pending, deliveries.c.begun_at.is_not(None), deliveries.c.attempt == bindparam("mine"))
_DISABLE = sa.insert(webhooks_gone)
_AFTER_ALL = "\U0010ffff"  # sorts behind every id
_PAGE = (
    sa.select(*_columns)
    .where(deliveries.c.owner == bindparam("mine"), deliveries.c.id < bindparam("before"))
    .order_by(deliveries.c.id.desc())
    .limit(bindparam("most"))
)
_PAGE_OF_STATE = _PAGE.where(deliveries.c.state == bindparam("wanted"))
_DEAD = sa.select(*_columns).where(dead).order_by(deliveries.c.id.desc()).limit(bindparam("most"))
_DEAD_OF = _DEAD.where(deliveries.c.tenant == bindparam("whose"))
_COUNT_DEAD = sa.select(sa.func.count()).select_from(deliveries).where(dead, deliveries.c.tenant >= "")  # by its index
# Locked, where others write beside: what `begin` gives meanwhile is not to be given again.
_ONE_TO_CHANGE = sa.select(*_columns).where(deliveries.c.id == bindparam("which")).with_for_update()
_REPLAY = (
    sa.update(deliveries)
    .where(deliveries.c.id == bindparam("which"))
    .values(state=DeliveryState.PENDING.value, attempt=0, due_at=_now, begun_at=None)
    .returning(*_columns)
)


class SqlSending:
    """ports/webhooks.py, Sending."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._after = ""  # the tenant that had the last turn

    async def due(self, now: float, longest_s: float) -> bool:
        when = {"now": now, "far": now + longest_s}
        return await self._database.read(lambda connection: bool(connection.execute(_ANY_DUE, when).scalar_one()))

    async def begin(self, now: float, longest_s: float, lost_s: float, room: Room) -> list[Begun]:
        after = self._after

        def run(connection: sa.Connection) -> tuple[list[Begun], str]:
            locked(connection, "sending")
            choice = _Choice(connection, now, now + longest_s, room)
            marks = {"now": now, "lost": now + lost_s}
            chosen = [_begun(connection, marks | {"which": one}) for one in choice.make(after)]
            begun = [one for one in chosen if one is not None]
            return begun, begun[-1].delivery.tenant if begun else choice.behind(after)

        begun, self._after = await self._database.write(run)
        return begun

    async def end(self, delivery: Delivery, state: DeliveryState, answer: Answer, due_at: float) -> bool:
        outcome: dict[str, object] = {"which": delivery.id, "to": state.value, "due": due_at}
        outcome |= {"answered": answer.status, "why": answer.error}

        def run(connection: sa.Connection) -> bool:
            if state is DeliveryState.DELIVERED:
                return connection.execute(_END_ANY, outcome).rowcount > 0
            return connection.execute(_END, outcome | {"mine": delivery.attempt}).rowcount > 0

        return await self._database.write(run)

    async def disable(self, tenant: str, url: str, now: float) -> None:
        def run(connection: sa.Connection) -> None:
            if connection.execute(SEEN_GONE, {"whose": tenant, "to": url}).first() is None:
                connection.execute(_DISABLE, {"tenant": tenant, "url": url, "since": now})

        await self._database.write(run)


class _Choice:
    """Which deliveries begin now, in one transaction that nobody else's choice overlaps."""

    def __init__(self, connection: sa.Connection, now: float, far: float, room: Room) -> None:
        self._connection = connection
        self._when = {"now": now, "far": far}
        self._room = room
        held = connection.execute(_UNDER_WAY, {"now": now}).all()
        self._free = room.total - len(held)
        self._of_tenant = Counter(row.tenant for row in held)
        self._of_host = Counter((row.tenant, row.host) for row in held)
        self._waiting: dict[str, list[tuple[str, str]]] = {}
        self._chosen: set[str] = set()
        self._again: set[str] = set()  # tenants that were looked at behind their first page
        self._looked_at: list[str] = []

    def behind(self, after: str) -> str:
        """Where the next look goes on when this one found nothing."""
        return self._looked_at[-1] if len(self._looked_at) >= _TENANTS else after

    def make(self, after: str) -> list[str]:
        """Ids. Tenants behind `after` first, one delivery each, again and again."""
        if self._free <= 0:
            return []
        tenants = self._with_something_due(after)
        if after and len(self._looked_at) < _TENANTS:  # the round begins anew
            tenants += [tenant for tenant in self._with_something_due("") if tenant <= after]
        chosen: list[str] = []
        while tenants and self._free > 0:
            turn = [(tenant, one) for tenant in tenants if (one := self._next(tenant)) is not None]
            tenants = [tenant for tenant, _ in turn]
            chosen += [one for _, one in turn]
        return chosen

    def _with_something_due(self, after: str) -> list[str]:
        rows = self._connection.execute(_TENANTS_BEHIND, {"after": after}).all()
        self._looked_at = [row.tenant for row in rows]
        now, far = self._when["now"], self._when["far"]
        return [row.tenant for row in rows if row.oldest <= now or row.latest > far]

    def _next(self, tenant: str) -> str | None:
        # As much as it leaves free: however many receivers of one tenant are slow, there is room for the others.
        if self._free <= self._of_tenant[tenant]:
            return None
        if tenant not in self._waiting:
            self._waiting[tenant] = self._page(tenant)
        while waiting := self._waiting[tenant]:
            one, host = waiting.pop()
            if self._of_host[tenant, host] < self._room.each:
                self._free -= 1
                self._of_tenant[tenant] += 1
                self._of_host[tenant, host] += 1
                self._chosen.add(one)
                return one
            if not waiting and tenant not in self._again:  # what lies behind the page may fit
                self._again.add(tenant)
                self._waiting[tenant] = self._page(tenant)
        return None

    def _page(self, tenant: str) -> list[tuple[str, str]]:
        """What is due of the tenant for hosts with room, the oldest last."""
        full = [host for (whose, host), count in self._of_host.items() if whose == tenant and count >= self._room.each]
        where = self._when | {"whose": tenant, "full": full}
        found = [*self._connection.execute(_JUMPED, where), *self._connection.execute(_DUE, where)]
        return [(row.id, row.host) for row in found[::-1] if row.id not in self._chosen]


class SqlDeliveries:
    """ports/webhooks.py, Deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, owner: str, state: DeliveryState | None, before: str | None, limit: int) -> list[Delivery]:
        where = {"mine": owner, "before": _AFTER_ALL if before is None else before, "most": limit}
        if state is None:
            return await self._list(_PAGE, where)
        return await self._list(_PAGE_OF_STATE, where | {"wanted": state.value})

    async def dead(self, tenant: str | None, limit: int) -> list[Delivery]:
        if tenant is None:
            return await self._list(_DEAD, {"most": limit})
        return await self._list(_DEAD_OF, {"most": limit, "whose": tenant})

    async def count_dead(self) -> int:
        return await self._database.read(lambda connection: int(connection.execute(_COUNT_DEAD).scalar_one()))

    async def replay(self, owner: str | None, delivery_id: str, now: float) -> Delivery:
        def run(connection: sa.Connection) -> Delivery:
            row = connection.execute(_ONE_TO_CHANGE, {"which": delivery_id}).one_or_none()
            if row is None or owner not in (None, row.owner):
                raise errors.DeliveryNotFound()
            if row.state == DeliveryState.PENDING:
                raise errors.DeliveryPending()
            connection.execute(ENABLE, {"whose": row.tenant, "to": row.url})
            return _delivery(connection.execute(_REPLAY, {"which": delivery_id, "now": now}).one())

        return await self._database.write(run)

    async def _list(self, query: sa.Select[Any], where: dict[str, Any]) -> list[Delivery]:
        return await self._database.read(
            lambda connection: [_delivery(row) for row in connection.execute(query, where)]
        )


def _delivery(row: sa.Row[Any]) -> Delivery:
    """From a row of `_columns`."""
    fields = row._asdict()
    return Delivery(**{**fields, "state": DeliveryState(fields["state"])})


def _begun(connection: sa.Connection, marks: dict[str, Any]) -> Begun | None:
    """None: a late word has just ended it, or its job was erased."""
    row = connection.execute(_BEGIN, marks).one_or_none()
    if row is None:
        return None
    delivery = _delivery(row)
    receiver = {"whose": delivery.tenant, "to": delivery.url}
    return Begun(delivery, gone=connection.execute(SEEN_GONE, receiver).first() is not None)
