"""Counters in this process's memory, for a single gateway. (limits' own MemoryStorage looks at all its keys with every
count, keeps any number of them, and goes by the wall clock.)"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence

from cosygate.kit.clock import Clock
from cosygate.model.rates import Rate
from cosygate.model.standing import Standing
from cosygate.model.window import Windows
from cosygate.ports.limits import CountersDown

KEYS = 16_384  # kept apart under one name
_DROPPED_AT_ONCE = 2  # many more than are added: one


class MemoryCounters:
    """ports/limits.py, Counters. Nothing is awaited, so whatever happens at the same time happens in turn."""

    def __init__(self, clock: Clock, *, keys: int = KEYS) -> None:
        self._clock = clock
        self._most = keys
        self._keys: defaultdict[str, OrderedDict[str, Windows]] = defaultdict(OrderedDict)  # name → key → windows
        self._closed = False

    async def take(self, name: str, key: str, rates: Sequence[Rate]) -> tuple[bool, Standing]:
        now, kept = self._clock.monotonic(), self._of(name)
        windows = kept.get(key)
        if windows is None:
            windows = kept[key] = Windows(rates)
        kept.move_to_end(key)
        self._drop(kept, rates, now)
        return windows.take(rates, now), windows.standing(name, rates, now)

    async def look(self, name: str, key: str, rates: Sequence[Rate]) -> Standing:
        windows = self._of(name).get(key) or Windows(rates)
        return windows.standing(name, rates, self._clock.monotonic())

    async def give_back(self, name: str, key: str, rates: Sequence[Rate], at: float) -> None:
        if (windows := self._of(name).get(key)) is not None:
            windows.give_back(rates, at)

    async def close(self) -> None:
        self._closed = True
        self._keys.clear()

    def _of(self, name: str) -> OrderedDict[str, Windows]:
        if self._closed:
            raise CountersDown
        return self._keys[name]

    def _drop(self, kept: OrderedDict[str, Windows], rates: Sequence[Rate], now: float) -> None:
        """Keys that hold nothing any more, from the one counted longest ago on; and that one in any case when there are
        too many."""
        for _ in range(_DROPPED_AT_ONCE):
            oldest = next(iter(kept))
            if len(kept) <= self._most and (len(kept) == 1 or kept[oldest].until(rates) > now):
                return
            del kept[oldest]
