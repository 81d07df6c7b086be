"""Breakers of one process alone, for a gateway that nobody gave a place to share them."""

from __future__ import annotations

from collections.abc import Callable

from cosygate.kit.breaker import Breaker

_KEPT = 1024  # engines come and go: of more than so many, those whose breaker was changed longest ago are closed again
_CLOSED = Breaker()


class MemoryBreakers:
    """Implements ports.breaker.BreakerBoard."""

    def __init__(self) -> None:
        self._breakers: dict[str, Breaker] = {}  # in the order of their last change

    def look(self, engine: str) -> Breaker:
        return self._breakers.get(engine, _CLOSED)

    async def change(self, engine: str, step: Callable[[Breaker], Breaker]) -> Breaker:
        after = step(self._breakers.pop(engine, _CLOSED))
        self._breakers[engine] = after
        if len(self._breakers) > _KEPT:
            del self._breakers[next(iter(self._breakers))]
        return after
