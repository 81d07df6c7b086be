"""SQLite behind asyncio: one thread writes, two read, and writes that wait at the same time share one commit.

A transaction is a plain function of a SQLAlchemy `Connection`, and the whole of it runs on a thread of this module.
(The asyncio driver hops to a thread per statement and reaches a fifth of the rate: docs/jobs.md.) Writes that arrive
while others commit form the next batch: one BEGIN IMMEDIATE and one fsync for all of them, a savepoint for each.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import sqlalchemy as sa

from cosygate import errors
from cosygate.adapters.records_sql.database import T, Transaction
from cosygate.adapters.records_sql.faults import primary_code, translate
from cosygate.adapters.records_sql.filelock import FileLock

Durability = Literal["disk", "process"]

BATCH = 32  # writes that share one commit: bounds how long another process waits
WAITING = 2_000  # writes in line; beyond it DatabaseBusy at once
READERS = 2
_BEGIN_POLL_S = 0.0002  # between tries for the write lock: SQLite's own handler sleeps up to 100 ms
_TURN_POLL_S = 0.0005  # between tries for the turn to ask for it
_TURN_S = 0.25  # then it asks out of turn: the process whose turn it is may be stopped


@dataclass(slots=True)
class _Write:
    run: Transaction[Any]
    done: asyncio.Future[Any]
    deadline: float  # time.monotonic(); DatabaseBusy when it has not begun by then
    taken: bool = False  # part of a batch: its outcome is the batch's to tell
    outcome: Any = None
    error: BaseException | None = None

    def expire(self) -> None:
        if not self.taken and not self.done.done():
            self.done.set_exception(errors.DatabaseBusy())

    def tell(self) -> None:
        if self.done.done():  # its caller has been cancelled
            return
        if self.error is None:
            self.done.set_result(self.outcome)
        else:
            self.done.set_exception(self.error)


class SqliteDatabase:
    """database.py, Database: one file, as one process and one event loop see it.

    `busy_s` bounds the wait for a lock that another process holds, in seconds of real time (nothing to inject: the
    other process does not know our clock).
    """

    def __init__(self, path: Path, *, durability: Durability, busy_s: float) -> None:
        self._busy_s = busy_s
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            isolation_level="AUTOCOMMIT",  # BEGIN and COMMIT are said below, not guessed by the driver
            poolclass=sa.QueuePool,
            pool_size=READERS + 1,
            max_overflow=0,
            connect_args={"check_same_thread": False, "timeout": busy_s, "cached_statements": 256},
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            hide_parameters=True,  # in error messages, which are logged: a transcript may be among them
        )
        sa.event.listen(self._engine, "connect", _pragmas(durability))
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="records-write")
        self._read_threads = ThreadPoolExecutor(READERS, thread_name_prefix="records-read")
        self._connection: sa.Connection | None = None  # the writer's
        self._turn = FileLock(path.with_name(path.name + ".turn"))
        self._waiting: deque[_Write] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._closed = False

    async def prepare(self, run: Transaction[T]) -> T:
        """Runs `run` on the writer's thread outside any transaction (migrations begin their own)."""
        return await asyncio.get_running_loop().run_in_executor(self._write_thread, self._run_plainly, run)

    async def write(self, run: Transaction[T], *, within_s: float | None = None) -> T:
        if self._closed or len(self._waiting) >= WAITING:
            raise errors.DatabaseBusy()
        loop = asyncio.get_running_loop()
        wait_s = self._busy_s if within_s is None else within_s
        entry = _Write(run, loop.create_future(), time.monotonic() + wait_s)
        self._waiting.append(entry)
        if self._draining is None:
            self._draining = loop.create_task(self._drain())
        timer = loop.call_later(wait_s, entry.expire)
        try:
            result: T = await entry.done
            return result
        finally:
            timer.cancel()

    async def read(self, run: Transaction[T]) -> T:
        if self._closed:
            raise errors.DatabaseBusy()
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, self._run_plainly, run)

    async def close(self) -> None:
        """Finishes what waits, then ends connections and threads. May be called twice."""
        if self._closed:
            return
        self._closed = True
        while self._draining is not None:
            await asyncio.wait([self._draining])
        await asyncio.to_thread(self._read_threads.shutdown)
        await asyncio.get_running_loop().run_in_executor(self._write_thread, self._close_writer)
        await asyncio.to_thread(self._write_thread.shutdown)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                batch = [entry for entry in batch if not entry.done.done()]  # expired, or its caller cancelled
                for entry in batch:
                    entry.taken = True
                await loop.run_in_executor(self._write_thread, self._commit_together, batch)
                for entry in batch:
                    entry.tell()
        finally:
            self._draining = None

    # --- on the threads -----------------------------------------------------------------------------------------

    def _run_plainly(self, run: Transaction[T]) -> T:
        try:
            with self._engine.connect() as connection:
                return run(connection)
        except sa.exc.DBAPIError as error:
            raise translate(error) from error

    def _writer(self) -> sa.Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
            self._connection.exec_driver_sql("PRAGMA busy_timeout = 0")  # it polls by itself: _begin
        return self._connection

    def _close_writer(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()
        self._turn.close()

    def _commit_together(self, batch: list[_Write]) -> None:
        """Never raises. When the common transaction fails, each write gets one of its own, so that only those which
        fail by themselves get an error."""
        try:
            self._commit(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = translate(error)
                return
            for entry in batch:
                entry.outcome = entry.error = None
                self._commit_together([entry])

    def _commit(self, batch: list[_Write]) -> None:
        connection = self._writer()
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]  # pysqlite's
        # Who asks for SQLite's lock again and again wins it again and again; taking turns to ask makes it fair.
        with self._turn.held(_TURN_S, poll_s=_TURN_POLL_S):
            batch = _begin(driver, batch)
        try:
            for entry in batch:
                _run(connection, driver, entry)
            if batch:
                driver.execute("COMMIT")
        finally:
            if driver.in_transaction:
                driver.execute("ROLLBACK")


def _begin(driver: sqlite3.Connection, batch: list[_Write]) -> list[_Write]:
    """Takes the write lock. Returns those of `batch` that still wanted it then; the others have got DatabaseBusy."""
    while batch:
        try:
            driver.execute("BEGIN IMMEDIATE")
            return batch
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
        now = time.monotonic()
        for entry in batch:
            if entry.deadline <= now:
                entry.error = errors.DatabaseBusy()
        batch = [entry for entry in batch if entry.error is None]
        time.sleep(_BEGIN_POLL_S)
    return batch


def _run(connection: sa.Connection, driver: sqlite3.Connection, entry: _Write) -> None:
    driver.execute("SAVEPOINT entry")
    try:
        entry.outcome = entry.run(connection)
    except Exception as error:
        if not driver.in_transaction:  # SQLite gave the whole transaction up: disk full, I/O error
            raise
        driver.execute("ROLLBACK TO entry")
        entry.error = translate(error)
    driver.execute("RELEASE entry")


def _pragmas(durability: Durability) -> Callable[[sqlite3.Connection, object], None]:
    # NORMAL syncs at checkpoints alone: what was acknowledged survives kill -9, and a power loss leaves an older but
    # sound database. FULL syncs at every commit.
    synchronous = {"disk": "FULL", "process": "NORMAL"}[durability]

    def on_connect(driver: sqlite3.Connection, _record: object) -> None:
        for pragma in (
            f"synchronous = {synchronous}",
            "foreign_keys = ON",
            "secure_delete = ON",  # an erased transcript is overwritten with zeros, not only unlinked
            "cache_size = -16000",  # KiB
            "journal_size_limit = 67108864",  # bytes that a WAL keeps after a checkpoint
        ):
            driver.execute(f"PRAGMA {pragma}")

    return on_connect
