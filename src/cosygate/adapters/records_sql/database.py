"""What the transactions need from a database: `sqlite` and `postgres` are two, with the same statements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
Transaction = Callable[[sa.Connection], T]  # may run more than once: it changes nothing but the database


class Overtaken(Exception):
    """What the transaction has just read is no longer so: it is undone, and run again. (Where writers take turns, it
    cannot happen.)"""


class Database(Protocol):
    async def write(self, run: Transaction[T], *, within_s: float | None = None) -> T:
        """Runs `run` in a write transaction, all or nothing, and returns what it returned, once that is durable.

        Raises DatabaseBusy when it cannot begin within `within_s` (None: the database's own bound), StorageFull, and
        whatever `run` raises. If the caller is cancelled, the transaction happens as a whole or not at all.
        """

    async def read(self, run: Transaction[T]) -> T:
        """Runs `run`, which only reads. It sees the last commit and waits for no writer. Raises DatabaseBusy."""

    async def close(self) -> None:
        """Finishes what was begun. Later calls raise DatabaseBusy. May be called twice."""
