"""Who is claimed next, inside the transaction of the claim: deficit round robin between tenants (model/turns.py).

One tenant alone has no turns to take: two looks at an index, and no row. With several, one look at each (a loose index
scan: SQL has no name for it, but a recursion that seeks the next tenant does it), so that ten thousand jobs of one cost
no more than one job. On Postgres the rows of `turns` are locked, so claims that must choose do so one after another;
two that bring the same tenant's first row meet on its key, and one of them is run again.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate.adapters.records_sql.schema import is_state, jobs, ready
from cosygate.adapters.records_sql.schema_guard import turns
from cosygate.model.job import JobState
from cosygate.model.turns import Head, next_turn

_LEVEL = bindparam("level", type_=sa.Integer)
_WHOSE = bindparam("whose", type_=sa.Text)
_another = sa.alias(jobs, "another")
_another_ready = is_state(_another, JobState.QUEUED) & _another.c.not_before.is_(None)
_LAST_TENANT = (
    sa.select(_another.c.tenant)
    .where(_another_ready, _another.c.priority == jobs.c.priority)
    .order_by(_another.c.tenant.desc())
    .limit(1)
    .correlate(jobs)
    .scalar_subquery()
)
# The index jobs_of_tenant in its own order: the first of the most urgent ones, and the last tenant among those.
_FIRST = (
    sa.select(jobs.c.id, jobs.c.tenant, jobs.c.priority, _LAST_TENANT.label("last_tenant"))
    .add_columns(sa.exists(sa.select(sa.literal(1)).select_from(turns)).label("turns"))
    .where(ready)
    .order_by(jobs.c.priority, jobs.c.tenant, jobs.c.created_at, jobs.c.id)
    .limit(1)
    .with_for_update(skip_locked=True, of=jobs)
)
_ready_here = ready & (jobs.c.priority == _LEVEL)
_tenants = sa.select(sa.select(sa.func.min(jobs.c.tenant)).where(_ready_here).scalar_subquery().label("tenant")).cte(
    "tenants", recursive=True
)
_next = sa.select(sa.func.min(jobs.c.tenant)).where(_ready_here, jobs.c.tenant > _tenants.c.tenant)
_tenants = _tenants.union_all(sa.select(_next.scalar_subquery()).where(_tenants.c.tenant.is_not(None)))
_oldest = sa.alias(jobs, "oldest")
_OLDEST_OF_IT = (
    sa.select(jobs.c.id)
    .where(_ready_here, jobs.c.tenant == _tenants.c.tenant)
    .order_by(jobs.c.created_at, jobs.c.id)
    .limit(1)
    .correlate(_tenants)
    .scalar_subquery()
)
_HEADS = (
    sa.select(_tenants.c.tenant, _oldest.c.id, _oldest.c.cost_s, _oldest.c.created_at)
    .join_from(_tenants, _oldest, _oldest.c.id == _OLDEST_OF_IT)
    .where(_tenants.c.tenant.is_not(None))
)
_STANDINGS = (
    sa.select(turns.c.tenant, turns.c.deficit_s, turns.c.served_at).where(turns.c.priority == _LEVEL).with_for_update()
)
_MORE = sa.select(sa.literal(1)).where(_ready_here, jobs.c.tenant == _WHOSE).limit(1)
_JOIN = sa.insert(turns)
_CREDIT = sa.update(turns).where(turns.c.priority == _LEVEL)
_CREDIT = _CREDIT.values(deficit_s=turns.c.deficit_s + bindparam("credit", type_=sa.Double))
_SERVED = (
    sa.update(turns)
    .where(turns.c.priority == _LEVEL, turns.c.tenant == _WHOSE)
    .values(deficit_s=bindparam("rest", type_=sa.Double), served_at=bindparam("turn", type_=sa.BigInteger))
)
_LEAVE = sa.delete(turns).where(turns.c.priority == _LEVEL, turns.c.tenant == _WHOSE)
_LEAVE_ALL = sa.delete(turns)
_LEAVE_UP_TO = sa.delete(turns).where(turns.c.priority <= _LEVEL)
_LEAVE_BEFORE = sa.delete(turns).where(turns.c.priority < _LEVEL)


@dataclass(frozen=True, slots=True)
class Chosen:
    job_id: str
    tenant: str = ""  # whose turn it was; empty when there was nobody else
    priority: int = 0


def choose(connection: sa.Connection) -> Chosen | None:
    """The job that is to be claimed now, its tenant's turn being taken; None when none is ready."""
    first = connection.execute(_FIRST).one_or_none()
    if first is None:
        connection.execute(_LEAVE_ALL)
        return None
    level = {"level": first.priority}
    if first.last_tenant == first.tenant:
        if first.turns:  # of those that had to wait, but do not any more
            connection.execute(_LEAVE_UP_TO, level)
        return Chosen(first.id)
    connection.execute(_LEAVE_BEFORE, level)
    return _take_turn(connection, level)


def claimed(connection: sa.Connection, chosen: Chosen) -> None:
    """It is claimed. If it was its tenant's last, the tenant leaves, and its credit with it."""
    here = {"level": chosen.priority, "whose": chosen.tenant}
    if chosen.tenant and connection.execute(_MORE, here).first() is None:
        connection.execute(_LEAVE, here)


def _take_turn(connection: sa.Connection, level: dict[str, int]) -> Chosen:
    heads = connection.execute(_HEADS, level).all()
    standings = {tenant: (deficit_s, at) for tenant, deficit_s, at in connection.execute(_STANDINGS, level).all()}
    number = max((at for _, at in standings.values()), default=0) + 1
    came = sorted((created_at, tenant) for tenant, _, _, created_at in heads if tenant not in standings)
    new = {tenant: (0.0, number + place) for place, (_, tenant) in enumerate(came)}
    if new:
        joins = [
            {"priority": level["level"], "tenant": t, "deficit_s": d, "served_at": at} for t, (d, at) in new.items()
        ]
        connection.execute(_JOIN, joins)
        standings |= new
    if gone := standings.keys() - {tenant for tenant, *_ in heads}:
        connection.execute(_LEAVE, [level | {"whose": tenant} for tenant in gone])
    turn = next_turn([Head(tenant, job_id, cost_s, *standings[tenant]) for tenant, job_id, cost_s, _ in heads])
    if turn.credit_s:
        connection.execute(_CREDIT, level | {"credit": turn.credit_s})
    served = {"whose": turn.head.tenant, "rest": turn.left_s, "turn": number + len(new)}
    connection.execute(_SERVED, level | served)
    return Chosen(turn.head.job_id, turn.head.tenant, level["level"])
