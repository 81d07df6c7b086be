"""How many calls run at once, and the bounded line of those that wait: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque


class LineFull(Exception):
    """As many are waiting as may wait."""


class Slots:
    """For one event loop."""

    def __init__(self, count: int, line: int) -> None:
        """`count` calls at once; `line`: how many may wait."""
        self.count = count
        self._line = line
        self._free = count
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    @property
    def busy(self) -> int:
        return self.count - self._free

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def ask(self, wanted: int = 1) -> asyncio.Future[None]:
        """A future that is done when `wanted` slots are the caller's (at once, if they are free and nobody waits): then
        `give_back` as many. Cancelled by `turn_away`. Whoever stops waiting calls `withdraw`. Raises LineFull."""
        future = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= self._line and (self._waiting or self._free < wanted):
            raise LineFull
        self._waiting.append((future, wanted))
        self._serve()
        return future

    def withdraw(self, future: asyncio.Future[None], wanted: int = 1) -> None:
        """Leaves the line; slots that were given meanwhile go to the next."""
        if future.cancelled():
            return
        if future.done():
            self.give_back(wanted)
        else:
            self._waiting.remove((future, wanted))
            self._serve()  # it may have stood in the way of those who want fewer

    def turn_away(self) -> None:
        """Cancels the futures of all that wait."""
        while self._waiting:
            self._waiting.popleft()[0].cancel()

    def give_back(self, count: int = 1) -> None:
        self._free += count
        self._serve()

    def _serve(self) -> None:
        """In order: one who wants many is not passed by those who want few, or it would wait for ever."""
        while self._waiting and self._waiting[0][1] <= self._free:
            future, wanted = self._waiting.popleft()
            self._free -= wanted
            future.set_result(None)
