"""Breakers in Redis: hosts with clocks of their own, and what becomes of breakers when Redis is away, hangs, is emptied
or has its clock set. (The port's promises: tests/contract/test_breaker_board.py.)"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis as Client

from cosygate.adapters.breaker_redis import RedisBreakers
from cosygate.adapters.breaker_redis.place import Outcome, Value
from cosygate.adapters.breaker_redis.times import Offset, packed, unpacked
from cosygate.flows.breakers import Breakers
from cosygate.kit.breaker import Breaker, Phase
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.ports.breaker import BoardBusy
from deploy.local_cluster.services import Redis
from tests.support.clock import MovedClock, SeededRandomness
from tests.support.moved_redis import MovedRedis, connect
from tests.support.services import redis

pytestmark = pytest.mark.needs("redis-server")
ENGINE = "engine-1.example:9000"


class Host(SystemClock):
    """A host's clock: as fast as ours, and else anything."""

    def __init__(self, since_start: float, wall: float = 0.0) -> None:
        self.since_start, self.wall = since_start, wall
        self._began = time.monotonic()

    def monotonic(self) -> float:
        return time.monotonic() - self._began + self.since_start

    def now(self) -> float:
        return time.time() + self.wall


Opening = Callable[..., "RedisBreakers"]


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
async def opening(server: Redis, client: Client) -> AsyncIterator[Opening]:
    """Boards of so many hosts, each with its own client."""
    boards: list[RedisBreakers] = []
    clients: list[Client] = []

    def opened(clock: SystemClock | None = None, **more: float) -> RedisBreakers:
        clients.append(connect(server.url))
        boards.append(RedisBreakers(clients[-1], clock or SystemClock(), SystemRandomness(), **more))
        boards[-1].start()
        return boards[-1]

    yield opened
    for board in boards:
        await board.close()
    for one in clients:
        await one.aclose()


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def ready(board: RedisBreakers) -> None:
    """It can be changed."""
    async with asyncio.timeout(20):
        while True:
            try:
                await board.change("another", lambda b: b)
                return
            except BoardBusy:
                await asyncio.sleep(0.02)


def failing(clock: SystemClock | MovedClock, times: int = 5) -> Callable[[Breaker], Breaker]:
    def step(breaker: Breaker) -> Breaker:
        for _ in range(times):
            breaker = breaker.failed(clock.monotonic(), open_s=60)
        return breaker

    return step


# --- clocks ---


async def test_what_one_host_opens_is_open_on_all_for_as_long(opening: Opening) -> None:
    """Hosts that were started at other times, one with a wall clock an hour wrong."""
    clocks = [Host(50.0), Host(9_000_000.0, wall=3600), Host(77.7, wall=-3600)]
    boards = [opening(clock) for clock in clocks]
    for board in boards:
        await ready(board)
    await boards[0].change(ENGINE, failing(clocks[0]))
    await until(lambda: all(board.look(ENGINE).open_until is not None for board in boards), 1.0)
    waits = [board.look(ENGINE).wait_s(clock.monotonic()) for board, clock in zip(boards, clocks, strict=True)]
    assert max(waits) - min(waits) < 0.1
    assert 58 < min(waits) <= max(waits) <= 60.1


async def test_the_probe_of_one_host_is_taken_on_all_and_renewed_by_its_clock(opening: Opening) -> None:
    one, two = Host(50.0), Host(9_000_000.0)
    mine, others = opening(one), opening(two)
    await ready(mine)
    await ready(others)
    await mine.change(ENGINE, lambda b: b.failed(one.monotonic(), open_s=60)._opened(one.monotonic(), 0.2))
    await asyncio.sleep(0.25)
    now = two.monotonic()
    probes = await asyncio.gather(
        mine.change(ENGINE, lambda b: b.probing(one.monotonic(), "mine")),
        others.change(ENGINE, lambda b: b.probing(two.monotonic(), "others")),
    )
    assert probes[0].probe == probes[1].probe
    assert probes[1].probed(now + 59)
    assert not probes[1].probed(now + 61)
    winner, clock, board = ("mine", one, mine) if probes[0].probe == "mine" else ("others", two, others)
    until_s = probes[1].probe_until
    await board.change(ENGINE, lambda b: b.heard(clock.monotonic() + 10, winner))
    await until(lambda: others.look(ENGINE).probe_until > until_s + 9, 1.0)
    await board.change(ENGINE, lambda b: b.succeeded(clock.monotonic(), winner, open_s=60))
    await until(lambda: mine.look(ENGINE) == others.look(ENGINE) == Breaker(), 1.0)


async def test_a_death_that_one_host_counted_is_counted_on_no_other(opening: Opening) -> None:
    one, two = Host(50.0), Host(9_000_000.0)
    mine, others = opening(one), opening(two)
    await ready(mine)
    await ready(others)
    heard = two.monotonic()
    await asyncio.sleep(0.05)
    await mine.change(ENGINE, lambda b: b.gone(one.monotonic(), heard_at=one.monotonic() - 1, open_s=60))
    after = await others.change(ENGINE, lambda b: b.gone(two.monotonic(), heard_at=heard, open_s=60))
    assert after.streak == 1
    await asyncio.sleep(0.05)
    heard = two.monotonic()  # of the engine that was started again
    after = await others.change(ENGINE, lambda b: b.gone(two.monotonic(), heard_at=heard, open_s=60))
    assert after.streak == 2


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_redis_clock_that_is_set_closes_nothing_and_opens_nothing_for_longer(
    client: Client, jump_s: float
) -> None:
    clock = MovedClock()
    moved = MovedRedis(client, clock)

    def board(seed: int) -> RedisBreakers:
        made = RedisBreakers(moved, clock, SeededRandomness(seed))  # type: ignore[arg-type]
        made.start()
        return made

    mine = board(1)
    await ready(mine)
    await mine.change(ENGINE, failing(clock))
    moved.ahead_s += jump_s
    await clock.advance(0.25)
    await asyncio.sleep(0.05)
    assert mine.look(ENGINE).wait_s(clock.mono) == pytest.approx(59.75)
    later = board(2)  # it knows only what is in Redis
    await ready(later)
    wait_s = later.look(ENGINE).wait_s(clock.mono)
    assert wait_s == (pytest.approx(60, abs=0.3) if jump_s < 0 else 0)
    after = await mine.change(ENGINE, lambda b: b.gone(clock.mono, heard_at=clock.mono, open_s=60))
    assert after.wait_s(clock.mono) == pytest.approx(59.75)
    await clock.advance(0.25)
    await asyncio.sleep(0.05)
    assert later.look(ENGINE).wait_s(clock.mono) == pytest.approx(59.5, abs=0.01)  # in Redis's new time by now
    for one in (mine, later):
        await one.close()


def test_an_offset_is_wrong_by_a_round_trip_at_most_and_stays() -> None:
    offset, dice = Offset(), random.Random(1)
    right, seen = 1_700_000_000.25, set[float]()
    for n in range(1000):
        sent = 100.0 + n
        there, back = dice.uniform(0.0001, 0.02), dice.uniform(0.0001, 0.02)
        offset.measured(sent, sent + there + back, sent + there + right)
        assert offset.seconds is not None
        assert abs(offset.seconds - right) <= there + back
        seen.add(offset.seconds)
    assert abs(offset.seconds - right) < 0.002
    assert len(seen) < 50  # of a thousand


def test_what_is_read_and_written_again_is_what_it_was() -> None:
    breaker = Breaker()
    for n in range(100):
        breaker = breaker.succeeded(1000 + n / 3, open_s=60)
    breaker = breaker.gone(1033.4, heard_at=2000, open_s=60)
    there = packed(breaker, 1_700_000_000.37)
    others = unpacked(there, 1_690_000_000.81)
    for _ in range(100):
        there = packed(others, 1_690_000_000.81)
        assert unpacked(there, 1_690_000_000.81) == others
    assert others.quarters[0][0] - breaker.quarters[0][0] == pytest.approx(4 * 9_999_999.56, abs=1)
    back = unpacked(there, 1_700_000_000.37)
    assert back.gone_at == pytest.approx(1033.4, abs=1e-5)
    shifts = {mine[0] - its[0] for mine, its in zip(breaker.quarters, back.quarters, strict=True)}
    assert len(shifts) == 1 and abs(shifts.pop()) <= 1
    assert back.streak == breaker.streak == 1


# --- Redis goes away ---


async def test_changes_are_refused_at_once_while_redis_is_known_to_be_away(server: Redis, opening: Opening) -> None:
    clock = SystemClock()
    board = opening()
    await ready(board)
    known = await board.change(ENGINE, failing(clock))
    server.kill()
    try:
        await asyncio.sleep(0.4)
        waits = []
        for _ in range(50):
            began = time.monotonic()
            with pytest.raises(BoardBusy):
                await board.change(ENGINE, failing(clock))
            waits.append(time.monotonic() - began)
        assert max(waits) < 0.02
        assert board.look(ENGINE) is known
    finally:
        server.start()
    await ready(board)
    await until(lambda: board.look(ENGINE) == Breaker(), 1.0)  # emptied


async def test_a_redis_that_hangs_is_waited_for_a_moment_and_changes_nothing_afterwards(
    server: Redis, opening: Opening
) -> None:
    clock = SystemClock()
    board, other = opening(), opening()
    await ready(board)
    await ready(other)
    before = await board.change(ENGINE, failing(clock, 1))
    server.pause()
    try:
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(board.change(ENGINE, failing(clock, 1)) for _ in range(20)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {BoardBusy}
        assert time.monotonic() - began < 0.2
        began = time.monotonic()
        with pytest.raises(BoardBusy):
            await board.change(ENGINE, failing(clock, 1))
        assert time.monotonic() - began < 0.02
        await asyncio.sleep(0.1)
    finally:
        server.resume()
    await ready(board)
    await asyncio.sleep(0.6)
    assert board.look(ENGINE).streak == other.look(ENGINE).streak == before.streak == 1


async def test_what_redis_reads_too_late_is_void(server: Redis, opening: Opening) -> None:
    board = opening()
    await ready(board)
    server.pause()
    try:
        late = asyncio.create_task(board._place.swap(ENGINE, "", "0123456789abcdef", failing(SystemClock())(Breaker())))
        await asyncio.sleep(0.3)
    finally:
        server.resume()
    outcome = await late
    assert (outcome.done, outcome.other) == (False, False)
    await asyncio.sleep(0.6)
    assert board.look(ENGINE) == Breaker()


async def test_an_emptied_redis_is_closed_breakers(client: Client, opening: Opening) -> None:
    board = opening()
    await ready(board)
    await board.change(ENGINE, failing(SystemClock()))
    await client.flushall()
    await until(lambda: board.look(ENGINE) == Breaker(), 1.0)
    assert (await board.change(ENGINE, failing(SystemClock(), 1))).streak == 1


async def test_what_an_emptied_redis_was_told_since_is_not_taken_for_what_was_there(
    client: Client, opening: Opening
) -> None:
    board, other = opening(), opening()
    await ready(board)
    await ready(other)
    await board.change(ENGINE, failing(SystemClock(), 3))
    await client.flushall()
    other._seen.clear()  # it has looked, and the first has not
    await other.change(ENGINE, failing(SystemClock(), 1))
    assert (await board.change(ENGINE, failing(SystemClock(), 1))).streak == 2


async def test_after_a_while_without_redis_each_goes_on_alone_and_tells_later(server: Redis, opening: Opening) -> None:
    clock = SystemClock()
    board, other = opening(alone_s=0.3), opening(alone_s=0.3)
    await ready(board)
    await ready(other)
    await board.change(ENGINE, lambda b: b._opened(clock.monotonic(), 0.1))
    await until(lambda: other.look(ENGINE).open_until is not None)
    server.kill()
    try:
        await asyncio.sleep(1.0)
        mine = await board.change(ENGINE, lambda b: b.probing(clock.monotonic(), "mine"))
        others = await other.change(ENGINE, lambda b: b.probing(clock.monotonic(), "others"))
        assert (mine.probe, others.probe) == ("mine", "others")  # they cannot know of each other
        await board.change(ENGINE, lambda b: b.failed(clock.monotonic(), "mine", open_s=60))
        assert board.look(ENGINE).phase(clock.monotonic()) is Phase.OPEN
        await board.change("one that only this one knows", failing(clock, 4))
    finally:
        server.start()
    await until(lambda: not board._seen[ENGINE].untold and not other._seen[ENGINE].untold)
    await asyncio.sleep(0.3)
    assert board._seen[ENGINE].token == other._seen[ENGINE].token  # of whoever was first
    await until(lambda: other.look("one that only this one knows").streak == 4, 5.0)
    assert (await other.change("one that only this one knows", failing(clock, 1))).open_until is not None


async def test_what_others_told_while_one_was_alone_counts(client: Client, server: Redis, opening: Opening) -> None:
    clock = SystemClock()
    board, other = opening(alone_s=0.0), opening()
    await ready(board)
    await ready(other)
    await board.change(ENGINE, failing(clock, 1))
    board._lost()
    board._told_away = True
    await board.change(ENGINE, failing(clock, 1))  # alone
    await until(lambda: other.look(ENGINE).streak == 1)
    await other.change(ENGINE, failing(clock, 2))
    await until(lambda: board.look(ENGINE).streak == other.look(ENGINE).streak, 2.0)
    assert other.look(ENGINE).streak in (3, 4)  # the other one was first; or it told on top of it
    assert not board._seen[ENGINE].untold


async def test_a_redis_that_takes_no_writes_is_away_too(client: Client, opening: Opening) -> None:
    board = opening(alone_s=0.5)
    await ready(board)
    await client.config_set("maxmemory", 1)
    try:
        with pytest.raises(BoardBusy):
            await board.change(ENGINE, failing(SystemClock(), 1))
        await asyncio.sleep(1.0)
        assert (await board.change(ENGINE, failing(SystemClock(), 1))).streak == 1
    finally:
        await client.config_set("maxmemory", 0)
    await until(lambda: not board._seen[ENGINE].untold, 2.0)
    assert (await client.hlen("cosygate:breakers")) == 1


async def test_a_gateway_that_starts_without_redis_begins_alone_and_joins(server: Redis, opening: Opening) -> None:
    server.kill()
    try:
        board = opening(alone_s=0.2)
        with pytest.raises(BoardBusy):
            await board.change(ENGINE, failing(SystemClock(), 1))
        await asyncio.sleep(0.5)
        assert (await board.change(ENGINE, failing(SystemClock(), 2))).streak == 2
    finally:
        server.start()
    other = opening()
    await until(lambda: other.look(ENGINE).streak == 2)


async def test_flows_keep_what_a_short_absence_could_not_be_told(server: Redis, opening: Opening) -> None:
    boards = [opening(), opening()]
    for board in boards:
        await ready(board)
    mine, others = (Breakers(board, SystemClock(), SystemRandomness()) for board in boards)
    server.pause()
    try:
        for _ in range(5):
            mine.failed(ENGINE)
        assert mine.blocked_s([ENGINE]) > 50
        assert await mine.probe(ENGINE) == ""
        await asyncio.sleep(0.7)
        assert others.blocked_s([ENGINE]) == 0
    finally:
        server.resume()
    await until(lambda: others.blocked_s([ENGINE]) > 50)
    assert others.of(ENGINE).quarters == ()  # opened once, by five


# --- many at once ---

CHANGES = """
import asyncio, sys
from cosygate.adapters.breaker_redis import RedisBreakers
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.ports.breaker import BoardBusy
from cosygate.wiring.redis import client

async def main(url, count):
    board, done = RedisBreakers(client(url, 10), SystemClock(), SystemRandomness()), 0
    board.start()
    while done < count:
        turns = (board.change("0", lambda b: b.succeeded(1000.0, open_s=60)) for _ in range(min(5, count - done)))
        outcomes = await asyncio.gather(*turns, return_exceptions=True)
        done += sum(not isinstance(outcome, BoardBusy) for outcome in outcomes)
        await asyncio.sleep(0.001)
    await board.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_no_change_is_lost_among_processes(server: Redis, opening: Opening) -> None:
    others = [subprocess.Popen([sys.executable, "-c", CHANGES, server.url, "60"]) for _ in range(3)]
    try:
        assert [await asyncio.to_thread(other.wait, 120) for other in others] == [0, 0, 0]
    finally:
        for other in others:
            other.kill()
            other.wait()
    board = opening()
    await until(lambda: bool(board.look("0").quarters))
    # What was given up just when it was made, and built upon, is told again: on a busy machine a few.
    assert 180 <= sum(good for _, good, _ in board.look("0").quarters) < 200


async def test_a_change_that_was_made_though_nobody_waited_for_it_is_taken_back(
    server: Redis, client: Client, opening: Opening
) -> None:
    board, other = opening(), opening()
    await ready(board)
    await ready(other)
    await board.change(ENGINE, failing(SystemClock(), 1))
    swap = board._place.swap

    async def late(*arguments: Any) -> Outcome:
        outcome = await swap(*arguments)
        await asyncio.sleep(1)
        return outcome

    board._place.swap = late  # type: ignore[method-assign]
    with pytest.raises(BoardBusy):
        await board.change(ENGINE, failing(SystemClock(), 2))
    board._place.swap = swap  # type: ignore[method-assign]
    assert board.look(ENGINE).streak == 1
    await until(lambda: not board._seen[ENGINE].unsure and not board._seen[ENGINE].untold)
    await asyncio.sleep(0.6)
    assert board.look(ENGINE).streak == other.look(ENGINE).streak == 1
    await ready(board)
    assert (await board.change(ENGINE, failing(SystemClock(), 2))).streak == 3


async def test_a_caller_who_leaves_takes_nobody_with_him(opening: Opening) -> None:
    board = opening()
    await ready(board)
    calls = [asyncio.create_task(board.change(ENGINE, failing(SystemClock(), 1))) for _ in range(4)]
    await asyncio.sleep(0)
    calls[0].cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [isinstance(outcome, Breaker) for outcome in outcomes[1:]] == [True] * 3


async def test_closing_refuses_those_who_wait(opening: Opening) -> None:
    board = opening()
    await ready(board)
    known = await board.change(ENGINE, failing(SystemClock(), 1))
    waiting = asyncio.create_task(board.change(ENGINE, failing(SystemClock(), 1)))
    await asyncio.sleep(0)
    await board.close()
    async with asyncio.timeout(1):
        with pytest.raises(BoardBusy):
            await waiting
    with pytest.raises(BoardBusy):
        await board.change(ENGINE, lambda b: b)
    assert board.look(ENGINE) == known


async def test_closing_ends_it_whatever_it_is_doing(client: Client) -> None:
    """Before Python 3.12 a cancellation gets lost when it comes just as redis-py has sent something."""
    await client.ping()
    for turns in range(60):
        board = RedisBreakers(client, SystemClock(), SystemRandomness())
        board.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await board.close()


async def test_a_look_that_was_overtaken_by_a_change_does_not_undo_it(opening: Opening) -> None:
    board = opening()
    await ready(board)
    look = board._place.look

    async def slow(**writing: bool) -> dict[str, Value]:
        found = await look(**writing)
        await board.change(ENGINE, failing(SystemClock(), 1))
        return found

    board._place.look = slow  # type: ignore[method-assign]
    await board._look()
    assert board.look(ENGINE).streak == 1


# --- what lies in Redis ---


@pytest.mark.parametrize("damage", [b"", b"x", b"0123456789abcdef", b"0123456789abcdef12 {", b"0123456789abcdef1 [1]",
                                    b'0123456789abcdef1 {"quarters":[],"open_until":"x"}',
                                    b'0123456789abcdef1 {"quarters":[],"of a later version":1}'])  # fmt: skip
async def test_what_is_no_breaker_is_closed_and_replaced(client: Client, opening: Opening, damage: bytes) -> None:
    await client.hset("cosygate:breakers", ENGINE, damage)  # type: ignore[misc]
    board, other = opening(), opening()
    await ready(board)
    assert board.look(ENGINE) == Breaker()
    await board.change(ENGINE, failing(SystemClock(), 2))
    await until(lambda: other.look(ENGINE).streak == 2)


async def test_engines_that_are_gone_are_forgotten_after_a_day(client: Client) -> None:
    clock = MovedClock()
    board = RedisBreakers(MovedRedis(client, clock), clock, SeededRandomness())  # type: ignore[arg-type]
    board.start()
    await ready(board)
    for n in range(50):
        await board.change(f"10.0.0.{n}:9000", failing(clock, 1))
    clock.mono += 80_000
    await board.change("10.0.0.7:9000", failing(clock, 1))
    clock.mono += 10_000
    await board.change("10.0.1.1:9000", failing(clock, 1))
    assert sorted(await client.hkeys("cosygate:breakers")) == [b"10.0.0.7:9000", b"10.0.1.1:9000"]  # type: ignore[misc]
    assert 86_000 < await client.ttl("cosygate:breakers") <= 86_400
    await clock.advance(0.25)
    await asyncio.sleep(0.1)
    assert len(board._seen) == 2
    await board.close()
