"""Threads for work that takes seconds of CPU, beside those that everything else shares: so many at once, so much in
line, and nobody has more than one at work, so that whoever asks for much waits for himself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Full(Exception):
    """Too much is in line."""


class Lines:
    """For one event loop."""

    def __init__(self, threads: int, *, each: int, name: str) -> None:
        """`each`: calls of one caller that may be there at once, at work or in line."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = asyncio.Semaphore(threads)
        self._each = each
        self._locks: dict[str, asyncio.Lock] = {}
        self._there: Counter[str] = Counter()  # caller → calls

    async def run(self, caller: str, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What `job` returns; raises what it raises, and Full. A job that has begun keeps its thread to its end, and
        its caller's next one waiting, also when nobody waits for it any more."""
        if self._there[caller] >= self._each:
            raise Full
        self._there[caller] += 1
        lock = self._locks.setdefault(caller, asyncio.Lock())
        begun = False
        try:
            await lock.acquire()
            try:
                await self._free.acquire()
            except BaseException:
                lock.release()
                raise
            work = asyncio.get_running_loop().run_in_executor(self._pool, lambda: job(*args, **kwargs))
            begun = True
            work.add_done_callback(lambda done: self._done(done, caller, lock))
            return await asyncio.shield(work)
        finally:
            if not begun:
                self._left(caller)

    def close(self) -> None:
        """No new job begins; those at work end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, work: asyncio.Future[T], caller: str, lock: asyncio.Lock) -> None:
        if not work.cancelled():
            work.exception()  # looked at, or asyncio complains: perhaps nobody waits for it any more
        self._free.release()
        lock.release()
        self._left(caller)

    def _left(self, caller: str) -> None:
        self._there[caller] -= 1
        if not self._there[caller]:
            del self._there[caller]
            self._locks.pop(caller, None)
