"""Counters in Redis: what becomes of them when Redis is away, hangs, is emptied or restarted, and by which clock they
go. (The port's promises: tests/contract/test_limits.py.)"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis as Client
from redis.asyncio.client import Pipeline

from cosygate.adapters.limits_redis import RedisCounters
from cosygate.kit.clock import SystemClock
from cosygate.model.rates import Rate
from cosygate.model.window import GRAINS
from cosygate.ports.limits import CountersDown
from deploy.local_cluster.services import Redis
from tests.support.clock import MovedClock
from tests.support.moved_redis import MovedRedis, connect, own_prefix
from tests.support.services import redis

pytestmark = pytest.mark.needs("redis-server")
MINUTE = (Rate(10, 60),)


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with redis() as running:
        yield running


@pytest.fixture
async def client(server: Redis) -> AsyncIterator[Client]:
    made = connect(server.url)
    await made.flushall()
    yield made
    await made.aclose()


@pytest.fixture
async def counters(client: Client) -> AsyncIterator[RedisCounters]:
    made = RedisCounters(client, SystemClock())
    yield made
    await made.close()


async def taken(counters: RedisCounters, key: str = "t/a", rates: tuple[Rate, ...] = MINUTE) -> int:
    """What is left."""
    granted, standing = await counters.take("recordings", key, rates)
    assert granted
    return standing.remaining


async def seconds(counters: RedisCounters, key: str = "t/a") -> float:
    """That it takes to say that it cannot be counted."""
    began = time.monotonic()
    with pytest.raises(CountersDown):
        await taken(counters, key)
    return time.monotonic() - began


async def back(counters: RedisCounters) -> int:
    """What is left of the first count that works again."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await taken(counters)
            except CountersDown:
                await asyncio.sleep(0.02)


async def test_a_redis_that_is_away_costs_half_a_second_once_a_second(server: Redis, counters: RedisCounters) -> None:
    assert await taken(counters) == 9
    server.kill()
    try:
        assert await seconds(counters) < 0.5
        assert await seconds(counters) < 0.05
        began = time.monotonic()
        many = await asyncio.gather(*(taken(counters, f"t/{n}") for n in range(500)), return_exceptions=True)
        assert {type(one) for one in many} == {CountersDown}
        assert time.monotonic() - began < 0.3
    finally:
        server.start()
    assert await back(counters) == 9  # it came back empty, and does not know the script


async def test_a_redis_that_hangs_is_waited_for_by_one_and_never_half_a_second(
    server: Redis, counters: RedisCounters
) -> None:
    assert await taken(counters) == 9
    server.pause()
    try:
        waits = await asyncio.gather(*(seconds(counters, f"t/{n}") for n in range(300)))
        assert max(waits) < 0.5
        assert await seconds(counters) < 0.05  # for the rest of the second
        await asyncio.sleep(1.05)
        waits = await asyncio.gather(*(seconds(counters, f"t/{n}") for n in range(300)))
        assert sum(wait > 0.1 for wait in waits) <= 1  # the others do not wait for it to find out
    finally:
        server.resume()
    assert await back(counters) in (7, 8)  # what was asked meanwhile was of others


async def test_who_comes_while_others_wait_for_an_answer_waits_half_a_second_too(
    server: Redis, counters: RedisCounters
) -> None:
    assert await taken(counters) == 9
    server.pause()
    try:
        first = asyncio.create_task(seconds(counters))
        await asyncio.sleep(0.15)
        assert await seconds(counters) < 0.5
        assert await first < 0.5
    finally:
        server.resume()
    await back(counters)


async def test_a_crowd_waits_no_longer_when_redis_is_slow(
    client: Client, counters: RedisCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 go at once: the last of 2,000 would wait for sixteen answers."""
    assert await taken(counters) == 9
    execute = Pipeline.execute

    async def slow(pipe: Pipeline, raise_on_error: bool = True) -> list[object]:
        await asyncio.sleep(0.1)
        return await execute(pipe, raise_on_error)

    monkeypatch.setattr(Pipeline, "execute", slow)
    waits: list[float] = []

    async def wait(key: str) -> int:
        began = time.monotonic()
        try:
            return await taken(counters, key)
        finally:
            waits.append(time.monotonic() - began)

    outcomes = await asyncio.gather(*(wait(f"t/{n}") for n in range(2000)), return_exceptions=True)
    assert max(waits) < 0.9  # half a second, and a busy machine
    assert set(outcomes[:128]) == {9}
    assert all(one == 9 or isinstance(one, CountersDown) for one in outcomes)
    assert await taken(counters) == 8  # it is slow, not away


async def test_the_event_loop_goes_on_while_redis_hangs(server: Redis, counters: RedisCounters) -> None:
    await taken(counters)
    server.pause()
    try:
        asked = asyncio.create_task(seconds(counters))
        turns = 0
        while not asked.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 20
    finally:
        server.resume()
    await back(counters)


async def test_an_emptied_redis_counts_anew(client: Client, counters: RedisCounters) -> None:
    for left in range(9, -1, -1):
        assert await taken(counters) == left
    await client.flushall()
    await asyncio.sleep(1.05)  # for so long the refusal is remembered, if there was one
    assert await taken(counters) == 9


async def test_a_script_that_redis_has_forgotten_is_told_again_and_counts_once(
    client: Client, counters: RedisCounters
) -> None:
    assert await taken(counters) == 9
    await client.script_flush()
    assert sorted(await asyncio.gather(*(taken(counters) for _ in range(5)))) == [4, 5, 6, 7, 8]


async def test_what_redis_refuses_to_do_is_down_and_comes_back(client: Client, counters: RedisCounters) -> None:
    await taken(counters)
    await client.config_set("maxmemory", 1)
    try:
        assert await seconds(counters) < 0.3  # OOM
    finally:
        await client.config_set("maxmemory", 0)
    assert await back(counters) == 8


async def test_a_crowd_opens_one_connection(client: Client, counters: RedisCounters) -> None:
    before = (await client.info("stats"))["total_connections_received"]
    outcomes = await asyncio.gather(*(counters.take("recordings", f"t/{n}", MINUTE) for n in range(500)))
    assert all(granted for granted, _ in outcomes)
    assert (await client.info("stats"))["total_connections_received"] - before <= 1


async def test_a_caller_who_leaves_takes_nobody_with_him(counters: RedisCounters) -> None:
    calls = [asyncio.create_task(taken(counters, f"t/{n}")) for n in range(10)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert outcomes[1::2] == [9] * 5
    assert {type(one) for one in outcomes[::2]} == {asyncio.CancelledError}


@pytest.mark.parametrize("after_s", [0.0, 0.02])  # at once: nothing was asked yet
async def test_closing_ends_those_who_wait(server: Redis, client: Client, after_s: float) -> None:
    counters = RedisCounters(client, SystemClock())
    await taken(counters)
    server.pause()
    try:
        waiting = asyncio.create_task(seconds(counters))
        await asyncio.sleep(after_s)
        await counters.close()
        async with asyncio.timeout(5):
            assert await waiting < 0.2
    finally:
        server.resume()


# --- what lies in Redis ---


async def test_keys_name_nobody_and_end_by_themselves(client: Client, counters: RedisCounters) -> None:
    rates = (Rate(1, 1), Rate(1000, 2))
    _, standing = await counters.take("recordings", "tenant/a-person", rates)
    [key] = await client.keys()
    assert b"person" not in key
    assert len(key) < 100
    assert 1_900 < await client.pttl(key) < 3_100  # of the longest window, and a second
    await counters.give_back("recordings", "tenant/a-person", rates, standing.at)
    assert await client.dbsize() == 0
    await counters.take("recordings", "t/a", (Rate(1, 1),))
    assert not (await counters.take("recordings", "t/a", (Rate(1, 1),)))[0]  # writes nothing: lengthens nothing
    async with asyncio.timeout(5):
        while await client.dbsize():
            await asyncio.sleep(0.1)


async def test_a_key_takes_two_kibibytes_a_rate_at_most(client: Client) -> None:
    clock = MovedClock()
    counters = RedisCounters(MovedRedis(client, clock), clock, prefix="p:")  # type: ignore[arg-type]
    rates = (Rate(GRAINS, 3600), Rate(1_000_000, 3600))
    for n in range(400):
        await counters.take("recordings", "t/a", rates if n < GRAINS else rates[1:])
        clock.mono += 3600 / 400
    sizes = [await client.strlen(key) for key in await client.keys("p:*")]
    assert len(sizes) == 2
    assert max(sizes) < 2 * 2048


async def test_gateways_with_other_limits_count_apart(counters: RedisCounters) -> None:
    assert await taken(counters) == 9
    assert await taken(counters, rates=(Rate(20, 60),)) == 19
    assert await taken(counters) == 8


# --- clocks ---


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_gateways_clock_changes_nothing(client: Client, jump_s: float) -> None:
    mine, others = MovedClock(), MovedClock()
    one, two = RedisCounters(client, mine), RedisCounters(client, others)
    for left in range(9, -1, -1):
        assert await taken(one) == left
    mine.wall += jump_s
    mine.mono += abs(jump_s)  # a machine that slept
    for counters in (one, two):
        granted, standing = await counters.take("recordings", "t/a", MINUTE)
        assert not granted
        assert 55 < standing.reset_s <= 60


@pytest.mark.parametrize("rate", [Rate(3, 60), Rate(200, 60)])
async def test_redis_clock_set_back_keeps_the_bound_and_lets_nobody_wait_as_long(client: Client, rate: Rate) -> None:
    clock = MovedClock()
    moved = MovedRedis(client, clock)
    counters = RedisCounters(moved, clock, prefix=own_prefix())  # type: ignore[arg-type]
    for _ in range(rate.amount - 1):
        await taken(counters, rates=(rate,))
    clock.mono += 30
    await taken(counters, rates=(rate,))
    moved.ahead_s -= 3600
    granted, standing = await counters.take("recordings", "t/a", (rate,))
    assert not granted
    assert 29.9 < standing.reset_s <= 30 + 60 / GRAINS
    clock.mono += standing.reset_s
    assert await taken(counters, rates=(rate,)) in (rate.amount - 2, 0)


async def test_redis_clock_set_back_a_little_is_waited_for(client: Client) -> None:
    clock = MovedClock()
    moved = MovedRedis(client, clock)
    counters = RedisCounters(moved, clock, prefix=own_prefix())  # type: ignore[arg-type]
    at = (await counters.take("recordings", "t/a", MINUTE))[1].at
    moved.ahead_s -= 0.5
    granted, standing = await counters.take("recordings", "t/a", MINUTE)
    assert granted
    assert (standing.at, standing.reset_s) == (at, 60)
    await counters.give_back("recordings", "t/a", MINUTE, at)
    assert (await counters.look("recordings", "t/a", MINUTE)).remaining == 9
