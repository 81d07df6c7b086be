"""Counters of several gateways on one machine: an SQLite file in the folder in memory that `serve` makes for them.

A transaction takes some 50 µs and touches no disk, so it runs on the event loop: a thread's hop costs twice as much as
all of it. What may take time is another process that holds the lock: that is waited for with pauses, by one call for
all of this process. The file is worth nothing after a crash of the machine, so nothing is synced; a gateway that is
killed in the middle of a change leaves it sound (WAL). Times are of the machine's monotonic clock, the same in all
processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cosygate.kit.clock import Clock
from cosygate.model.rates import Rate
from cosygate.model.refusals import Refusals
from cosygate.model.standing import Standing
from cosygate.model.window import Windows
from cosygate.ports.limits import CountersDown

KEYS = 16_384  # kept apart under one name
_BUSY_S = 0.1  # for the lock: whoever has it in an orderly way has it for less than a millisecond
_BUSY_POLL_S = 0.0005
_DOWN_S = 1.0  # after a failure nobody tries for so long
_SWEEP_EVERY, _SWEPT_AT_ONCE = 64, 256  # changes; keys

_TABLE = """CREATE TABLE IF NOT EXISTS counters (name TEXT NOT NULL, key TEXT NOT NULL, until REAL NOT NULL,
 windows BLOB NOT NULL, PRIMARY KEY (name, key)) WITHOUT ROWID"""
_BY_AGE = "CREATE INDEX IF NOT EXISTS counters_until ON counters (name, until)"
_READ = "SELECT windows FROM counters WHERE name = ? AND key = ?"
_WRITE = "INSERT OR REPLACE INTO counters (name, key, until, windows) VALUES (?, ?, ?, ?)"
_COUNT = "SELECT count(*) FROM counters WHERE name = ?"
_EMPTY = """DELETE FROM counters WHERE name = ?1 AND key IN
 (SELECT key FROM counters WHERE name = ?1 AND until <= ?2 ORDER BY until LIMIT ?3)"""
_OLDEST = """DELETE FROM counters WHERE name = ?1 AND key IN
 (SELECT key FROM counters WHERE name = ?1 ORDER BY until LIMIT ?2)"""

T = TypeVar("T")


class SqliteCounters:
    """ports/limits.py, Counters. For one event loop: within a transaction nothing is awaited."""

    def __init__(self, path: Path, clock: Clock, *, keys: int = KEYS) -> None:
        self._path = path
        self._clock = clock
        self._most = keys
        self._connection: sqlite3.Connection | None = None
        self._line = asyncio.Lock()  # of calls that wait for another process
        self._down_until = 0.0  # of real time, as all waiting here: the other process does not know our clock
        self._refusals = Refusals()
        self._changes = 0
        self._closed = False

    async def take(self, name: str, key: str, rates: Sequence[Rate]) -> tuple[bool, Standing]:
        if (known := self._refusals.known(name, key, self._clock.monotonic())) is not None:
            return False, known

        def work(windows: Windows, now: float) -> tuple[bool, Standing]:
            return windows.take(rates, now), windows.standing(name, rates, now)

        granted, standing = await self._turn(lambda: self._change(name, key, rates, work))
        if not granted:
            self._refusals.remember(name, key, standing, self._clock.monotonic())
        return granted, standing

    async def look(self, name: str, key: str, rates: Sequence[Rate]) -> Standing:
        if (known := self._refusals.known(name, key, self._clock.monotonic())) is not None:
            return known

        def work() -> Standing:
            windows = _read(self._connected(), name, key, rates)
            return windows.standing(name, rates, self._clock.monotonic())

        return await self._turn(work)

    async def give_back(self, name: str, key: str, rates: Sequence[Rate], at: float) -> None:
        self._refusals.forget(name, key)
        await self._turn(lambda: self._change(name, key, rates, lambda windows, _: windows.give_back(rates, at)))

    async def close(self) -> None:
        self._closed = True
        self._disconnect()

    async def _turn(self, work: Callable[[], T]) -> T:
        """Does `work`, waiting for other processes in line with the others of this one."""
        ends = time.monotonic() + _BUSY_S
        if not self._line.locked():
            with contextlib.suppress(_Busy):
                return self._try(work)
        async with self._line:
            while True:
                try:
                    return self._try(work)
                except _Busy:
                    if time.monotonic() >= ends:
                        raise self._failed() from None
                await asyncio.sleep(_BUSY_POLL_S)

    def _try(self, work: Callable[[], T]) -> T:
        """Raises _Busy, CountersDown."""
        if self._closed or time.monotonic() < self._down_until:
            raise CountersDown
        try:
            return work()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise _Busy from None
            raise self._failed() from error
        except (sqlite3.Error, OSError) as error:
            raise self._failed() from error

    def _failed(self) -> CountersDown:
        self._down_until = time.monotonic() + _DOWN_S
        self._disconnect()
        return CountersDown()

    def _change(self, name: str, key: str, rates: Sequence[Rate], work: Callable[[Windows, float], T]) -> T:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            now = self._clock.monotonic()  # under the lock: counts of all processes are in order
            windows = _read(connection, name, key, rates)
            outcome = work(windows, now)
            connection.execute(_WRITE, (name, key, windows.until(rates), windows.pack()))
            self._changes += 1
            if self._changes % _SWEEP_EVERY == 0:
                self._sweep(connection, name, now)
            connection.execute("COMMIT")
            return outcome
        except BaseException:
            self._disconnect()  # which rolls back
            raise

    def _sweep(self, connection: sqlite3.Connection, name: str, now: float) -> None:
        """Keys that hold nothing any more, and of too many those that end first."""
        connection.execute(_EMPTY, (name, now, _SWEPT_AT_ONCE))
        (count,) = connection.execute(_COUNT, (name,)).fetchone()
        if count > self._most:
            connection.execute(_OLDEST, (name, min(count - self._most, _SWEPT_AT_ONCE)))

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(self._path, timeout=0.0, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("PRAGMA wal_autocheckpoint = 250")  # pages: a megabyte
                connection.execute(_TABLE)
                connection.execute(_BY_AGE)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


class _Busy(Exception):
    """Another process has the lock."""


def _read(connection: sqlite3.Connection, name: str, key: str, rates: Sequence[Rate]) -> Windows:
    found = connection.execute(_READ, (name, key)).fetchone()
    return Windows(rates, found[0] if found else b"")
