"""The contract of ports/limits.py, over every adapter that claims to keep it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cosygate.adapters.limits_memory import MemoryCounters
from cosygate.adapters.limits_redis import RedisCounters
from cosygate.adapters.limits_sqlite import SqliteCounters
from cosygate.model.rates import Rate
from cosygate.model.window import GRAINS
from cosygate.ports.limits import Counters, CountersDown
from tests.support.clock import MovedClock
from tests.support.moved_redis import MovedRedis, connect, own_prefix
from tests.support.services import shared_redis

MINUTE = (Rate(10, 60),)
BOTH = (Rate(2, 60), Rate(3, 3600))
Open = Callable[..., Counters]


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


REDIS = pytest.param("redis", marks=pytest.mark.needs("redis-server"))


@pytest.fixture(params=["memory", "sqlite", REDIS])
async def opening(request: pytest.FixtureRequest, tmp_path: Path, clock: MovedClock) -> AsyncIterator[Open]:
    if request.param == "memory":
        yield lambda **bounds: MemoryCounters(clock, **bounds)
    elif request.param == "sqlite":
        yield lambda **bounds: SqliteCounters(tmp_path / "counters.sqlite", clock, **bounds)
    else:
        client, prefix = MovedRedis(connect(), clock), own_prefix()
        yield lambda **_: RedisCounters(client, clock, prefix=prefix)  # type: ignore[arg-type]  # as far as is used
        await client.aclose()


@pytest.fixture
async def counters(opening: Open) -> AsyncIterator[Counters]:
    opened = opening()
    yield opened
    await opened.close()


@pytest.fixture(params=["sqlite", REDIS])
async def shared(request: pytest.FixtureRequest, tmp_path: Path, clock: MovedClock) -> AsyncIterator[list[Counters]]:
    """Two doors to the same counters."""
    doors: list[Counters]
    clients = []
    if request.param == "sqlite":
        doors = [SqliteCounters(tmp_path / "counters.sqlite", clock) for _ in range(2)]
    else:
        clients, prefix = [connect(), connect()], own_prefix()
        doors = [RedisCounters(client, clock, prefix=prefix) for client in clients]
    yield doors
    for door in doors:
        await door.close()
    for client in clients:
        await client.aclose()


async def granted(counters: Counters, key: str = "t/a", rates: tuple[Rate, ...] = MINUTE) -> bool:
    return (await counters.take("recordings", key, rates))[0]


async def test_as_many_as_the_rate_says_and_no_more(counters: Counters) -> None:
    left = []
    for _ in range(10):
        ok, standing = await counters.take("recordings", "t/a", MINUTE)
        left.append((ok, standing.remaining))
    assert left == [(True, n) for n in range(9, -1, -1)]
    ok, standing = await counters.take("recordings", "t/a", MINUTE)
    assert not ok
    assert (standing.name, standing.limit, standing.window_s, standing.remaining) == ("recordings", 10, 60, 0)
    assert standing.reset_s == 60


async def test_many_at_once_get_exactly_what_there_is(counters: Counters) -> None:
    outcomes = await asyncio.gather(*(granted(counters) for _ in range(50)))
    assert outcomes.count(True) == 10


async def test_many_at_once_by_two_doors_get_exactly_what_there_is(shared: list[Counters]) -> None:
    outcomes = await asyncio.gather(*(granted(shared[n % 2]) for n in range(50)))
    assert outcomes.count(True) == 10
    assert (await shared[1].look("recordings", "t/a", MINUTE)).remaining == 0


HAMMER = """
import asyncio, sys
from pathlib import Path
from cosygate.kit.clock import SystemClock
from cosygate.model.rates import Rate

async def main(kind, where, prefix):
    if kind == "sqlite":
        from cosygate.adapters.limits_sqlite import SqliteCounters
        counters = SqliteCounters(Path(where), SystemClock())
    else:
        from cosygate.adapters.limits_redis import RedisCounters
        from cosygate.wiring.redis import client
        redis = client(where, 200)
        counters = RedisCounters(redis, SystemClock(), prefix=prefix)
    print("ready", flush=True)
    sys.stdin.readline()
    granted = 0
    for _ in range(500 // AT_ONCE):
        turns = (counters.take("recordings", "t/a", (Rate(600, 3600),)) for _ in range(AT_ONCE))
        granted += sum(ok for ok, _ in await asyncio.gather(*turns))
    print(granted, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("kind", "count", "at_once"),
    [("sqlite", 2, 2), pytest.param("redis", 3, 50, marks=pytest.mark.needs("redis-server"))],
)
async def test_processes_that_count_against_each_other_lose_and_invent_nothing(
    tmp_path: Path, kind: str, count: int, at_once: int
) -> None:
    where = str(tmp_path / "counters.sqlite") if kind == "sqlite" else shared_redis().url
    text, prefix = HAMMER.replace("AT_ONCE", str(at_once)), own_prefix()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", text, kind, where, prefix],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    told = await asyncio.gather(*(asyncio.to_thread(p.communicate, "go\n", timeout=60) for p in processes))
    counts = [int(output) for output, _ in told]
    assert sum(counts) == 600 and all(counts)


async def test_the_reset_is_when_there_is_room_again(counters: Counters, clock: MovedClock) -> None:
    for _ in range(10):
        await granted(counters)
        await clock.advance(3)
    wait = (await counters.take("recordings", "t/a", MINUTE))[1].reset_s
    assert wait == pytest.approx(30)
    await clock.advance(wait - 1.5)
    assert not await granted(counters)
    await clock.advance(1.5)
    assert await granted(counters)
    assert not await granted(counters)  # of the ten, one has left


async def test_looking_counts_nothing(counters: Counters) -> None:
    for _ in range(20):
        assert (await counters.look("recordings", "t/a", MINUTE)).remaining == 10
    await granted(counters)
    assert (await counters.look("recordings", "t/a", MINUTE)).remaining == 9


async def test_of_several_rates_the_tightest_decides_and_a_refusal_costs_none(
    counters: Counters, clock: MovedClock
) -> None:
    assert [await granted(counters, rates=BOTH) for _ in range(5)] == [True, True, False, False, False]
    await clock.advance(60)
    ok, standing = await counters.take("recordings", "t/a", BOTH)
    assert ok  # the three that the minute refused are not in the hour
    assert (standing.limit, standing.window_s, standing.remaining) == (3, 3600, 0)
    assert standing.reset_s == pytest.approx(3540)
    assert not await granted(counters, rates=BOTH)
    await clock.advance(3540)
    assert await granted(counters, rates=BOTH)


async def test_names_and_keys_are_counted_apart(counters: Counters) -> None:
    for _ in range(10):
        assert await granted(counters)
    assert not await granted(counters)
    assert await granted(counters, "t/b")
    assert (await counters.take("live", "t/a", MINUTE))[0]


async def test_what_is_given_back_can_be_taken_again(counters: Counters) -> None:
    for _ in range(10):
        at = (await counters.take("recordings", "t/a", MINUTE))[1].at
    assert not await granted(counters)
    await counters.give_back("recordings", "t/a", MINUTE, at)
    assert (await counters.look("recordings", "t/a", MINUTE)).remaining == 1
    assert [await granted(counters), await granted(counters)] == [True, False]
    await counters.give_back("recordings", "nobody", MINUTE, at)
    assert [await granted(counters, "nobody") for _ in range(11)].count(True) == 10  # never below nothing


@pytest.mark.parametrize("rates", [(Rate(2, 60),), (Rate(200, 60),), (Rate(2, 60), Rate(200, 3600))])
async def test_what_is_given_back_leaves_those_that_were_counted_later(
    counters: Counters, clock: MovedClock, rates: tuple[Rate, ...]
) -> None:
    """Else there would be room again before their window has passed."""
    amount = rates[0].amount
    failed = (await counters.take("live", "t/a", rates))[1].at
    await clock.advance(20)
    for _ in range(amount - 1):
        assert (await counters.take("live", "t/a", rates))[0]
    await counters.give_back("live", "t/a", rates, failed)
    assert (await counters.take("live", "t/a", rates))[0]
    await clock.advance(59.5)  # the first of them is 79.5 s old, the others are not 60
    assert (await counters.look("live", "t/a", rates)).remaining == 0
    assert not (await counters.take("live", "t/a", rates))[0]


async def test_what_has_left_its_window_is_not_given_back_out_of_it(counters: Counters, clock: MovedClock) -> None:
    failed = (await counters.take("live", "t/a", BOTH))[1].at
    await clock.advance(61)
    assert (await counters.take("live", "t/a", BOTH))[0]
    await counters.give_back("live", "t/a", BOTH, failed)  # in the hour alone
    assert [(await counters.take("live", "t/a", BOTH))[0] for _ in range(2)] == [True, False]
    await clock.advance(61)
    assert [(await counters.take("live", "t/a", BOTH))[0] for _ in range(2)] == [True, False]


@pytest.mark.parametrize("rate", [Rate(7, 10), Rate(300, 60), Rate(1, 1)])
async def test_no_window_ever_holds_more_and_little_is_refused_too_long(
    counters: Counters, clock: MovedClock, rate: Rate
) -> None:
    dice, taken = random.Random(rate.amount), list[float]()
    for _ in range(1_500):
        ok = await granted(counters, rates=(rate,))
        now = clock.mono
        within = sum(1 for at in taken if at > now - rate.window_s)
        late = sum(1 for at in taken if at > now - rate.window_s * (1 + 1 / GRAINS) - 1e-6)
        assert within < rate.amount if ok else late >= rate.amount
        if ok:
            taken.append(now)
        clock.mono += dice.expovariate(1.2 * rate.amount / rate.window_s)  # a little more than may pass
    assert len(taken) > rate.amount


@pytest.mark.parametrize("opening", ["memory", "sqlite"], indirect=True)  # in Redis they expire
async def test_keys_are_bounded_and_those_counted_longest_ago_go_first(opening: Open, clock: MovedClock) -> None:
    counters = opening(keys=100)
    one = (Rate(1, 3600),)
    for n in range(300):
        await granted(counters, f"t/{n}", one)
        clock.mono += 0.1
    left = [(await counters.look("recordings", f"t/{n}", one)).remaining for n in range(300)]
    assert left.count(0) <= 100 + 64  # what came since they were looked through
    assert left[250:] == [0] * 50
    await counters.close()


async def test_closed_counters_are_down(opening: Open) -> None:
    counters = opening()
    await granted(counters)
    await counters.close()
    with pytest.raises(CountersDown):
        await granted(counters)
    with pytest.raises(CountersDown):
        await counters.look("recordings", "t/a", MINUTE)


# --- the file alone ----------------------------------------------------------------------------------------------


async def test_a_locked_file_is_waited_for_a_moment_then_nobody_tries_for_a_while(
    tmp_path: Path, clock: MovedClock
) -> None:
    counters = SqliteCounters(tmp_path / "counters.sqlite", clock)
    assert await granted(counters)
    holder = sqlite3.connect(tmp_path / "counters.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    outcomes = await asyncio.gather(*(granted(counters, f"t/{n}") for n in range(200)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {CountersDown}
    assert time.monotonic() - began < 5  # they waited together, not each a tenth of a second
    holder.execute("ROLLBACK")
    holder.close()
    with pytest.raises(CountersDown):
        await granted(counters)  # for the rest of a second
    await asyncio.sleep(1.1)
    assert (await counters.take("recordings", "t/a", MINUTE))[1].remaining == 8  # nothing was lost, nothing added
    await counters.close()


async def test_a_damaged_file_is_down_and_not_a_crash(tmp_path: Path, clock: MovedClock) -> None:
    (tmp_path / "counters.sqlite").write_bytes(b"no database" * 1000)
    counters = SqliteCounters(tmp_path / "counters.sqlite", clock)
    with pytest.raises(CountersDown):
        await granted(counters)
    await counters.close()
    nowhere = SqliteCounters(tmp_path / "gone" / "counters.sqlite", clock)
    with pytest.raises(CountersDown):
        await granted(nowhere)
    await nowhere.close()


async def test_a_process_killed_in_the_middle_of_a_count_leaves_the_others_counting(
    tmp_path: Path, clock: MovedClock
) -> None:
    path = tmp_path / "counters.sqlite"
    counters = SqliteCounters(path, clock)
    assert await granted(counters)
    text = (
        "import sqlite3, sys, time\n"
        f"c = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE'); c.execute('DELETE FROM counters')\n"
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"held\n"
        with pytest.raises(CountersDown):
            await granted(counters)
        victim.kill()
    await asyncio.sleep(1.1)
    assert (await counters.take("recordings", "t/a", MINUTE))[1].remaining == 8
    await counters.close()
