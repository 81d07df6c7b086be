"""Where gateways that call the same engines keep what they know of them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cosygate.kit.breaker import Breaker


class BoardBusy(Exception):
    """The board could not be had just now; nothing was changed."""


class BreakerBoard(Protocol):
    """One breaker per engine, closed until somebody changes it. Engines are known by a name, the same for everybody:
    "0", "1", … where one machine's gateways share what they started, else their address."""

    def look(self, engine: str) -> Breaker:
        """As it was a moment ago at the latest. Costs microseconds, never waits and never raises: what cannot be read
        is as it was last read."""

    async def change(self, engine: str, step: Callable[[Breaker], Breaker]) -> Breaker:
        """Replaces it by `step` of it and returns that, in one go: of changes by several processes at the same time
        none is lost. `step` tells nobody and waits for nothing; it may be called more than once. Raises BoardBusy after
        a bounded wait of a few milliseconds, such as when another process was stopped in the middle of a change."""
