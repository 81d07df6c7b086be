"""Threads for work that takes seconds of CPU, beside those that everything else shares: so many at once, so much in
line, and nobody has more than one at work, so that whoever asks for much waits for himself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Job = Callable[[], T]


class Full(Exception):
    """Too much is in line, or nothing is taken any more."""


class Lines:
    """For one event loop."""

    def __init__(self, threads: int, *, each: int, most: int, name: str) -> None:
        """`each`: calls of one caller that may be there at once, at work or in line; `most`: of all callers."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = asyncio.Semaphore(threads)
        self._each = each
        self._most = most
        self._locks: dict[str, asyncio.Lock] = {}
        self._there: Counter[str] = Counter()  # caller → calls

    async def run(self, caller: str, prepare: Callable[[], Awaitable[Job[T]]]) -> T:
        """What the job returns that `prepare` gives, which is asked once there is a thread for it: whatever the job
        works on need not be in memory while it waits. Raises what the two raise, and Full. A job that has begun keeps
        its thread to its end, and its caller's next one waiting, also when nobody waits for it any more."""
        if self._there[caller] >= self._each or self._there.total() >= self._most:
            raise Full
        self._there[caller] += 1
        lock = self._locks.setdefault(caller, asyncio.Lock())
        held: list[Callable[[], None]] = [lambda: self._left(caller)]
        try:
            await lock.acquire()
            held.append(lock.release)
            await self._free.acquire()
            held.append(self._free.release)
            work = self._begin(await prepare())
        except BaseException:
            _let_go(held)
            raise
        work.add_done_callback(lambda done: _ended(done, held))
        return await asyncio.shield(work)

    def close(self) -> None:
        """No new job begins; those at work end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, job: Job[T]) -> asyncio.Future[T]:
        try:
            return asyncio.get_running_loop().run_in_executor(self._pool, job)
        except RuntimeError:  # it is closed
            raise Full from None

    def _left(self, caller: str) -> None:
        self._there[caller] -= 1
        if not self._there[caller]:
            del self._there[caller]
            del self._locks[caller]


def _ended(work: asyncio.Future[T], held: list[Callable[[], None]]) -> None:
    if not work.cancelled():
        work.exception()  # looked at, or asyncio complains: perhaps nobody waits for it any more
    _let_go(held)


def _let_go(held: list[Callable[[], None]]) -> None:
    while held:
        held.pop()()
