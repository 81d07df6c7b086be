"""A Redis that hangs, is away, or is full: who waits is told in time, nothing blocks, nothing grows, and it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.journal_redis import RedisJournal
from cosygate.ports.journal import Past, Sound
from deploy.local_cluster.services import Redis
from tests.support.journals import audio, event, in_redis, sound, story
from tests.support.services import redis as started

pytestmark = pytest.mark.needs("redis-server")
S1, S2 = "1" * 32, "2" * 32
MIB = 1024**2
PATIENCE_S = 1.0
LATE_S = 0.75  # a quarter of a second is ours, the rest a busy machine's


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with started() as running:
        yield running


@asynccontextmanager
async def opened(redis: Redis, place: Path, waiting: int = 64 * MIB) -> AsyncIterator[RedisJournal]:
    async with in_redis(place, waiting, redis.url, patience_s=PATIENCE_S) as journal:
        yield journal


@asynccontextmanager
async def fluent() -> AsyncIterator[None]:
    """The event loop is never held up meanwhile."""
    gaps, at = [], time.monotonic()

    async def tick() -> None:
        nonlocal at
        while True:
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - at)
            at = time.monotonic()

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
    assert max(gaps) < 0.4, max(gaps)


def told_after(append: asyncio.Future[None]) -> asyncio.Future[float]:
    """Seconds from now until it is told Unavailable."""
    began, told = time.monotonic(), asyncio.get_running_loop().create_future()

    def done(_: object) -> None:
        assert isinstance(append.exception(), errors.Unavailable)
        told.set_result(time.monotonic() - began)

    append.add_done_callback(done)
    return told


async def test_a_redis_that_hangs(redis: Redis, tmp_path: Path) -> None:
    async with opened(redis, tmp_path, 24 * MIB) as journal:
        writer, other = [(await journal.claim(session, 1)).writer for session in (S1, S2)]
        await writer.append(sound(0, 1000), event(0))
        redis.pause()
        try:
            async with fluent():
                waits = []
                for number in range(1, 100):
                    waits.append(told_after(writer.append(sound(number * 1000, 1000), event(number))))
                    await asyncio.sleep(0.002)
                appends = [other.append(Sound(n * MIB, bytes(MIB))) for n in range(30)]  # more than may wait
                assert appends[-1].done() and isinstance(appends[-1].exception(), errors.Unavailable)
                waits += map(told_after, appends)
                assert max(await asyncio.gather(*waits)) < PATIENCE_S + LATE_S
                for doing in (
                    journal.claim(S1, 2),
                    journal.events(S1, ""),
                    writer.read(0, 10),
                    journal.drop(S2),
                ):
                    began = time.monotonic()
                    with pytest.raises(errors.Unavailable):
                        await doing
                    assert time.monotonic() - began < PATIENCE_S + LATE_S
                with pytest.raises(errors.Unavailable):
                    await writer.append(event(100))
        finally:
            redis.resume()
        assert writer.held()
        # What was on its way when it hung may be found there, whole and in order, or not at all.
        past, data = await story(journal, S1, 3)
        assert past.events == [event(number) for number in range(len(past.events))] and past.events
        assert data == audio(0, 1000 * len(past.events))
        with pytest.raises(errors.TakenOver):
            await writer.read(0, 10)


async def test_a_short_hang_is_waited_for(redis: Redis, tmp_path: Path) -> None:
    async with opened(redis, tmp_path) as journal:
        writer = (await journal.claim(S1, 1)).writer
        redis.pause()
        asyncio.get_running_loop().call_later(PATIENCE_S / 2, redis.resume)
        await asyncio.gather(*(writer.append(event(number)) for number in range(10)))
        assert (await story(journal, S1, 2))[0].events == [event(number) for number in range(10)]


async def test_who_says_nothing_meanwhile_notices_nothing(redis: Redis, tmp_path: Path) -> None:
    async with opened(redis, tmp_path) as journal:
        writer = (await journal.claim(S1, 1)).writer
        await writer.append(event(0))
        redis.pause()
        await asyncio.sleep(PATIENCE_S + 0.5)
        redis.resume()
        await writer.append(event(1))
        assert (await story(journal, S1, 2))[0].events == [event(0), event(1)]


async def test_a_redis_that_is_away_and_comes_back_empty(redis: Redis, tmp_path: Path) -> None:
    async with opened(redis, tmp_path) as journal:
        writer = (await journal.claim(S1, 1)).writer
        await writer.append(sound(0, 1000), event(0))
        await asyncio.to_thread(redis.kill)
        async with fluent():
            for doing in (writer.append(event(1)), journal.claim(S1, 2), journal.sessions()):
                began = time.monotonic()
                with pytest.raises(errors.Unavailable):
                    await doing
                assert time.monotonic() - began < PATIENCE_S + LATE_S
        await asyncio.to_thread(redis.start)
        with pytest.raises(errors.Unavailable):
            await writer.append(event(2))
        assert await story(journal, S1, 3) == (Past(None, [], 0, 0), b"")


async def test_a_process_begins_while_redis_is_away(redis: Redis, tmp_path: Path) -> None:
    await asyncio.to_thread(redis.kill)
    async with opened(redis, tmp_path) as journal:
        with pytest.raises(errors.Unavailable):
            await journal.claim(S1, 1)
        await asyncio.to_thread(redis.start)
        await (await journal.claim(S1, 2)).writer.append(event(0))


async def test_a_full_redis(redis: Redis, tmp_path: Path) -> None:
    async with opened(redis, tmp_path) as journal, in_redis(tmp_path, MIB, redis.url) as admin:
        ask = admin._client.execute_command
        writer, keeper = [(await journal.claim(session, 1)).writer for session in (S1, S2)]
        await keeper.append(sound(0, MIB // 2), event(0))
        await writer.append(sound(0, 1000), event(0))
        await ask("CONFIG", "SET", "maxmemory", "1")
        try:
            appends = [writer.append(sound(n * 1000, 1000), event(n)) for n in range(1, 50)]
            outcomes = await asyncio.gather(*appends, return_exceptions=True)
            assert all(type(one) is errors.StorageFull for one in outcomes)
            with pytest.raises(errors.StorageFull):
                await writer.append(event(51))
            assert await writer.read(0, 2000) == audio(0, 1000)  # it can still be read
            await keeper.compact({"n": 1}, MIB // 2)  # makes room
            claimed = await journal.claim(S1, 2)  # so that it can end
            assert claimed.past == Past(None, [event(0)], 0, 1000)
            await journal.drop(S2)
        finally:
            await ask("CONFIG", "SET", "maxmemory", "0")
        await claimed.writer.append(sound(1000, 10), event(1))
        assert await story(journal, S1, 3) == (Past(None, [event(0), event(1)], 0, 1010), audio(0, 1010))
