"""What is done again and again beside everything else: each in its own time, and none ends another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cosygate import errors
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger

_log = logger()
Work = Callable[[], Awaitable[object]]


class Rounds:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: list[asyncio.Task[object]] = []

    def once(self, work: Work) -> None:
        """Now, beside everything else."""
        self._tasks.append(asyncio.create_task(self._guarded(work)))

    def every(self, seconds: float, work: Work) -> None:
        self._tasks.append(asyncio.create_task(self._every(seconds, work)))

    def always(self, work: Work) -> None:
        """Work that paces itself."""
        self._tasks.append(asyncio.create_task(self._every(0.0, work)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _every(self, seconds: float, work: Work) -> None:
        while True:
            if seconds > 0:
                await self._clock.sleep(seconds)
            if not await self._guarded(work) and seconds == 0:
                await self._clock.sleep(0.5)  # what fails at once must not fail as fast as it can

    async def _guarded(self, work: Work) -> bool:
        try:
            await work()
        except errors.Unavailable as error:
            _log.warning("housekeeping.put_off", code=error.code)
            return False
        except Exception:
            _log.exception("housekeeping.crashed")
            return False
        return True
