"""Records on SQL: ports/records.py and ports/live.py, on SQLite or Postgres.

`schema` says what the tables are, `sqlite` and `postgres` how transactions run, `migrate` how a database gets its
schema, `faults` what the drivers' errors mean, `locks` what needs more than a row's lock; `uploads`, `jobs`, `leases`,
`events` and `live` are the transactions, one class per protocol of the ports. They are plain functions of a connection,
in SQL that both databases speak. `move` carries an installation from one to the other.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Literal, Self

import sqlalchemy as sa

from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.depth import SqlDepth
from cosygate.adapters.records_sql.events import SqlEvents, SqlHealth, SqlOutbox
from cosygate.adapters.records_sql.jobs import SqlJobs
from cosygate.adapters.records_sql.keys import SqlKeys, SqlRevocations
from cosygate.adapters.records_sql.leases import SqlLeases
from cosygate.adapters.records_sql.live import SqlLiveKeeping, SqlLiveSessions, SqlOneTime
from cosygate.adapters.records_sql.migrate import SchemaTooNew, SchemaTooOld, upgrade, upgrade_postgres
from cosygate.adapters.records_sql.receivers import SqlReceivers
from cosygate.adapters.records_sql.sqlite import SqliteDatabase
from cosygate.adapters.records_sql.switches import SqlSwitches
from cosygate.adapters.records_sql.uploads import SqlUploads
from cosygate.adapters.records_sql.usage import SqlQuotas, SqlUsage
from cosygate.adapters.records_sql.versions import SqlVersions
from cosygate.adapters.records_sql.webhooks import SqlDeliveries, SqlSending

__all__ = ["SchemaTooNew", "SchemaTooOld", "SqlRecords", "is_postgres"]


class SqlRecords:
    """One process's door to the records; each attribute is one protocol of ports/records.py or ports/live.py."""

    def __init__(self, database: Database) -> None:
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
        self.versions = SqlVersions(database)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        durability: Literal["disk", "process"],
        busy_s: float = 5.0,
        pool: int = 20,
        overflow: int = 40,
    ) -> Self:
        """Opens `sqlite:///PATH` (the folder exists) and brings it to this code's schema, or opens
        `postgresql://user:password@host/name` and gives it its tables if it has none.

        `durability`: what has been returned survives power loss (`disk`) or kill -9 (`process`); Postgres knows only
        the first (its `synchronous_commit` stays as the server has it). `busy_s`: seconds that a call waits for a lock
        in all. `pool`, `overflow`: connections to Postgres that are kept, and opened beyond those.

        Raises SchemaTooNew, SchemaTooOld (a Postgres that `cosygate migrate` is for), DatabaseBusy, StorageFull,
        ValueError for another url.
        """
        if is_postgres(url):
            return await cls._open_postgres(url, busy_s, pool, overflow)
        parsed = sa.make_url(url)
        if parsed.drivername != "sqlite" or not parsed.database:
            raise ValueError("the database url is sqlite:///PATH or postgresql://user:password@host/name")
        path = Path(parsed.database)
        await asyncio.to_thread(_create_private, path)
        database = await asyncio.to_thread(SqliteDatabase, path, durability=durability, busy_s=busy_s)
        try:
            await database.prepare(lambda connection: upgrade(connection, path))
        except BaseException:
            await database.close()
            raise
        return cls(database)

    @classmethod
    async def _open_postgres(cls, url: str, busy_s: float, pool: int, overflow: int) -> Self:
        from cosygate.adapters.records_sql.postgres import PostgresDatabase  # an installation without needs no driver

        database = PostgresDatabase(url, busy_s=busy_s, pool=pool, overflow=overflow)
        try:
            await database.write(lambda connection: upgrade_postgres(connection, only_empty=True))
        except BaseException:
            await database.close()
            raise
        return cls(database)

    async def close(self) -> None:
        """Finishes what was begun and ends threads and connections. Later calls raise DatabaseBusy."""
        await self._database.close()


def is_postgres(url: str) -> bool:
    return url.partition("://")[0] in ("postgresql", "postgres", "postgresql+asyncpg")


def _create_private(path: Path) -> None:
    """Transcripts live in it: readable by its owner alone. SQLite gives its WAL the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
