"""What the driver's errors mean to callers: one table, walked by a test."""

from __future__ import annotations

import sqlite3
from typing import Any

import sqlalchemy as sa

from cosygate import errors

# SQLite's primary result codes (sqlite.org/rescode.html). What is not listed is a bug and stays as it is.
SQLITE_FAULTS: dict[int, type[errors.Unavailable]] = {
    sqlite3.SQLITE_BUSY: errors.DatabaseBusy,  # another process holds the lock
    sqlite3.SQLITE_LOCKED: errors.DatabaseBusy,  # another connection of this process does
    sqlite3.SQLITE_IOERR: errors.DatabaseBusy,  # the disk answers with errors
    sqlite3.SQLITE_CANTOPEN: errors.DatabaseBusy,  # folder gone, or no descriptors left
    sqlite3.SQLITE_PROTOCOL: errors.DatabaseBusy,  # lost the race for the WAL's locks too often
    sqlite3.SQLITE_READONLY: errors.DatabaseBusy,  # the file system has been remounted
    sqlite3.SQLITE_NOMEM: errors.DatabaseBusy,
    sqlite3.SQLITE_FULL: errors.StorageFull,
}

# Postgres' SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html), or its class of two letters.
POSTGRES_FAULTS: dict[str, type[errors.Unavailable]] = {
    "08": errors.DatabaseBusy,  # the connection cannot be made, or is lost
    "28": errors.DatabaseBusy,  # it lets this user in no longer
    "3D000": errors.DatabaseBusy,  # no such database: it is being restored
    "25006": errors.DatabaseBusy,  # read-only: a standby
    "25P03": errors.DatabaseBusy,  # this process stood still in the middle of a transaction
    "40": errors.DatabaseBusy,  # undone for another's sake, again and again
    "53": errors.DatabaseBusy,  # too many connections, no memory
    "53100": errors.StorageFull,
    "55P03": errors.DatabaseBusy,  # a lock that was not to be had in time
    "57": errors.DatabaseBusy,  # shutting down, starting, statement took too long
    "58": errors.DatabaseBusy,  # its disk answers with errors
}
# Undone, and nothing of it has happened: may be run again at once. Also a key that another transaction brought
# meanwhile (who runs again finds it), and a plan from before a migration.
POSTGRES_AGAIN = frozenset({"40001", "40P01", "23505", "0A000"})


def primary_code(error: BaseException) -> int:
    """SQLite's primary result code behind `error` (the low byte of the extended one); 0 when there is none."""
    origin = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return int(getattr(origin, "sqlite_errorcode", 0)) & 0xFF


def sqlstate_of(error: BaseException) -> str:
    """Postgres' code behind `error`, whatever wraps it; empty when there is none."""
    origin: Any = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return str(getattr(origin, "sqlstate", None) or getattr(origin.__cause__, "sqlstate", None) or "")


def translate_postgres(error: BaseException) -> BaseException:
    """As `translate`. Time that ran out and connections that broke have no code."""
    state = sqlstate_of(error)
    known = POSTGRES_FAULTS.get(state) or POSTGRES_FAULTS.get(state[:2])
    broken = isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
    if known is None and (broken or isinstance(error, OSError | sa.exc.TimeoutError)):
        known = errors.DatabaseBusy
    if known is None:
        return error
    translated = known()
    translated.__cause__ = error
    return translated


def translate(error: BaseException) -> BaseException:
    """The error that callers of the port get for one of the driver; anything else unchanged."""
    known = SQLITE_FAULTS.get(primary_code(error))
    if known is None:
        return error
    translated = known()
    translated.__cause__ = error
    return translated
