"""Whose job is claimed next, inside the transaction of the claim: turns between tenants (model/turns.py).

A tenant alone has no turns to take: it costs two looks at an index. With several, one look at each (a loose index
scan: SQL has no name for it, but a recursion that seeks the next tenant does it), so that ten thousand jobs of one cost
no more than one job. Choices are made one after another: SQLite has one writer, and on Postgres the claim holds a lock.
What ends or hands back a job corrects debts beside them, row by row: the rows that a choice is made by are locked, and
two transactions that bring the same tenant's first row meet on its key, where one of them is run again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate.adapters.records_sql.schema import is_state, jobs, ready
from cosygate.adapters.records_sql.schema_guard import turns
from cosygate.model.job import JobState
from cosygate.model.turns import Head, next_turn, price_s

_LEVEL = bindparam("level", type_=sa.Integer)
_LOWEST, _HIGHEST = bindparam("lowest", type_=sa.Integer), bindparam("highest", type_=sa.Integer)
ANY = (-(2**31), 2**31 - 1)  # priorities: all that the column holds
wanted = ready & jobs.c.priority.between(_LOWEST, _HIGHEST)
owing = turns.c.priority.between(_LOWEST, _HIGHEST)
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
_its = (turns.c.priority == jobs.c.priority) & (turns.c.tenant == jobs.c.tenant)
_DEBT = sa.select(turns.c.debt_s).where(_its).correlate(jobs).scalar_subquery()
_OTHERS = sa.exists(sa.select(sa.literal(1)).select_from(turns).where(~_its).correlate(jobs))
# The index jobs_of_tenant in its own order: the first two of the most urgent ones, and the last tenant among those.
_FIRST = (
    sa.select(jobs.c.id, jobs.c.tenant, jobs.c.priority, jobs.c.cost_s, _LAST_TENANT.label("last_tenant"))
    .add_columns(_DEBT.label("debt_s"), _OTHERS.label("others_owe"))
    .where(wanted)
    .order_by(jobs.c.priority, jobs.c.tenant, jobs.c.created_at, jobs.c.id)
    .limit(2)
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
    sa.select(_tenants.c.tenant, _oldest.c.id, _oldest.c.created_at, _oldest.c.cost_s)
    .join_from(_tenants, _oldest, _oldest.c.id == _OLDEST_OF_IT)
    .where(_tenants.c.tenant.is_not(None))
)
_DEBTS = sa.select(turns.c.tenant, turns.c.debt_s).where(turns.c.priority == _LEVEL).with_for_update()
_PAY = sa.update(turns).where(turns.c.priority == _LEVEL)
_PAY = _PAY.values(debt_s=turns.c.debt_s - bindparam("paid", type_=sa.Double))
_FORGET_PAID = sa.delete(turns).where(turns.c.priority == _LEVEL, turns.c.debt_s <= 0)
_OWE = sa.insert(turns)
_whose = bindparam("whose", type_=sa.Text)
_its_own = (turns.c.priority == _LEVEL) & (turns.c.tenant == _whose)
_OWE_ANEW = sa.update(turns).where(_its_own)
_OWE_ANEW = _OWE_ANEW.values(debt_s=bindparam("owed", type_=sa.Double))
_FORGET_ALL = sa.delete(turns).where(owing)
_FORGET_BEFORE = sa.delete(turns).where(turns.c.priority >= _LOWEST, turns.c.priority < _LEVEL)
_OWE_MORE = sa.update(turns).where(_its_own).values(debt_s=turns.c.debt_s + bindparam("more", type_=sa.Double))
_FORGET_ITS = sa.delete(turns).where(_its_own, turns.c.debt_s <= 0)
_FORGET_ITS_ALL = sa.delete(turns).where(_its_own)
# Each a range of the index: a crowd costs nothing.
_waits_before = sa.exists().where(_ready_here, jobs.c.tenant < _whose)
_waits_behind = sa.exists().where(_ready_here, jobs.c.tenant > _whose)
_OTHERS_WAIT = sa.select(_waits_before | _waits_behind)


def choose(connection: sa.Connection, priorities: tuple[int, int]) -> str | None:
    """The id of the job that is to be claimed now, its tenant's turn being taken; None when none is ready. `priorities`
    bounds what is looked at, and what is forgotten."""
    among = bounds(priorities)
    first, second = [*connection.execute(_FIRST, among).all(), None, None][:2]
    if first is None:
        connection.execute(_FORGET_ALL, among)
        return None
    alone = first.last_tenant == first.tenant
    more = alone and second is not None and second.priority == first.priority
    if alone and not first.others_owe:
        _alone(connection, first, more)
        return str(first.id)
    level = {"level": first.priority}
    connection.execute(_FORGET_BEFORE, among | level)  # nobody waits there
    debts: dict[str, float] = {row.tenant: row.debt_s for row in connection.execute(_DEBTS, level).all()}
    heads = [
        Head(tenant, job_id, created_at, cost_s, debts.get(tenant, 0.0))
        for tenant, job_id, created_at, cost_s in connection.execute(_HEADS, level).all()
    ]
    turn = next_turn(heads)
    if turn.paid_s > 0:
        connection.execute(_PAY, level | {"paid": turn.paid_s})
        connection.execute(_FORGET_PAID, level)
    others_owe = any(debt_s > turn.paid_s for debt_s in debts.values())
    if others_owe or len(heads) > 1 or more:
        connection.execute(_OWE, {"priority": first.priority, "tenant": turn.head.tenant, "debt_s": turn.owes_s})
    return turn.head.job_id


def bounds(priorities: tuple[int, int]) -> dict[str, Any]:
    """The parameters of `wanted` and `owing`."""
    return {"lowest": priorities[0], "highest": priorities[1]}


def correct(connection: sa.Connection, priority: int, tenant: str, more_s: float) -> None:
    """A job of the tenant was worth `more_s` seconds more than it was charged for when it was claimed, or less: then it
    owes so much less, but never less than nothing. Who owes nothing begins to only while others wait."""
    its = {"level": priority, "whose": tenant}
    owes = connection.execute(_OWE_MORE, its | {"more": more_s}).rowcount > 0
    if owes:
        if more_s < 0:
            connection.execute(_FORGET_ITS, its)
    elif more_s > 0 and connection.execute(_OTHERS_WAIT, its).scalar_one():
        connection.execute(_OWE, {"priority": priority, "tenant": tenant, "debt_s": more_s})


def _alone(connection: sa.Connection, first: Any, more: bool) -> None:
    """Nobody else waits or owes. With a crowd still waiting, it lets one pass who comes now; else it owes nobody."""
    if not more:
        if first.debt_s is not None:
            connection.execute(_FORGET_ITS_ALL, {"level": first.priority, "whose": first.tenant})
    elif first.debt_s is None:
        connection.execute(_OWE, {"priority": first.priority, "tenant": first.tenant, "debt_s": price_s(first.cost_s)})
    elif first.debt_s != price_s(first.cost_s):
        owed = {"level": first.priority, "whose": first.tenant, "owed": price_s(first.cost_s)}
        connection.execute(_OWE_ANEW, owed)
