"""Every journal there is, for the contract suite: a name → how to open one that is empty, twice for two processes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cosygate.adapters.journal_disk import DiskJournal
from cosygate.adapters.journal_redis import RedisJournal
from cosygate.ports.journal import Journal, JournalWriter, Past, Sound
from cosygate.wiring.redis import client
from tests.support.services import shared_redis

# Opens the journal at a place (the same place twice: as two processes would); in each, at most so many bytes wait.
Opener = Callable[[Path, int], AbstractAsyncContextManager[Journal]]

LOOK_S = 0.04  # so often the journal in Redis asks who holds a silent session


@asynccontextmanager
async def in_redis(place: Path, waiting: int, url: str = "", **more: Any) -> AsyncIterator[RedisJournal]:
    """With a client of its own, as each process has one. `url`: another Redis than the one of this test process."""
    prefix = f"cg:test:{hashlib.md5(str(place).encode(), usedforsecurity=False).hexdigest()}"
    connection = client(url or shared_redis().url, 20)
    try:
        settings: dict[str, Any] = {"waiting_bytes": waiting, "look_s": LOOK_S, "prefix": prefix} | more
        async with RedisJournal(connection, **settings) as journal:
            yield journal
    finally:
        await connection.aclose()


JOURNALS: dict[str, Opener] = {
    "disk": lambda place, waiting: DiskJournal(
        place, durability="disk", min_free_bytes=0, waiting_bytes=waiting, lock_wait_s=2.0
    ),
    "disk-process": lambda place, waiting: DiskJournal(
        place, durability="process", min_free_bytes=0, waiting_bytes=waiting, lock_wait_s=2.0
    ),
    "redis": in_redis,
}
# How late `held` may be, in seconds, of somebody else's claim; nothing else is told late.
HELD_LATE_S = {"disk": 0.0, "disk-process": 0.0, "redis": 1.5 * LOOK_S + 5.0}  # 5: a machine that is busy
PARAMS = [pytest.param(name, marks=pytest.mark.needs("redis-server") if name == "redis" else ()) for name in JOURNALS]


async def held_by(writers: dict[int, JournalWriter], late_s: float, expected: list[int]) -> list[int]:
    """The epochs whose writers say that they hold, once that is as expected; at the latest after `late_s`."""
    deadline = time.monotonic() + late_s
    while True:
        held = [epoch for epoch, writer in writers.items() if writer.held()]
        if held == expected or time.monotonic() >= deadline:
            return held
        await asyncio.sleep(0.005)


async def story(journal: Journal, session: str, epoch: int) -> tuple[Past, bytes]:
    """What the next holder finds: the past, and its audio."""
    claimed = await journal.claim(session, epoch)
    try:
        return claimed.past, await whole(claimed.writer, claimed.past.first)
    finally:
        await claimed.writer.close()


async def whole(writer: JournalWriter, first: int = 0) -> bytes:
    """All audio from `first` on, read in odd pieces."""
    data = bytearray()
    while piece := await writer.read(first + len(data), 70_001):
        data += piece
    return bytes(data)


def sound(start: int, size: int) -> Sound:
    """Bytes that tell their place."""
    return Sound(start, audio(start, size))


def audio(start: int, size: int) -> bytes:
    return bytes(at * 31 % 251 + 1 for at in range(start, start + size))


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"type": "final", "id": number, **more}
