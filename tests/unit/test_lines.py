"""Threads for long work: so many at once, in line, one of each caller; a caller who leaves does not free what works."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from cosygate.kit.lines import Full, Lines

T = TypeVar("T")


@pytest.fixture
def lines() -> Iterator[Lines]:
    found = Lines(2, each=3, most=6, name="test")
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


def at_once(job: Callable[[], T]) -> Callable[[], Awaitable[Callable[[], T]]]:
    """Nothing has to be prepared."""

    async def prepare() -> Callable[[], T]:
        return job

    return prepare


async def begun(work: Work, count: int) -> None:
    while len(work.most) < count:
        await asyncio.sleep(0.01)


async def test_two_at_once_and_of_one_caller_one(lines: Lines) -> None:
    work = Work()
    calls = [asyncio.create_task(lines.run(who, at_once(work))) for who in ("ann", "ann", "ann", "ben", "cid")]
    await begun(work, 2)
    await asyncio.sleep(0.1)
    assert work.at_once == 2
    with pytest.raises(Full):
        await lines.run("ann", at_once(work))
    work.go.set()
    assert await asyncio.gather(*calls) == [7] * 5
    assert max(work.most) == 2
    assert await lines.run("ann", at_once(lambda: 8)) == 8


async def test_who_leaves_gives_up_its_place_but_not_its_thread(lines: Lines) -> None:
    work = Work()
    first, second = (asyncio.create_task(lines.run("ann", at_once(work))) for _ in range(2))
    await begun(work, 1)
    for call in (second, first):
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    later = asyncio.create_task(lines.run("ann", at_once(lambda: 9)))
    await asyncio.sleep(0.1)
    assert not later.done(), "the job that nobody waits for is still at work"
    assert await lines.run("ben", at_once(lambda: 1)) == 1
    work.go.set()
    assert await later == 9
    assert len(work.most) == 1


async def test_what_fails_is_told_and_frees_its_place(lines: Lines) -> None:
    def fails() -> None:
        raise ValueError("no")

    for _ in range(5):
        with pytest.raises(ValueError, match="no"):
            await lines.run("ann", at_once(fails))
    assert await lines.run("ann", at_once(lambda: 1)) == 1


async def test_nothing_is_prepared_before_there_is_a_thread_for_it(lines: Lines) -> None:
    work, prepared = Work(), []

    async def prepare() -> Callable[[], int]:
        prepared.append(len(prepared))
        return work

    calls = [asyncio.create_task(lines.run(who, prepare)) for who in ("ann", "ann", "ben", "cid")]
    await begun(work, 2)
    await asyncio.sleep(0.1)
    assert len(prepared) == 2
    work.go.set()
    await asyncio.gather(*calls)
    assert len(prepared) == 4


@pytest.mark.parametrize("waits_for", ["its caller", "a thread", "its data"])
async def test_whoever_is_cancelled_leaves_nothing_behind(lines: Lines, waits_for: str) -> None:
    """Wherever they are in line: as many can come, and as many work, as before."""
    never = asyncio.Event()

    async def prepare() -> Callable[[], int]:
        await never.wait()
        return lambda: 1

    work = Work()
    others = [asyncio.create_task(lines.run(who, at_once(work))) for who in ("ben", "cid")]
    await begun(work, 2)
    if waits_for == "its data":
        work.go.set()
        await asyncio.gather(*others)
    for _ in range(4):
        first = asyncio.create_task(lines.run("ben" if waits_for == "its caller" else "ann", prepare))
        await asyncio.sleep(0.02)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    work.go.set()
    await asyncio.gather(*others)
    again = Work()
    calls = [asyncio.create_task(lines.run(who, at_once(again))) for who in ("ann", "ann", "ann", "ben", "ben", "ben")]
    await begun(again, 2)
    with pytest.raises(Full):
        await lines.run("cid", at_once(again))  # as many as there may be of all
    again.go.set()
    assert await asyncio.gather(*calls) == [7] * 6


async def test_what_comes_after_the_end_is_refused_and_nobody_waits_for_ever() -> None:
    lines = Lines(1, each=3, most=3, name="test")
    work = Work()
    calls = [asyncio.create_task(lines.run("ann", at_once(work))) for _ in range(3)]
    await begun(work, 1)
    lines.close()
    work.go.set()
    assert await calls[0] == 7
    for call in calls[1:]:
        with pytest.raises(Full):
            await call
