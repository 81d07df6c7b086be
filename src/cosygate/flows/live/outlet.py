"""What is on its way to one connection: bounded, whatever the reader does. Acks are merged, a partial replaces the one
before, and everything else keeps its order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from cosygate import errors

Message = dict[str, Any]
_MOST = 512  # messages that wait; a reader that is so far behind is told to go


class Outlet:
    """Filled by the session, emptied by the connection's sender (`next`)."""

    def __init__(self, *, interim: bool, last_final: int | None = None) -> None:
        """`last_final`: the client has all finals up to it. One that is heard again, because the journal that had it
        is lost, is the same and no news."""
        self._interim = interim
        self._known = -1 if last_final is None else last_final
        self._waiting: deque[Message] = deque()
        self._ack: Message | None = None
        self._news = asyncio.Event()
        self.error: errors.CosyGateError | None = None  # why the connection ends; None: because all is done
        self.closed = False

    def ack(self, samples: int, safe: int) -> None:
        self._ack = {"type": "ack", "samples": samples, "safe": safe}
        self._news.set()

    def partial(self, message: Message) -> None:
        if not self._interim or self.closed:
            return
        if self._waiting and self._waiting[-1]["type"] == "partial":
            self._waiting.pop()
        self._waiting.append(message)
        self._news.set()

    def put(self, message: Message) -> None:
        if self.closed:
            return
        if len(self._waiting) >= _MOST:
            self.close(errors.ReaderTooSlow())
            return
        if message["type"] == "pong" and self._waiting and self._waiting[-1]["type"] == "pong":
            return  # one answers many pings
        if self._known >= 0 and message["type"] == "final" and message["id"] <= self._known:
            return
        if message["type"] == "final" and self._waiting and self._waiting[-1]["type"] == "partial":
            self._waiting.pop()  # it says what the final says better
        self._waiting.append(message)
        self._news.set()

    def close(self, error: errors.CosyGateError | None) -> None:
        """Nothing more comes in; what waits goes out, then the connection ends with `error`. The first counts."""
        if not self.closed:
            self.closed, self.error = True, error
            self._news.set()

    def leave(self) -> None:
        """The client is gone: nothing of what waits matters any more."""
        self._waiting.clear()
        self._ack = None
        self.close(None)

    async def next(self) -> list[Message]:
        """What waits, at least one message; empty when the outlet is closed and everything is out."""
        while not self._waiting and self._ack is None:
            if self.closed:
                return []
            self._news.clear()
            await self._news.wait()
        out = [self._ack] if self._ack is not None else []
        self._ack = None
        out.extend(self._waiting)
        self._waiting.clear()
        return out
