"""What one transaction does at a time, where a database lets several write at once.

SQLite has one writer, and nothing to lock. On Postgres (READ COMMITTED: each statement sees what is committed by then)
most transactions need no lock either, because they say in their WHERE what they rely on. Those that count before they
write, or choose among rows, take one of these: it is held until the transaction ends, and what is read after it
includes what all its earlier holders have written.

Whoever takes a lock has not written yet, or has written rows that no other holder of it waits for: so nobody waits for
each other in a circle. (Should they, Postgres ends one, which is run again.)
"""

from __future__ import annotations

from hashlib import blake2b

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate import errors

_LOCK = sa.select(sa.func.pg_advisory_xact_lock(bindparam("number", type_=sa.BigInteger)))
_READ_ONLY = sa.select(sa.func.current_setting("transaction_read_only"))


def locked(connection: sa.Connection, what: str, key: str = "") -> None:
    """Waits for all others that lock the same `key` of `what`, and keeps them waiting until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"number": lock_number(what, key)})


def lock_number(what: str, key: str = "") -> int:
    """Of an advisory lock: they are told apart by 64 bits, and belong to one database."""
    digest = blake2b(f"cosygate {what} {key}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def writable(connection: sa.Connection) -> None:
    """Raises DatabaseBusy where a connection works, but writes nothing: a standby."""
    if connection.dialect.name == "postgresql" and connection.execute(_READ_ONLY).scalar_one() == "on":
        raise errors.DatabaseBusy()
