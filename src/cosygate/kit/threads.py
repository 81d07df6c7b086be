"""Jobs on threads, seen to their end: no clean-up is left out, and no descriptor closed under a job that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def finished(job: Future[T], dropped: Callable[[T], None] | None = None) -> T:
    """What came of a job that was given to a thread; raises what it raised. A cancelled caller goes on only when it has
    ended; `dropped` then gets the result that nobody takes."""
    waiting = asyncio.wrap_future(job)
    try:
        await asyncio.wait((waiting,))
    except asyncio.CancelledError:
        while not waiting.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((waiting,))
        if waiting.exception() is None and dropped is not None:
            dropped(waiting.result())
        raise
    return waiting.result()
