"""Live sessions and one-time tickets, as transactions (reliability.md, "Live resume").

Every write under a claim says `WHERE id AND epoch AND state = 'open'`: a claim that was taken over changes nothing. On
Postgres that update also locks the row, so that whoever claims or finishes next waits for what this claim has begun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate import errors
from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.endings import ended
from cosygate.adapters.records_sql.locks import locked
from cosygate.adapters.records_sql.schema import (
    bound,
    events,
    is_state,
    jobs,
    live_columns,
    live_finals,
    live_sessions,
    mark_columns,
    open_live,
    spent_tickets,
    to_live,
    uploads,
)
from cosygate.model.job import JobState, NewJob
from cosygate.model.live import LiveSession, LiveState, SafeMark
from cosygate.model.principal import tenant_of
from cosygate.model.upload import UploadState
from cosygate.ports.live import HeldSession

SKEW_S = 60.0  # by which the clocks of two gateways may differ: no spent ticket is forgotten while one still takes it
_FORGOTTEN_AT_ONCE = 100  # many more than are added: one
_NO_SEGMENT = ("type", "start_sample", "end_sample")  # of a final, what a task's segment does not have

# The claim: true for the row of one that still holds. Its parameters come from `_of`.
_HELD = (live_sessions.c.id == bindparam("held_id")) & (live_sessions.c.epoch == bindparam("held_epoch")) & open_live

_COUNT_OF_OWNER = sa.select(sa.func.count()).where(live_sessions.c.owner == bindparam("mine"), open_live)
OPEN_OF_TENANT = sa.select(sa.func.count()).where(
    live_sessions.c.owner >= bindparam("first_owner"), live_sessions.c.owner < bindparam("beyond_owners"), open_live
)
_COUNT_OF_ALL = sa.select(sa.func.count()).where(open_live)
_INSERT = sa.insert(live_sessions)
_FIND = sa.select(*live_columns).where(live_sessions.c.id == bindparam("session"))
_CLAIM = (
    sa.update(live_sessions)
    .where(_HELD)
    .values(epoch=live_sessions.c.epoch + 1, holder=bindparam("by"), beat=0)
    .returning(*live_columns)
)


def _not_back(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """The higher of what is stored and what comes (the databases call the function by different names)."""
    coming = bindparam(f"to_{column.name}", type_=column.type)
    return sa.case((column < coming, coming), else_=column)


_MARK = sa.update(live_sessions).where(_HELD).values({column.name: _not_back(column) for column in mark_columns})
# In words, which both databases understand: SQLAlchemy has ON CONFLICT for one of them at a time.
_KEEP_FINAL = sa.text(
    "INSERT INTO live_finals (session_id, id, data) VALUES (:session, :number, :final) ON CONFLICT DO NOTHING"
).bindparams(
    bindparam("session", type_=sa.Text),
    bindparam("number", type_=sa.Integer),
    bindparam("final", type_=live_finals.c.data.type),
)
_FINISH = (
    sa.update(live_sessions)
    .where(_HELD)
    .values(state=LiveState.FINISHED.value, finished_at=bindparam("now", type_=sa.Double))
)
_FINISHED = sa.select(sa.literal(1)).where(
    live_sessions.c.id == bindparam("held_id"),
    live_sessions.c.epoch == bindparam("held_epoch"),
    is_state(live_sessions, LiveState.FINISHED),
)
_NAME_TAKEN = sa.select(sa.literal(1)).where(
    uploads.c.owner == bindparam("mine"), uploads.c.session_id == bindparam("name"), bound
)
_INSERT_UPLOAD = sa.insert(uploads)
_INSERT_JOB = sa.insert(jobs)
_TELL = sa.insert(events)
_FINALS = (
    sa.select(live_finals.c.data)
    .where(live_finals.c.session_id == bindparam("session"), live_finals.c.id > bindparam("after"))
    .order_by(live_finals.c.id)
)
_SOME_FINALS = _FINALS.limit(bindparam("most"))

_BEAT = (
    sa.update(live_sessions)
    .where(live_sessions.c.holder == bindparam("by"), open_live)
    .values(beat=live_sessions.c.beat + 1)
)
_OPEN = sa.select(live_sessions.c.id, live_sessions.c.epoch, live_sessions.c.holder, live_sessions.c.beat).where(
    open_live
)
# The marks are asked too: what is stored of a session is somebody's speech, whatever the caller believes.
_DISCARD = sa.delete(live_sessions).where(_HELD, *(column == 0 for column in mark_columns))

_SPEND = sa.text(
    "INSERT INTO spent_tickets (id, expires_at) VALUES (:ticket, :until) ON CONFLICT DO NOTHING"
).bindparams(bindparam("ticket", type_=sa.Text), bindparam("until", type_=sa.Double))
_EXPIRED = (
    sa.select(spent_tickets.c.id)
    .where(spent_tickets.c.expires_at < bindparam("before", type_=sa.Double))
    .order_by(spent_tickets.c.expires_at)
    .limit(_FORGOTTEN_AT_ONCE)
    .with_for_update(skip_locked=True)
)
_FORGET = sa.delete(spent_tickets).where(spent_tickets.c.id.in_(_EXPIRED))


def owners_of(tenant: str) -> dict[str, Any]:
    """OPEN_OF_TENANT's parameters: every owner's key begins with the tenant and a slash, and no tenant has one."""
    return {"first_owner": f"{tenant}/", "beyond_owners": f"{tenant}{chr(ord('/') + 1)}"}


def _of(session_id: str, epoch: int) -> dict[str, Any]:
    """_HELD's parameters."""
    return {"held_id": session_id, "held_epoch": epoch}


class SqlLiveSessions:
    """ports/live.py, LiveSessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, session: LiveSession, *, max_of_owner: int, max_of_all: int, max_of_tenant: int = 0) -> None:
        values = {name: getattr(session, name) for name in LiveSession.__dataclass_fields__ if name != "mark"}
        values |= {column.name: getattr(session.mark, column.name) for column in mark_columns}
        values |= {"state": session.state.value, "format": session.format.value, "beat": 0}

        tenants = owners_of(tenant_of(session.owner))

        def run(connection: sa.Connection) -> None:
            locked(connection, "live sessions")  # all are counted: by an owner's alone, others would come in beside it
            if connection.execute(_COUNT_OF_OWNER, {"mine": session.owner}).scalar_one() >= max_of_owner:
                raise errors.TooManySessions(f"at most {max_of_owner} sessions may be open at once", limit=max_of_owner)
            if max_of_tenant and (used := connection.execute(OPEN_OF_TENANT, tenants).scalar_one()) >= max_of_tenant:
                told = f"the tenant may have at most {max_of_tenant} live sessions open at once"
                raise errors.QuotaExceeded(told, quota="live", limit=max_of_tenant, used=used)
            if connection.execute(_COUNT_OF_ALL).scalar_one() >= max_of_all:
                raise errors.SessionsFull()
            connection.execute(_INSERT, values)

        await self._database.write(run)

    async def find(self, session_id: str) -> LiveSession | None:
        def run(connection: sa.Connection) -> LiveSession | None:
            row = connection.execute(_FIND, {"session": session_id}).one_or_none()
            return to_live(row) if row else None

        return await self._database.read(run)

    async def claim(self, session_id: str, seen_epoch: int, holder: str) -> LiveSession | None:
        where = _of(session_id, seen_epoch) | {"by": holder}

        def run(connection: sa.Connection) -> LiveSession | None:
            row = connection.execute(_CLAIM, where).one_or_none()
            return to_live(row) if row else None

        return await self._database.write(run)

    async def keep(self, session_id: str, epoch: int, finals: Sequence[Mapping[str, Any]], mark: SafeMark) -> bool:
        mine = _of(session_id, epoch)
        marked = mine | {f"to_{column.name}": getattr(mark, column.name) for column in mark_columns}
        rows = [{"session": session_id, "number": final["id"], "final": dict(final)} for final in finals]

        def run(connection: sa.Connection) -> bool:
            if connection.execute(_MARK, marked).rowcount == 0:
                return _is_finished(connection, mine)
            if rows:
                connection.execute(_KEEP_FINAL, rows)
            return True

        return await self._database.write(run)

    async def finish(self, session_id: str, epoch: int, job: NewJob, result: Mapping[str, Any], now: float) -> bool:
        """The story is what a recording's job has in the end: its segments, the last progress, done. There is no hint
        in the outbox: nothing is left to run."""
        if not session_id == job.id == job.upload_id:
            raise ValueError("a live session's id is its upload's and its job's")
        mine = _of(session_id, epoch)

        def run(connection: sa.Connection) -> bool:
            if connection.execute(_FINISH, mine | {"now": now}).rowcount == 0:
                return _is_finished(connection, mine)
            connection.execute(_INSERT_UPLOAD, _upload_of(connection, job, now))
            connection.execute(_INSERT_JOB, _succeeded(job, epoch, result, now))
            connection.execute(_TELL, _story(connection, job.id))
            seconds = float(result.get("duration") or 0.0)
            ended(connection, job, JobState.SUCCEEDED, now, door="live", seconds=seconds)
            return True

        return await self._database.write(run)


def _is_finished(connection: sa.Connection, mine: Mapping[str, Any]) -> bool:
    """By this very claim: whoever did not hear that the transaction was committed begins its end again."""
    return connection.execute(_FINISHED, mine).one_or_none() is not None


def _upload_of(connection: sa.Connection, job: NewJob, now: float) -> dict[str, Any]:
    """Under the job's session_id. Its owner, who knows the session's id, may have an upload of that very name: then
    under one that no client can ask for (check_session_id), so that nothing keeps a session from being finished."""
    taken = connection.execute(_NAME_TAKEN, {"mine": job.owner, "name": job.session_id}).one_or_none()
    return {
        "id": job.upload_id,
        "owner": job.owner,
        "session_id": f"live:{job.upload_id}" if taken else job.session_id,
        "state": UploadState.COMPLETE.value,
        "created_at": job.created_at,
        "expires_at": now,  # asked of open and closed ones alone
        "job_id": job.id,
    }


def _succeeded(job: NewJob, epoch: int, result: Mapping[str, Any], now: float) -> dict[str, Any]:
    fresh = {name: getattr(job, name) for name in NewJob.__dataclass_fields__} | {"tenant": tenant_of(job.owner)}
    counts = {"beat": 0, "attempt": 0, "lost": 0, "percent": 100, "fence": epoch, "result_fence": epoch}
    times = {"started_at": job.created_at, "finished_at": now}
    return fresh | counts | times | {"state": JobState.SUCCEEDED.value, "result": dict(result)}


def _story(connection: sa.Connection, job_id: str) -> list[dict[str, Any]]:
    finals = connection.execute(_FINALS, {"session": job_id, "after": -1}).scalars()
    told = [("segment", {k: v for k, v in final.items() if k not in _NO_SEGMENT}) for final in finals]
    told.append(("progress", {"percent": 100}))
    told.append(("done", {"state": JobState.SUCCEEDED.value, "percent": 100}))
    return [{"job_id": job_id, "kind": kind, "data": data} for kind, data in told]


class SqlLiveKeeping:
    """ports/live.py, LiveKeeping."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def beat(self, holder: str) -> None:
        await self._database.write(lambda connection: connection.execute(_BEAT, {"by": holder}).rowcount)

    async def open_sessions(self) -> list[HeldSession]:
        return await self._database.read(lambda connection: [HeldSession(*row) for row in connection.execute(_OPEN)])

    async def discard(self, session_id: str, epoch: int) -> bool:
        mine = _of(session_id, epoch)
        return await self._database.write(lambda connection: connection.execute(_DISCARD, mine).rowcount == 1)

    async def finals(self, session_id: str, after: int, limit: int) -> list[dict[str, Any]]:
        where = {"session": session_id, "after": after, "most": limit}
        return await self._database.read(lambda connection: list(connection.execute(_SOME_FINALS, where).scalars()))


class SqlOneTime:
    """ports/live.py, OneTime."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def spend(self, ticket_id: str, expires_at: float, now: float) -> bool:
        """A ticket that has expired since it was checked is refused: who spent it might be forgotten already."""
        if expires_at < now:
            return False
        spent = {"ticket": ticket_id, "until": expires_at}

        def run(connection: sa.Connection) -> bool:
            first = connection.execute(_SPEND, spent).rowcount == 1
            connection.execute(_FORGET, {"before": now - SKEW_S})
            return first

        return await self._database.write(run)
