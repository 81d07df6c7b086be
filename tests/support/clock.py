"""A clock that tests move: wall and monotonic time apart, and sleeps that end when time is advanced."""

from __future__ import annotations

import asyncio
import random


class MovedClock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.wall = now
        self.mono = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.mono + seconds, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Both times go on; whoever sleeps until then wakes up and runs."""
        self.wall += seconds
        self.mono += seconds
        for until, future in list(self._sleepers):
            if until <= self.mono and not future.done():
                future.set_result(None)
        self._sleepers = [(u, f) for u, f in self._sleepers if not f.done()]
        for _ in range(20):
            await asyncio.sleep(0)


class SeededRandomness:
    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def token(self, nbytes: int) -> bytes:
        return self._random.randbytes(nbytes)

    def trace_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"
