"""May this begin now? Asked before a body is read, and once more at the moment a recording really begins.

    first chunk ─► draining? breaker open? queue full? over the rate or quota? ─► no: its body is read
                                                                          └─► yes: unless it was begun before, refused
    it is in no upload that is known ─► it is counted; given back when somebody else began that upload meanwhile

Chunks of recordings that were begun before always pass: what has been acknowledged can be finished.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

from cosygate import errors
from cosygate.flows.admission import JUST_NOW_S, Admission
from cosygate.flows.holds import Hold
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
    """A chunk's way in. `begun` is called before it begins a recording, `undone` when it did not after all; `close` at
    the end in any case."""

    def __init__(
        self,
        hold: Hold | None,
        enter: Callable[[bool], Awaitable[Hold]],
        count: Callable[[], Awaitable[Standing | None]],
        undo: Callable[[Standing], Awaitable[None]],
        low: bool,
    ) -> None:
        """`low`: what has been asked about. `enter`: asks, and holds a place, or raises what refuses it."""
        self._asked_low = self.low = low  # the latter may become True, once the body tells
        self._hold = hold
        self._enter = enter
        self._count = count
        self._undo = undo
        self._closed = False
        self.standing: Standing | None = None  # the caller's, once counted

    async def begun(self) -> None:
        """Counts it. Raises what refuses it: for one that was let pass as a chunk of another recording, or turned out
        to be of low priority, all of it."""
        if self.low and not self._asked_low and self._hold is not None:
            self._hold.close()  # it must not stand in its own way
            self._hold = None
        if self._hold is None:
            self._hold = await self._enter(self.low)
            if self._closed:  # whoever sent the chunk has left meanwhile
                self._hold.close()
        self.standing = await self._count()

    async def undone(self) -> None:
        standing, self.standing = self.standing, None
        if standing is not None:
            await self._undo(standing)

    def close(self) -> None:
        self._closed = True
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

        async def enter(low: bool) -> Hold:
            if (refusal := await self._refusal(caller, low)) is not None:
                raise refusal
            return self._admission.hold(caller.tenant, size)  # at once: others ask for the same place

        async def count() -> Standing | None:
            return await self._limiting.count(caller, RECORDINGS)

        async def undo(counted: Standing) -> None:
            await self._limiting.uncount(caller, counted)

        if session_id is not None and self._begun.remembers(caller, session_id):
            return Entry(None, enter, count, undo, low)
        if (refusal := await self._refusal(caller, low)) is None:
            return Entry(self._admission.hold(caller.tenant, size), enter, count, undo, low)
        if await self._begun.knows(caller, session_id):
            return Entry(None, enter, count, undo, low)
        raise refusal

    async def live(self, caller: Principal) -> Standing | None:
        """Before a live session begins; counts it. Raises as `chunk` does, but for the queue: live has slots of its
        own."""
        refusal = self._closed() or await self._limiting.refusal(caller, LIVE)
        if refusal is not None:
            raise refusal
        return await self._limiting.count(caller, LIVE)

    async def undo_live(self, caller: Principal, counted: Standing | None) -> None:
        """The session for which `live` returned that did not begin after all, and not by its client's doing."""
        await self._limiting.uncount(caller, counted)

    def live_of_tenant(self, tenant: str) -> int:
        """How many live sessions a tenant may have open at once; 0: no quota."""
        return self._limiting.live_of_tenant(tenant)

    async def _refusal(self, caller: Principal, low: bool) -> errors.CosyGateError | None:
        """The queue is asked last: between its answer and the hold nothing is awaited."""
        if (closed := self._closed()) is not None:
            return closed
        await self._admission.look()
        if (refusal := await self._limiting.refusal(caller, RECORDINGS)) is not None:
            return refusal
        if self._admission.refusal(caller.tenant, low=low) is not None:
            await self._admission.look(JUST_NOW_S)
        return self._admission.refusal(caller.tenant, low=low)

    def _closed(self) -> errors.CosyGateError | None:
        if self._drained():
            return errors.Draining()
        if (blocked_s := self._blocked_s()) > 0:
            return errors.BreakerOpen(retry_after=max(1, math.ceil(blocked_s)))
        return None
