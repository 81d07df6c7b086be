"""The wake-up inside one process: an event. Other processes on the same database find work by looking."""

from __future__ import annotations

import asyncio


class LocalQueue:
    def __init__(self) -> None:
        self._arrived = asyncio.Event()

    async def hint(self, job_id: str) -> None:
        self._arrived.set()

    async def wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return
        finally:
            self._arrived.clear()
