"""The rows of live sessions. SQL is the truth about who holds a session (epoch) and about what is safe.

Every method is one transaction, as in ports/records.py, and raises DatabaseBusy when it cannot be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cosygate.model.job import NewJob
from cosygate.model.live import LiveSession, SafeMark


@dataclass(frozen=True, slots=True)
class HeldSession:
    """One open session as a keeper sees it."""

    id: str
    epoch: int
    holder: str
    beat: int


class LiveSessions(Protocol):
    async def open(self, session: LiveSession, *, max_of_owner: int, max_of_all: int, max_of_tenant: int = 0) -> None:
        """Writes a new open session, with its epoch and holder. Raises TooManySessions when the owner has
        `max_of_owner` open ones, QuotaExceeded when all owners of the tenant have `max_of_tenant` together (0: any
        number), SessionsFull when there are `max_of_all`; all counted in the same transaction."""

    async def find(self, session_id: str) -> LiveSession | None:
        """Open or finished; None when there is none. Whose it is, is for the caller to compare."""

    async def claim(self, session_id: str, seen_epoch: int, holder: str) -> LiveSession | None:
        """epoch + 1 and the new holder WHERE epoch = `seen_epoch` AND open: the row after. None: somebody was faster,
        or it is finished."""

    async def keep(self, session_id: str, epoch: int, finals: Sequence[Mapping[str, Any]], mark: SafeMark) -> bool:
        """Stores finals (JSON objects with `id`, rising by one; one that is stored already is left alone) and the mark
        WHERE epoch AND open. False: not ours any more, nothing changed. Marks never go back. Repeating it after
        `finish` under the same epoch gives True and changes nothing: that answer may have been lost."""

    async def finish(self, session_id: str, epoch: int, job: NewJob, result: Mapping[str, Any], now: float) -> bool:
        """In one transaction WHERE epoch AND open: the session is finished; its upload is complete; its job exists,
        succeeded, with `result`, result_fence = fence = `epoch`, and its events (a segment per final, then done).
        False: not ours any more. Repeating it after success gives True."""


class LiveKeeping(Protocol):
    async def beat(self, holder: str) -> None:
        """beat + 1 of every open session that `holder` holds."""

    async def open_sessions(self) -> list[HeldSession]:
        """Every open one."""

    async def discard(self, session_id: str, epoch: int) -> bool:
        """Removes an open session that has nothing in it, WHERE epoch AND open."""

    async def finals(self, session_id: str, after: int, limit: int) -> list[dict[str, Any]]:
        """Stored finals with id > `after` (-1: all), in order."""


class OneTime(Protocol):
    async def spend(self, ticket_id: str, expires_at: float, now: float) -> bool:
        """True the first time, over all processes; False ever after. Forgets tickets that expired before `now`."""
