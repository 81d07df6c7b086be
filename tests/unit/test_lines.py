"""Threads for long work: so many at once, in line, one of each caller; a caller who leaves does not free what works."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from cosygate.kit.lines import Full, Lines


@pytest.fixture
def lines() -> Iterator[Lines]:
    found = Lines(2, each=3, name="test")
    yield found
    found.close()


class Work:
    """Jobs that end when they are told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.at_once = 0
        self.most: list[int] = []
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self.at_once += 1
            self.most.append(self.at_once)
        assert self.go.wait(10)
        with self._lock:
            self.at_once -= 1
        return 7


async def begun(work: Work, count: int) -> None:
    while len(work.most) < count:
        await asyncio.sleep(0.01)


async def test_two_at_once_and_of_one_caller_one(lines: Lines) -> None:
    work = Work()
    calls = [asyncio.create_task(lines.run(who, work)) for who in ("ann", "ann", "ann", "ben", "cid")]
    await begun(work, 2)
    await asyncio.sleep(0.1)
    assert work.at_once == 2
    with pytest.raises(Full):
        await lines.run("ann", work)
    work.go.set()
    assert await asyncio.gather(*calls) == [7] * 5
    assert max(work.most) == 2
    assert await lines.run("ann", lambda: 8) == 8


async def test_who_leaves_gives_up_its_place_but_not_its_thread(lines: Lines) -> None:
    work = Work()
    first, second = (asyncio.create_task(lines.run("ann", work)) for _ in range(2))
    await begun(work, 1)
    for call in (second, first):
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    later = asyncio.create_task(lines.run("ann", lambda: 9))
    await asyncio.sleep(0.1)
    assert not later.done(), "the job that nobody waits for is still at work"
    assert await lines.run("ben", lambda: 1) == 1
    work.go.set()
    assert await later == 9
    assert len(work.most) == 1


async def test_what_fails_is_told_and_frees_its_place(lines: Lines) -> None:
    def fails() -> None:
        raise ValueError("no")

    for _ in range(5):
        with pytest.raises(ValueError, match="no"):
            await lines.run("ann", fails)
    assert await lines.run("ann", lambda: 1) == 1
