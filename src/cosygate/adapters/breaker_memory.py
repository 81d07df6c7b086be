"""Breakers of one process alone, for a gateway that nobody gave a place to share them."""

from __future__ import annotations

from collections.abc import Callable

from cosygate.kit.breaker import Breaker


class MemoryBreakers:
    """Implements ports.breaker.BreakerBoard."""

    def __init__(self, engines: int) -> None:
        self._breakers = [Breaker()] * engines

    def look(self, engine: int) -> Breaker:
        return self._breakers[engine]

    async def change(self, engine: int, step: Callable[[Breaker], Breaker]) -> Breaker:
        self._breakers[engine] = step(self._breakers[engine])
        return self._breakers[engine]
