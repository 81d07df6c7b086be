"""What an operator does to a database before a server uses it: its schema brought up to date, and an embedded
installation's rows carried from SQLite into an empty Postgres.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import sqlalchemy as sa

from cosygate.adapters.records_sql import SqlRecords, is_postgres
from cosygate.adapters.records_sql.database import T, Transaction
from cosygate.adapters.records_sql.migrate import REVISIONS, revision_of, upgrade_postgres
from cosygate.adapters.records_sql.schema import metadata
from cosygate.adapters.records_sql.schema_guard import schema_compat

_BATCH = 1_000  # rows that are in memory at once
_STATEMENT_S = 3_600.0  # indexes over millions of rows take their time
_BUSY_S = 30.0
TABLES = tuple(table for table in metadata.sorted_tables if table is not schema_compat)  # who is pointed at first


class CannotMove(Exception):
    """What has to be done first, in words for the operator. Nothing has been changed."""


async def bring_up(url: str) -> tuple[str | None, str]:
    """Gives a database this code's schema: the revision before (None: it was empty) and after.

    Raises what SqlRecords.open raises, but SchemaTooOld.
    """
    if is_postgres(url):
        before = await _on_postgres(url, lambda connection: upgrade_postgres(connection, only_empty=False))
    else:
        before = await asyncio.to_thread(_sqlite_revision, Path(sa.make_url(url).database or ""))
        await (await SqlRecords.open(url, durability="disk", busy_s=_BUSY_S)).close()
    return before, before if before is not None and before > REVISIONS[-1] else REVISIONS[-1]


async def move(source: Path, url: str) -> dict[str, int]:
    """Copies every row of the SQLite database `source` into the Postgres at `url`, which gets its schema and has to be
    empty, in one transaction: rows per table. `source` stays as it is.

    Running claims and open live sessions go with it: a reaper and a keeper give them back, as after a crash. Raises
    CannotMove, DatabaseBusy, StorageFull.
    """
    if not await asyncio.to_thread(source.is_file):
        raise CannotMove(f"{source} is not there")
    with _alone_in(source.parent):
        engine = _sqlite(source)
        try:
            with engine.connect() as rows:
                rows.exec_driver_sql("BEGIN")  # all of it as it is at one moment
                _check_source(rows)
                return await _on_postgres(url, lambda connection: _copy(rows, connection))
        except sa.exc.IntegrityError as error:
            raise CannotMove(f"the database to move is damaged: {error.orig}".partition("\n")[0]) from error
        finally:
            engine.dispose()


def _check_source(rows: sa.Connection) -> None:
    revision = revision_of(rows)
    if revision != REVISIONS[-1]:
        has = "no tables" if revision is None else f"schema {revision}"
        raise CannotMove(f"the database to move has {has}, not {REVISIONS[-1]}: run cosygate migrate on it first")


async def _on_postgres(url: str, run: Transaction[T]) -> T:
    from cosygate.adapters.records_sql.postgres import PostgresDatabase

    database = PostgresDatabase(url, busy_s=_BUSY_S, statement_s=_STATEMENT_S, pool=1, overflow=0)
    try:
        return await database.write(run)
    finally:
        await database.close()


def _copy(rows: sa.Connection, target: sa.Connection) -> dict[str, int]:
    upgrade_postgres(target, only_empty=False)
    names = ", ".join(table.name for table in TABLES)
    target.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")  # who reads may go on, who would write waits
    for table in TABLES:
        if target.execute(sa.select(sa.exists().select_from(table))).scalar_one():
            raise CannotMove(f"the database to move into is not empty: there are rows in {table.name}")
    copied = {table.name: _copy_table(rows, target, table) for table in TABLES}
    for table in TABLES:
        there = target.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        if there != copied[table.name]:
            raise CannotMove(f"of {copied[table.name]} rows of {table.name} only {there} arrived")
    _number_on(rows, target)
    return copied


def _copy_table(rows: sa.Connection, target: sa.Connection, table: sa.Table) -> int:
    count = 0
    found = rows.execution_options(yield_per=_BATCH).execute(sa.select(table))
    for batch in found.mappings().partitions():
        target.execute(sa.insert(table), [dict(row) for row in batch])
        count += len(batch)
    return count


def _number_on(rows: sa.Connection, target: sa.Connection) -> None:
    """New events and hints get numbers above all that there ever were: a Last-Event-ID stays meaningful."""
    for name, highest in rows.exec_driver_sql("SELECT name, seq FROM sqlite_sequence").all():
        if name in metadata.tables and highest > 0:
            target.execute(sa.select(sa.func.setval(sa.func.pg_get_serial_sequence(name, "seq"), highest)))


def _sqlite(path: Path) -> sa.Engine:
    url = sa.URL.create("sqlite", database=str(path))
    return sa.create_engine(url, poolclass=sa.NullPool, json_deserializer=orjson.loads, hide_parameters=True)


def _sqlite_revision(path: Path) -> str | None:
    if not path.is_file():
        return None
    engine = _sqlite(path)
    try:
        with engine.connect() as connection:
            return revision_of(connection)
    finally:
        engine.dispose()


@contextmanager
def _alone_in(data_dir: Path) -> Iterator[None]:
    """Keeps a server from starting on the data folder meanwhile (serve takes the same lock). Raises CannotMove."""
    descriptor = os.open(data_dir / "serve.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise CannotMove(f"a server uses the data folder {data_dir}: stop it first") from None
    finally:
        os.close(descriptor)
