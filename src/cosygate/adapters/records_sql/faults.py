"""What the driver's errors mean to callers: one table, walked by a test."""

from __future__ import annotations

import sqlite3

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


def primary_code(error: BaseException) -> int:
    """SQLite's primary result code behind `error` (the low byte of the extended one); 0 when there is none."""
    origin = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return int(getattr(origin, "sqlite_errorcode", 0)) & 0xFF


def translate(error: BaseException) -> BaseException:
    """The error that callers of the port get for one of the driver; anything else unchanged."""
    known = SQLITE_FAULTS.get(primary_code(error))
    if known is None:
        return error
    translated = known()
    translated.__cause__ = error
    return translated
