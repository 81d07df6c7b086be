"""A job's story, the hints that wait to be sent, and the database's health, as transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from cosygate.adapters.records_sql.leases import held
from cosygate.adapters.records_sql.schema import events, jobs, outbox
from cosygate.adapters.records_sql.sqlite import SqliteDatabase
from cosygate.model.job import Claim, JobEvent, JobState

_CHECK_S = 1.0  # how long a health check waits for the write lock


class SqlEvents:
    """ports/records.py, Events."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def append(self, claim: Claim, new: Sequence[tuple[str, dict[str, Any]]], percent: int | None) -> bool:
        """A percent becomes a `progress` event after the others. Of a job's progress events only the last is kept:
        it alone says something, and a long job would leave thousands."""
        rows = [{"job_id": claim.job_id, "kind": kind, "data": data} for kind, data in new if kind != "progress"]
        told = [data["percent"] for kind, data in new if kind == "progress"]
        percent = percent if percent is not None or not told else told[-1]
        if percent is not None:
            rows.append({"job_id": claim.job_id, "kind": "progress", "data": {"percent": percent}})

        def run(connection: sa.Connection) -> bool:
            # An update even when there is no percent: it locks the row against a claim of another worker.
            now_at = sa.update(jobs).where(held(claim.job_id, claim.fence))
            now_at = now_at.values(percent=jobs.c.percent if percent is None else percent)
            if connection.execute(now_at).rowcount == 0:
                return False
            if percent is not None:
                earlier = (events.c.job_id == claim.job_id) & (events.c.kind == "progress")
                connection.execute(sa.delete(events).where(earlier))
            if rows:
                connection.execute(sa.insert(events), rows)
            return True

        return await self._database.write(run)

    async def read(self, job_id: str, after: int, limit: int) -> list[JobEvent]:
        query = (
            sa.select(events.c.seq, events.c.kind, events.c.data)
            .where(events.c.job_id == job_id, events.c.seq > after)
            .order_by(events.c.seq)
            .limit(limit)
        )
        return await self._database.read(lambda connection: [JobEvent(*row) for row in connection.execute(query)])


class SqlOutbox:
    """ports/records.py, Outbox."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def take(self, limit: int) -> list[str]:
        oldest = sa.select(outbox.c.seq).order_by(outbox.c.seq).limit(limit).with_for_update(skip_locked=True)
        take = sa.delete(outbox).where(outbox.c.seq.in_(oldest)).returning(outbox.c.seq, outbox.c.job_id)

        def run(connection: sa.Connection) -> list[str]:
            return [row.job_id for row in sorted(connection.execute(take), key=lambda row: row.seq)]

        return await self._database.write(run)


class SqlHealth:
    """ports/records.py, RecordsHealth."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def check(self) -> None:
        await self._database.write(lambda connection: None, within_s=_CHECK_S)

    async def counts(self) -> dict[str, int]:
        query = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)

        def run(connection: sa.Connection) -> dict[str, int]:
            return {row[0]: row[1] for row in connection.execute(query)}

        found = await self._database.read(run)
        return {state.value: found.get(state.value, 0) for state in JobState}
