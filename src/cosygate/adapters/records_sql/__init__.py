"""Records on SQL: ports/records.py and ports/live.py on SQLite.

`schema` says what the tables are, `sqlite` how transactions run, `migrate` how a database gets its schema, `faults`
what the driver's errors mean; `uploads`, `jobs`, `leases`, `events` and `live` are the transactions, one class per
protocol of the ports. They are plain functions of a connection in SQL that Postgres speaks too: another database brings
its own `sqlite.py`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Literal, Self

import sqlalchemy as sa

from cosygate.adapters.records_sql.depth import SqlDepth
from cosygate.adapters.records_sql.events import SqlEvents, SqlHealth, SqlOutbox
from cosygate.adapters.records_sql.jobs import SqlJobs
from cosygate.adapters.records_sql.keys import SqlKeys, SqlRevocations
from cosygate.adapters.records_sql.leases import SqlLeases
from cosygate.adapters.records_sql.live import SqlLiveKeeping, SqlLiveSessions, SqlOneTime
from cosygate.adapters.records_sql.migrate import SchemaTooNew, upgrade
from cosygate.adapters.records_sql.receivers import SqlReceivers
from cosygate.adapters.records_sql.sqlite import SqliteDatabase
from cosygate.adapters.records_sql.switches import SqlSwitches
from cosygate.adapters.records_sql.uploads import SqlUploads
from cosygate.adapters.records_sql.usage import SqlQuotas, SqlUsage
from cosygate.adapters.records_sql.webhooks import SqlDeliveries, SqlSending

__all__ = ["SchemaTooNew", "SqlRecords"]


class SqlRecords:
    """One process's door to the records; each attribute is one protocol of ports/records.py or ports/live.py."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.uploads = SqlUploads(database)
        self.jobs = SqlJobs(database)
        self.leases = SqlLeases(database)
        self.events = SqlEvents(database)
        self.outbox = SqlOutbox(database)
        self.health = SqlHealth(database)
        self.depth = SqlDepth(database)
        self.live = SqlLiveSessions(database)
        self.live_keeping = SqlLiveKeeping(database)
        self.one_time = SqlOneTime(database)
        self.switches = SqlSwitches(database)
        self.keys = SqlKeys(database)
        self.revocations = SqlRevocations(database)
        self.usage = SqlUsage(database)
        self.quotas = SqlQuotas(database)
        self.sending = SqlSending(database)
        self.deliveries = SqlDeliveries(database)
        self.receivers = SqlReceivers(database)

    @classmethod
    async def open(cls, url: str, *, durability: Literal["disk", "process"], busy_s: float = 5.0) -> Self:
        """Opens `sqlite:///PATH` (the folder exists) and brings it to this code's schema.

        `durability`: what has been returned survives power loss (`disk`) or kill -9 (`process`). `busy_s`: seconds that
        a call waits for a lock in all. Raises SchemaTooNew, DatabaseBusy, StorageFull, ValueError for another url.
        """
        parsed = sa.make_url(url)
        if parsed.drivername != "sqlite" or not parsed.database:
            raise ValueError("the database url is sqlite:///PATH")
        path = Path(parsed.database)
        await asyncio.to_thread(_create_private, path)
        database = await asyncio.to_thread(SqliteDatabase, path, durability=durability, busy_s=busy_s)
        try:
            await database.prepare(lambda connection: upgrade(connection, path))
        except BaseException:
            await database.close()
            raise
        return cls(database)

    async def close(self) -> None:
        """Finishes what was begun and ends threads and connections. Later calls raise DatabaseBusy."""
        await self._database.close()


def _create_private(path: Path) -> None:
    """Transcripts live in it: readable by its owner alone. SQLite gives its WAL the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
