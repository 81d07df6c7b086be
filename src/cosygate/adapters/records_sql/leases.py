"""Claiming, renewing, committing and giving back jobs, as transactions (reliability.md, "Job leasing").

Every write under a claim says `WHERE id AND fence AND state = 'running'`: a claim that was lost changes nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from cosygate.adapters.records_sql.schema import delayed, events, job_columns, jobs, ready, running, to_job
from cosygate.adapters.records_sql.sqlite import SqliteDatabase
from cosygate.errors import LostTooOften
from cosygate.model.job import MAX_ATTEMPTS, MAX_LOST, Claim, JobState, Requeue
from cosygate.ports.records import MAX_DELAY_S, Beat

_RIPE_AT_ONCE = 100  # delayed jobs that one claim makes ready


def held(job_id: str, fence: int) -> sa.ColumnElement[bool]:
    """The fence: true for the row of a claim that still holds."""
    return (jobs.c.id == job_id) & (jobs.c.fence == fence) & running


class SqlLeases:
    """ports/records.py, Leases."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def claim(self, claimant: str, now: float) -> Claim | None:
        def run(connection: sa.Connection) -> Claim | None:
            _ripen(connection, now)
            first = (
                sa.select(jobs.c.id)
                .where(ready)
                .order_by(jobs.c.priority, jobs.c.created_at, jobs.c.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            take = (
                sa.update(jobs)
                .where(jobs.c.id == first.scalar_subquery())
                .values(
                    state=JobState.RUNNING.value,
                    fence=jobs.c.fence + 1,
                    beat=0,
                    claimant=claimant,
                    percent=0,
                    started_at=now,
                )
                .returning(*job_columns)
            )
            row = connection.execute(take).one_or_none()
            if row is None:
                return None
            if row.fence > 1:
                connection.execute(sa.delete(events).where(events.c.job_id == row.id))
                connection.execute(sa.insert(events).values(job_id=row.id, kind="restarted", data={}))
            return Claim(to_job(row))

        return await self._database.write(run)

    async def renew(self, claim: Claim) -> bool:
        beat = sa.update(jobs).where(held(claim.job_id, claim.fence)).values(beat=jobs.c.beat + 1)
        return await self._database.write(lambda connection: connection.execute(beat).rowcount == 1)

    async def commit(
        self, claim: Claim, now: float, *, result: dict[str, Any] | None, error: tuple[str, str] | None = None
    ) -> bool:
        if (result is None) == (error is None):
            raise ValueError("a claim is committed with a result or an error")
        if error is not None:
            return await self._database.write(
                lambda connection: _fail(connection, held(claim.job_id, claim.fence), claim.job_id, now, error)
            )

        def run(connection: sa.Connection) -> bool:
            succeed = (
                sa.update(jobs)
                .where(held(claim.job_id, claim.fence))
                .values(
                    state=JobState.SUCCEEDED.value,
                    result=result,
                    result_fence=claim.fence,
                    percent=100,
                    finished_at=now,
                    claimant=None,
                )
            )
            if connection.execute(succeed).rowcount == 0:
                return False
            data = {"state": JobState.SUCCEEDED.value, "percent": 100}
            connection.execute(sa.insert(events).values(job_id=claim.job_id, kind="done", data=data))
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
        def run(connection: sa.Connection) -> JobState | None:
            mine = held(job_id, fence)
            if beat is not None:
                mine &= jobs.c.beat == beat
            row = connection.execute(sa.select(jobs.c.attempt, jobs.c.lost).where(mine).with_for_update()).one_or_none()
            if row is None:
                return None
            attempt = row.attempt + (why is Requeue.RECORDING)
            lost = row.lost + (why is Requeue.LOST)
            if attempt >= MAX_ATTEMPTS or lost >= MAX_LOST:
                last = error if attempt >= MAX_ATTEMPTS else (LostTooOften.code, LostTooOften.title)
                _fail(connection, mine, job_id, now, last, attempt=attempt, lost=lost)
                return JobState.FAILED
            back = {
                "state": JobState.QUEUED.value,
                "attempt": attempt,
                "lost": lost,
                "not_before": now + min(delay_s, MAX_DELAY_S) if delay_s > 0 else None,
                "claimant": None,
                "percent": 0,
                "started_at": None,
            }
            connection.execute(sa.update(jobs).where(mine).values(back))
            return JobState.QUEUED

        return await self._database.write(run)

    async def running(self, claimant: str | None = None) -> list[Beat]:
        query = sa.select(jobs.c.id, jobs.c.fence, jobs.c.beat).where(running)
        if claimant is not None:
            query = query.where(jobs.c.claimant == claimant)
        return await self._database.read(lambda connection: [Beat(*row) for row in connection.execute(query)])


def _ripen(connection: sa.Connection, now: float) -> None:
    """Delayed jobs whose time has come join the ready ones. A `not_before` further ahead than any requeue asks for was
    written before the clock was set back: it has come too."""
    come = (jobs.c.not_before <= now) | (jobs.c.not_before > now + MAX_DELAY_S)
    ripe = sa.select(jobs.c.id).where(delayed, come).limit(_RIPE_AT_ONCE).with_for_update(skip_locked=True)
    connection.execute(sa.update(jobs).where(jobs.c.id.in_(ripe)).values(not_before=None))


def _fail(
    connection: sa.Connection,
    mine: sa.ColumnElement[bool],
    job_id: str,
    now: float,
    error: tuple[str, str],
    **counts: int,
) -> bool:
    code, detail = error
    ended = {"state": JobState.FAILED.value, "finished_at": now, "claimant": None}
    ended |= {"error_code": code, "error_detail": detail}
    if connection.execute(sa.update(jobs).where(mine).values({**ended, **counts})).rowcount == 0:
        return False
    connection.execute(sa.insert(events).values(job_id=job_id, kind="failed", data={"code": code, "detail": detail}))
    return True
