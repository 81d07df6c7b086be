"""Claiming, renewing, committing and giving back jobs, as transactions (reliability.md, "Job leasing").

Every write under a claim says `WHERE id AND fence AND state = 'running'`: a claim that was lost changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate.adapters.records_sql import turns
from cosygate.adapters.records_sql.database import Database, Overtaken
from cosygate.adapters.records_sql.endings import ended
from cosygate.adapters.records_sql.locks import locked
from cosygate.adapters.records_sql.schema import (
    delayed,
    events,
    is_state,
    job_columns,
    jobs,
    ready,
    running,
    to_job,
)
from cosygate.adapters.records_sql.schema_guard import turns as debts
from cosygate.errors import LostTooOften
from cosygate.model.job import MAX_ATTEMPTS, MAX_LOST, Claim, JobState, Requeue
from cosygate.model.turns import price_s, still_owed_s
from cosygate.ports.records import MAX_DELAY_S, Beat

# The fence: true for the row of a claim that still holds. Its parameters come from `of`.
_ITS = (jobs.c.id == bindparam("held_id")) & (jobs.c.fence == bindparam("held_fence"))
HELD = _ITS & running

_NOW = bindparam("now", type_=sa.Double)
# A `not_before` further ahead than any requeue asks for was written before the clock was set back: it has come too.
# (`delayed` stands in both halves, so that each is a range of its index.)
_COME = (delayed & (jobs.c.not_before <= _NOW)) | (delayed & (jobs.c.not_before > _NOW + MAX_DELAY_S))
# At most 100 at once: a claim takes one, so that no crowd of them can come that this does not clear.
_RIPE = sa.select(jobs.c.id).where(_COME).limit(100).with_for_update(skip_locked=True)
_RIPEN = sa.update(jobs).where(jobs.c.id.in_(_RIPE)).values(not_before=None)
# What a claim has to do: who finds nothing takes no lock and writes nothing, however often it looks.
_LOOK = sa.select(
    sa.exists(sa.select(sa.literal(1)).where(turns.wanted)).label("waiting"),
    sa.exists(sa.select(sa.literal(1)).select_from(jobs).where(_COME)).label("ripe"),
    sa.exists(sa.select(sa.literal(1)).select_from(debts).where(turns.owing)).label("owing"),
)
_CLAIM = (
    sa.update(jobs)
    .where(jobs.c.id == bindparam("chosen"), ready)
    .values(state=JobState.RUNNING.value, fence=jobs.c.fence + 1, beat=0, percent=0)
    .values(claimant=bindparam("by"), started_at=bindparam("now"))
    .returning(*job_columns)
)
_FORGET_STORY = sa.delete(events).where(events.c.job_id == bindparam("job"))
_TELL = sa.insert(events)
_RENEW = sa.update(jobs).where(HELD).values(beat=jobs.c.beat + 1)
_SUCCEED = (
    sa.update(jobs)
    .where(HELD)
    .values(state=JobState.SUCCEEDED.value, percent=100, claimant=None)
    .values(result=bindparam("transcript", type_=jobs.c.result.type), result_fence=jobs.c.fence)
    .values(finished_at=bindparam("now"))
    .returning(jobs.c.id, jobs.c.owner, jobs.c.callback_url, jobs.c.priority, jobs.c.tenant, jobs.c.cost_s)
)
# By this very claim: a job that has ended is never claimed again.
_SUCCEEDED = sa.select(sa.literal(1)).where(_ITS, is_state(jobs, JobState.SUCCEEDED))
_FAILED = sa.select(sa.literal(1)).where(_ITS, is_state(jobs, JobState.FAILED), jobs.c.error_code == bindparam("code"))
_FAIL = (
    sa.update(jobs)
    .where(HELD)
    .values(state=JobState.FAILED.value, claimant=None, finished_at=bindparam("now"))
    .values(error_code=bindparam("code"), error_detail=bindparam("detail"))
    .returning(jobs.c.id, jobs.c.owner, jobs.c.callback_url)
)
_TOLD = sa.select(sa.func.count()).where(events.c.job_id == bindparam("job"), events.c.kind == "segment")
_COUNTS = sa.select(jobs.c.attempt, jobs.c.lost, jobs.c.beat, jobs.c.priority, jobs.c.tenant, jobs.c.cost_s)
_COUNTS = _COUNTS.where(HELD).with_for_update()
_COUNT = sa.update(jobs).where(HELD).values(attempt=bindparam("attempts"), lost=bindparam("losses"))
_BACK = (
    sa.update(jobs)
    .where(HELD)
    .values(state=JobState.QUEUED.value, claimant=None, percent=0, started_at=None)
    .values(not_before=bindparam("until"))
)
_RUNNING = sa.select(jobs.c.id, jobs.c.fence, jobs.c.beat).where(running)
_RUNNING_OF = _RUNNING.where(jobs.c.claimant == bindparam("by"))


def of(job_id: str, fence: int) -> dict[str, Any]:
    """HELD's parameters."""
    return {"held_id": job_id, "held_fence": fence}


def untold(
    connection: sa.Connection, job_id: str, segments: Sequence[tuple[str, Any]], after: int | None
) -> list[dict[str, Any]]:
    """Rows of those segment events that are not there yet. `after`: see Events.append in ports/records.py. Whoever asks
    has locked the job's row."""
    if after is not None and segments:
        segments = segments[connection.execute(_TOLD, {"job": job_id}).scalar_one() - after :]
    return [{"job_id": job_id, "kind": kind, "data": data} for kind, data in segments]


class SqlLeases:
    """ports/records.py, Leases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, claimant: str, now: float, *, priorities: tuple[int, int] | None = None) -> Claim | None:
        among = turns.ANY if priorities is None else priorities

        def run(connection: sa.Connection) -> Claim | None:
            look = connection.execute(_LOOK, turns.bounds(among) | {"now": now}).one()
            if not any(look):
                return None
            locked(connection, "claim")
            if look.ripe:
                connection.execute(_RIPEN, {"now": now})
            chosen = turns.choose(connection, among)
            if chosen is None:
                return None
            row = connection.execute(_CLAIM, {"chosen": chosen, "by": claimant, "now": now}).one_or_none()
            if row is None:
                raise Overtaken  # its owner has just cancelled it: the turn is not taken either
            if row.fence > 1:
                connection.execute(_FORGET_STORY, {"job": row.id})
                connection.execute(_TELL, {"job_id": row.id, "kind": "restarted", "data": {}})
            return Claim(to_job(row))

        return await self._database.write(run)

    async def renew(self, claim: Claim) -> bool:
        mine = of(claim.job_id, claim.fence)
        return await self._database.write(lambda connection: connection.execute(_RENEW, mine).rowcount == 1)

    async def commit(
        self,
        claim: Claim,
        now: float,
        *,
        result: dict[str, Any] | None,
        error: tuple[str, str] | None = None,
        segments: Sequence[tuple[str, dict[str, Any]]] = (),
        after: int | None = None,
    ) -> bool:
        if (result is None) == (error is None):
            raise ValueError("a claim is committed with a result or an error")
        mine = of(claim.job_id, claim.fence)

        def run(connection: sa.Connection) -> bool:
            if error is not None:
                if _fail(connection, mine, now, error):
                    return True
                return connection.execute(_FAILED, mine | {"code": error[0]}).first() is not None
            row = connection.execute(_SUCCEED, mine | {"transcript": result, "now": now}).one_or_none()
            if row is None:
                return connection.execute(_SUCCEEDED, mine).first() is not None
            done = {"state": JobState.SUCCEEDED.value, "percent": 100}
            rows = untold(connection, claim.job_id, segments, after)
            connection.execute(_TELL, [*rows, {"job_id": claim.job_id, "kind": "done", "data": done}])
            told = (result or {}).get("duration")
            seconds = float(told or 0.0)
            if told is not None and (beside_s := still_owed_s(row.cost_s, seconds)) != 0.0:
                turns.correct(connection, row.priority, row.tenant, beside_s)
            ended(connection, row, JobState.SUCCEEDED, now, seconds=seconds)
            return True

        return await self._database.write(run)

    async def requeue(
        self,
        job_id: str,
        fence: int,
        why: Requeue,
        now: float,
        *,
        delay_s: float = 0.0,
        error: tuple[str, str] = (LostTooOften.code, ""),
        beat: int | None = None,
    ) -> JobState | None:
        mine = of(job_id, fence)

        def run(connection: sa.Connection) -> JobState | None:
            row = connection.execute(_COUNTS, mine).one_or_none()
            if row is None or beat not in (None, row.beat):
                return None
            attempts = row.attempt + (why is Requeue.RECORDING)
            losses = row.lost + (why is Requeue.LOST)
            connection.execute(_COUNT, mine | {"attempts": attempts, "losses": losses})
            if attempts >= MAX_ATTEMPTS:
                _fail(connection, mine, now, error)
            elif losses >= MAX_LOST:
                _fail(connection, mine, now, (LostTooOften.code, LostTooOften.title))
            else:
                until = now + min(delay_s, MAX_DELAY_S) if delay_s > 0 else None
                connection.execute(_BACK, mine | {"until": until})
                if why is not Requeue.RECORDING:  # its tenant has had nothing for it, and is not to blame
                    turns.correct(connection, row.priority, row.tenant, -price_s(row.cost_s))
                return JobState.QUEUED
            return JobState.FAILED

        return await self._database.write(run)

    async def running(self, claimant: str | None = None) -> list[Beat]:
        query, who = (_RUNNING, {}) if claimant is None else (_RUNNING_OF, {"by": claimant})
        return await self._database.read(lambda connection: [Beat(*row) for row in connection.execute(query, who)])


def _fail(connection: sa.Connection, mine: dict[str, Any], now: float, error: tuple[str, str]) -> bool:
    code, detail = error
    row = connection.execute(_FAIL, mine | {"now": now, "code": code, "detail": detail}).one_or_none()
    if row is None:
        return False
    data = {"code": code, "detail": detail}
    connection.execute(_TELL, {"job_id": mine["held_id"], "kind": "failed", "data": data})
    ended(connection, row, JobState.FAILED, now)
    return True
