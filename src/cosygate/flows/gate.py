"""May this begin now? Asked before a body is read, and once more at the moment a recording really begins.

    first chunk ─► draining? breaker open? queue full? over the rate or quota? ─► no: its body is read
                                                                          └─► yes: unless it was begun before, refused
    its upload's row is new ─► it is counted

Chunks of recordings that were begun before always pass: what has been acknowledged can be finished.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from cosygate import errors
from cosygate.flows.admission import Admission, Hold
from cosygate.flows.limiting import LIVE, RECORDINGS, Limiting
from cosygate.model.principal import Principal
from cosygate.model.standing import Standing


class Begun(Protocol):
    """What is known of recordings that were begun before."""

    def remembers(self, caller: Principal, session_id: str) -> bool:
        """Whether this process has just stored a chunk of it. Costs nothing."""

    async def knows(self, caller: Principal, session_id: str | None) -> bool:
        """Whether it is open or complete; None: whether the caller has any that is open."""


class Entry:
    """A chunk's way in. `begun` is called when it turns out to begin a recording; `close` at the end in any case."""

    def __init__(self, hold: Hold | None, begin: Callable[[bool], Awaitable[Standing | None]]) -> None:
        self._hold = hold
        self._begin = begin
        self.standing: Standing | None = None  # the caller's, once counted

    async def begun(self) -> None:
        """Counts it. Raises what refuses it: for one that was let pass as a chunk of another recording, all of it."""
        self.standing = await self._begin(self._hold is None)

    def close(self) -> None:
        if self._hold is not None:
            self._hold.close()


class Gate:
    def __init__(
        self,
        *,
        begun: Begun,
        limiting: Limiting,
        admission: Admission,
        blocked_s: Callable[[], float],
        drained: Callable[[], bool],
    ) -> None:
        """`blocked_s`: seconds until any engine may be called again (0: one may now); `drained`: whether an operator
        has told the whole service to take nothing new."""
        self._begun = begun
        self._limiting = limiting
        self._admission = admission
        self._blocked_s = blocked_s
        self._drained = drained

    async def chunk(self, caller: Principal, session_id: str | None, *, size: int | None, low: bool = False) -> Entry:
        """Before the body of a chunk is read. `session_id` is None where only the body tells; `size`: its declared
        bytes; `low`: of low priority, as far as known. Raises Draining, BreakerOpen, QueueFull, Refused, QuotaExceeded,
        LimitsUnavailable."""

        async def begin(unseen: bool) -> Standing | None:
            if unseen and (refusal := await self._refusal(caller, low)) is not None:
                raise refusal
            return await self._limiting.count(caller, RECORDINGS)

        if session_id is not None and self._begun.remembers(caller, session_id):
            return Entry(None, begin)
        refusal = await self._refusal(caller, low)
        if refusal is None:
            return Entry(self._admission.hold(caller.tenant, size), begin)
        if await self._begun.knows(caller, session_id):
            return Entry(None, begin)
        raise refusal

    async def live(self, caller: Principal) -> Standing | None:
        """Before a live session begins; counts it. Raises as `chunk` does, but for the queue: live has slots of its
        own."""
        refusal = self._closed() or await self._limiting.refusal(caller, LIVE)
        if refusal is not None:
            raise refusal
        return await self._limiting.count(caller, LIVE)

    async def _refusal(self, caller: Principal, low: bool) -> errors.CosyGateError | None:
        return (
            self._closed()
            or self._admission.refusal(caller.tenant, low=low)
            or await self._limiting.refusal(caller, RECORDINGS)
        )

    def _closed(self) -> errors.CosyGateError | None:
        if self._drained():
            return errors.Draining()
        if (blocked_s := self._blocked_s()) > 0:
            return errors.BreakerOpen(retry_after=max(1, round(blocked_s)))
        return None
