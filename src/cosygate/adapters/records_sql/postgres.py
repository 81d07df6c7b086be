"""Postgres behind asyncio: SQLAlchemy's pool of asyncpg connections, a transaction on one of them.

A transaction is a plain function of a SQLAlchemy `Connection`, as on SQLite; `run_sync` lets it wait for the server
without a thread. It runs as READ COMMITTED, in a task of its own, so that a caller who goes away leaves neither half a
transaction nor a connection that nobody gives back. Every wait has an end: for a connection, a lock, a statement, and
the whole.

When the connection breaks before COMMIT, the transaction is run again on another. When it breaks while COMMIT is under
way, nobody knows whether it has happened; the caller gets DatabaseBusy, and nothing is run again here. Why that is
safe, method by method:

- `uploads.open`, `complete`, `close`, `jobs.cancel`, `live.keep`, `finish`, revoking, quotas, switches, `disable`,
  `enable`, `add_secret`: repeating it finds what is there. A live session that nobody was told of is given up by the
  keeper, an upload by its expiry.
- `leases.claim`: nobody beats for it, and the reaper takes it back. `live.claim`: the next claim is one epoch higher.
- `leases.commit` and `append` are repeated by their worker: a success of the same claim is true again, and segments
  that are there are not told twice. `requeue`: as wanted, or the reaper does it.
- `jobs.delete`: the bytes are nobody's then, and housekeeping erases such. `outbox.take`: a hint may be lost.
- `one_time.spend`: the ticket is spent, and a new one is got. `keys.add`: a key that nobody was told. `rotate_secret`:
  its caller repeats it with the same secret, which changes nothing when it has happened.
- `sending.begin`: due again when the try counts as lost. `end`: tried once more (at least once).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from cosygate import errors
from cosygate.adapters.records_sql.database import Overtaken, T, Transaction
from cosygate.adapters.records_sql.faults import POSTGRES_AGAIN, sqlstate_of, translate_postgres
from cosygate.kit.clock import Randomness, SystemRandomness

WAITING = 2_000  # calls that run or wait for a connection; beyond them DatabaseBusy at once
_AGAIN_S = (
    0.005,
    0.02,
    0.05,
    0.1,
    0.2,
    0.4,
)  # before each further run of a transaction that was undone, for another's sake or with its connection
_STARTING = "57P03"  # cannot_connect_now
_IDLE_S = 1.0  # after which a connection is asked whether it still works
_STATEMENTS = 256  # prepared ones that a connection keeps


class PostgresDatabase:
    """database.py, Database: one database, as one process and one event loop see it.

    `url`: `postgresql://user:password@host/name`, as libpq has it (`?sslmode=verify-full` …). `pool` connections are
    kept, `overflow` more are opened when those are in use. `busy_s`: seconds of real time that a call waits for a
    connection, and a statement for a lock; `statement_s`: seconds that a statement may take (None: twice that). Time is
    not injected: the server does not know our clock.

    What is committed is as safe as the server's `synchronous_commit` and `fsync` say: they are left alone.
    """

    def __init__(
        self,
        url: str,
        *,
        busy_s: float = 5.0,
        statement_s: float | None = None,
        pool: int = 20,
        overflow: int = 40,
        randomness: Randomness | None = None,
    ) -> None:
        statement_s = 2 * busy_s if statement_s is None else statement_s
        self._busy_s = busy_s
        self._whole_s = statement_s + busy_s
        self._randomness = randomness or SystemRandomness()
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            # What reads needs no BEGIN, nor does the look whether a connection still works: three round trips less.
            isolation_level="AUTOCOMMIT",
            pool_size=pool,
            max_overflow=overflow,
            pool_timeout=busy_s,
            connect_args={
                "dsn": "postgresql://" + url.partition("://")[2],
                "timeout": busy_s,
                "command_timeout": statement_s + 1.0,  # the server's own bound comes first, while it answers
                "prepared_statement_cache_size": _STATEMENTS,
                "server_settings": _session(busy_s, statement_s),
            },
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            hide_parameters=True,  # in error messages, which are logged: a transcript may be among them
        )
        engine = self._engine.sync_engine
        sa.event.listen(engine, "before_cursor_execute", _without_nul, retval=True)
        sa.event.listen(engine, "checkin", _note_use)
        sa.event.listen(engine, "checkout", partial(_look_at_idle, engine.dialect))
        self._writing = self._engine.execution_options(isolation_level="READ COMMITTED")
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def write(self, run: Transaction[T], *, within_s: float | None = None) -> T:
        wait_s = self._busy_s if within_s is None else within_s
        return await self._shielded(lambda call: self._transact(self._writing, run, call, wait_s))

    async def read(self, run: Transaction[T]) -> T:
        return await self._shielded(lambda call: self._transact(self._engine, run, call, self._busy_s))

    async def close(self) -> None:
        """Lets transactions that run end, then closes the connections. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        await self._engine.dispose()

    async def _shielded(self, work: Callable[[_Call], Coroutine[Any, Any, T]]) -> T:
        if self._closed or len(self._running) >= WAITING:
            raise errors.DatabaseBusy()
        call = _Call()
        task = asyncio.get_running_loop().create_task(work(call))
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            call.wanted = False
            raise

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: its caller may be gone

    async def _transact(self, engine: AsyncEngine, run: Transaction[T], call: _Call, wait_s: float) -> T:
        for pause_s in (*_AGAIN_S, None):
            try:
                return await self._once(engine, run, call, wait_s)
            except Overtaken:
                if pause_s is None:
                    raise errors.DatabaseBusy() from None
            except (sa.exc.SQLAlchemyError, OSError) as error:
                undone = sqlstate_of(error) in POSTGRES_AGAIN or (_is_away(error) and not call.committing)
                if pause_s is None or not undone:
                    raise translate_postgres(error) from error
            await asyncio.sleep(self._randomness.uniform(0.5, 1.0) * pause_s)
        raise AssertionError("the last run returns or raises")

    async def _once(self, engine: AsyncEngine, run: Transaction[T], call: _Call, wait_s: float) -> T:
        connection = engine.connect()
        async with asyncio.timeout(wait_s):
            await connection.start()
        try:
            if not call.wanted:
                raise errors.DatabaseBusy()  # nobody hears it
            call.committing = False
            async with asyncio.timeout(self._whole_s), connection.begin():
                result = await connection.run_sync(run)
                call.committing = True
            return result
        finally:
            await connection.close()


class _Call:
    """What a caller and its transaction know of each other."""

    wanted = True  # False: its caller was cancelled. A transaction that has not begun then does not happen.
    committing = False  # whether it may have happened, should the connection break


def _session(busy_s: float, statement_s: float) -> dict[str, str]:
    """The server's half of the bounds. A process that stands still in the middle of a transaction (stopped, swapping)
    loses it, and with it the locks that others wait for."""
    bounds = {
        "lock_timeout": busy_s,
        "statement_timeout": statement_s,
        "idle_in_transaction_session_timeout": 2 * busy_s,
    }
    settings = {name: str(round(seconds * 1000)) for name, seconds in bounds.items()}
    # Compiling pays for large reports, of which there are none.
    return settings | {"application_name": "cosygate", "jit": "off"}


def _note_use(_connection: object, record: sa.pool.ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _look_at_idle(
    dialect: sa.Dialect,
    connection: sa.engine.interfaces.DBAPIConnection,
    record: sa.pool.ConnectionPoolEntry,
    _: object,
) -> None:
    """What SQLAlchemy's `pool_pre_ping` does, for connections that were idle for a while: before each transaction it is
    a round trip in six, and half of what a read costs. Whoever gets a broken one sooner is run again (`_is_away`)."""
    if time.monotonic() - record.info.get("used_at", math.inf) < _IDLE_S:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        if not dialect.is_disconnect(error, connection, None):
            raise
        raise sa.exc.InvalidatePoolError from error


def _is_away(error: Exception) -> bool:
    """Whether the connection is no more (SQLAlchemy has emptied its pool then), or there is none to be had: a server
    that is restarted is back in a moment."""
    if isinstance(error, sa.exc.DBAPIError):
        return error.connection_invalidated or sqlstate_of(error) == _STARTING
    return isinstance(error, ConnectionError | FileNotFoundError)


def _without_nul(
    _connection: sa.Connection, _cursor: object, statement: str, parameters: Any, _context: object, many: bool
) -> tuple[str, Any]:
    """Postgres has no NUL in its text: what a stranger puts into a name or an error becomes U+FFFD, in questions as in
    answers, and finds nothing. (JSON is stored as text in which it is escaped.)"""
    if many:
        return statement, [_clean(row) for row in parameters]
    return statement, _clean(parameters)


def _clean(row: tuple[Any, ...]) -> tuple[Any, ...]:
    if any(isinstance(value, str) and "\0" in value for value in row):
        return tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row)
    return row
