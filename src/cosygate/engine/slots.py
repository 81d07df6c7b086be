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
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def busy(self) -> int:
        return self.count - self._free

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def ask(self) -> asyncio.Future[None]:
        """A future that is done when the slot is the caller's (at once, if one is free): then `give_back` it. Whoever
        stops waiting calls `withdraw`. Raises LineFull."""
        future = asyncio.get_running_loop().create_future()
        if self._free:
            self._free -= 1
            future.set_result(None)
        elif len(self._waiting) >= self._line:
            raise LineFull
        else:
            self._waiting.append(future)
        return future

    def withdraw(self, future: asyncio.Future[None]) -> None:
        """Leaves the line; the slot that was given meanwhile goes to the next."""
        if future.done():
            self.give_back()
        else:
            self._waiting.remove(future)

    def give_back(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1
