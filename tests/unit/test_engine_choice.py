"""Which of several engines is called, when several gateways call the same ones: real rooms over engines with places,
which tell how many are taken, on a clock that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.flows.choose_engine import EngineRoom
from cosygate.kit.clock import SystemRandomness
from cosygate.kit.retry_budget import RESERVE
from cosygate.model.options import TranscribeOptions
from cosygate.ports.engine import EngineInfo
from cosygate.settings import Settings
from cosygate.wiring import open_house
from cosygate.wiring.engines import engine_room
from tests.support.breakers import breakers, numbered
from tests.support.clock import MovedClock, SeededRandomness
from tests.support.told_engines import ToldEngine

SLOTS = 2


class Places(ToldEngine):
    def __init__(self) -> None:
        super().__init__()
        self.inside = {False: 0, True: 0}  # calls about recordings, live ones: at work, or in line
        self.served = 0
        self.refuses = False  # live calls
        self.answers: asyncio.Event | None = None  # when it has counted them, and not before this

    @property
    def waiting(self) -> int:
        return max(0, self.inside[False] - SLOTS)

    @property
    def free(self) -> int:
        return max(0, SLOTS - self.inside[False])

    async def describe(self) -> EngineInfo:
        told = await super().describe()
        busy, live_busy = (min(SLOTS, self.inside[live]) for live in (False, True))
        if self.answers is not None:
            await self.answers.wait()
        return EngineInfo("places", "1", SLOTS, busy, told.models, SLOTS, live_busy)


class Site:
    """Gateways of one machine: what each sees of the others is what engines tell."""

    def __init__(self, gateways: int, engines: int, *, firsts: Sequence[int] | None = None) -> None:
        self.clock = MovedClock()
        self.engines = [Places() for _ in range(engines)]
        self.rooms = [
            EngineRoom(numbered(*self.engines), self.clock, breakers(self.clock), first=first)
            for first in firsts or [g * engines // gateways for g in range(gateways)]
        ]
        self.calls: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def calling(self, gateway: int, *, live: bool = False) -> AsyncIterator[int]:
        """The number of the engine that is called."""
        async with self.rooms[gateway].borrow(TranscribeOptions(), live=live) as lent:
            number = next(n for n, engine in enumerate(self.engines) if engine is lent._engine)
            if live and (self.engines[number].refuses or self.engines[number].inside[True] >= SLOTS):
                raise errors.EngineBusy
            self.engines[number].inside[live] += 1
            self.engines[number].served += 1
            try:
                yield number
            finally:
                self.engines[number].inside[live] -= 1

    async def hold(self, gateway: int, count: int = 1, *, live: bool = False) -> None:
        """So many calls that go on."""

        async def call() -> None:
            async with self.calling(gateway, live=live):
                await asyncio.Event().wait()

        for _ in range(count):
            self.calls.append(asyncio.create_task(call()))
            await self.clock.advance(0)

    def taken(self, *, live: bool = False) -> list[int]:
        return [engine.inside[live] for engine in self.engines]

    async def close(self) -> None:
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(("gateways", "engines"), [(4, 4), (2, 4), (4, 2), (1, 4)])
async def test_all_engines_have_work_from_the_first_moment(gateways: int, engines: int, live: bool) -> None:
    """Before anybody could have told what the others do."""
    site = Site(gateways, engines)
    for room in site.rooms:
        await room.refresh()
    for _ in range(SLOTS * engines // gateways):
        for gateway in range(gateways):
            await site.hold(gateway, live=live)
    assert site.taken(live=live) == [SLOTS] * engines
    await site.close()


@pytest.mark.parametrize("live", [False, True])
async def test_what_others_do_there_counts(live: bool) -> None:
    site = Site(2, 2, firsts=[0, 0])
    await site.rooms[1].refresh()
    await site.hold(0, 3, live=live)
    assert site.taken(live=live) == [2, 1]
    await site.clock.advance(6)
    await site.hold(1, live=live)
    assert site.taken(live=live) == [2, 2]
    await site.close()


async def test_calls_of_its_own_that_began_since_count_beside_them() -> None:
    site = Site(2, 3, firsts=[0, 0])
    await site.hold(0, 1)
    await site.rooms[1].refresh()  # it learns of that one, and of nothing else
    await site.hold(1, 5)
    assert site.taken() == [2, 2, 2]
    await site.close()


async def test_calls_of_its_own_are_not_taken_for_others() -> None:
    site = Site(1, 2)
    await site.hold(0, 1)
    site.engines[1].inside[False] = SLOTS
    await site.clock.advance(6)
    await site.rooms[0].refresh()
    async with site.calling(0) as number:
        assert number == 0, "it has one, and the other two"
    await site.close()


async def test_nor_is_one_that_ends_while_the_engine_is_asked() -> None:
    site = Site(1, 2)
    await site.hold(0, 1)
    site.engines[0].answers = asyncio.Event()
    site.engines[1].inside[False] = SLOTS
    await site.clock.advance(6)
    asked = asyncio.create_task(site.rooms[0].refresh(force=True))
    await site.clock.advance(0)
    site.calls[0].cancel()  # it was counted, and is no more
    await site.clock.advance(0)
    site.engines[0].answers.set()
    await asked
    await site.hold(0, 2)
    assert site.taken() == [2, SLOTS]
    await site.close()


async def test_recordings_and_live_calls_take_no_places_of_each_other() -> None:
    site = Site(1, 2)
    await site.hold(0, 1, live=True)
    await site.hold(0, 1)
    await site.hold(0, 1, live=True)
    assert (site.taken(), site.taken(live=True)) == ([1, 0], [1, 1])
    await site.close()


async def test_one_that_had_no_room_is_tried_last_for_a_moment() -> None:
    """It may say that it has: another gateway is faster each time."""
    site = Site(1, 2)
    for engine in site.engines:
        engine.refuses = engine is site.engines[0]
    await site.hold(0, 2, live=True)
    assert (site.taken(live=True), [call.done() for call in site.calls]) == ([0, 1], [True, False])
    await site.hold(0, 1, live=True)
    assert site.taken(live=True) == [0, 2], "though the first looks free"
    async with site.calling(0) as number:
        assert number == 0, "it is full for live calls alone"
    await site.clock.advance(3)
    site.engines[0].refuses = False
    await site.hold(0, 1, live=True)
    assert site.taken(live=True) == [1, 2]
    await site.close()


async def test_a_gateway_without_sessions_does_not_begin_with_the_engine_that_is_full() -> None:
    site = Site(2, 2, firsts=[0, 0])
    site.engines[0].inside[True] = SLOTS  # another gateway's, since long ago
    await site.hold(1, 1, live=True)
    assert site.taken(live=True) == [SLOTS, 1]
    await site.close()


async def test_no_engine_stands_idle_while_others_have_a_line() -> None:
    """Four gateways, each with as many jobs at once as its runner takes (a share of all slots and one more), long and
    short. Nobody knows all, so now and then somebody waits in vain: for less than a tenth of the time of all slots."""
    site, random = Site(4, 4), SeededRandomness(7)
    slots = [asyncio.Semaphore(SLOTS) for _ in site.engines]

    async def run(gateway: int) -> None:
        while True:
            await site.clock.sleep(random.uniform(0, 3))
            async with site.calling(gateway) as number, slots[number]:
                await site.clock.sleep(random.uniform(1, 6))

    site.calls += [asyncio.create_task(run(gateway)) for gateway in range(4) for _ in range(3)]
    idle, steps = 0, 1000
    for _ in range(steps):
        await site.clock.advance(0.1)
        idle += min(sum(e.waiting for e in site.engines), sum(e.free for e in site.engines))
    assert idle / steps / (SLOTS * len(site.engines)) < 0.1
    served = [engine.served for engine in site.engines]
    assert min(served) > 0.8 * max(served)
    await site.close()


@pytest.mark.parametrize(
    ("workers", "engines", "firsts"),
    [(1, 4, [0]), (2, 4, [0, 2]), (4, 4, [0, 1, 2, 3]), (4, 2, [0, 0, 1, 1]), (3, 1, [0, 0, 0])],
)
async def test_gateways_begin_with_different_engines(workers: int, engines: int, firsts: list[int]) -> None:
    settings, addresses = Settings(workers=workers), [f"unix:/nowhere/{n}" for n in range(engines)]
    found = []
    for index in range(workers):
        async with AsyncExitStack() as stack:
            room = engine_room(settings, addresses, None, MovedClock(), SystemRandomness(), stack, index=index)
            found.append(room._first)
    assert found == firsts


async def test_a_house_knows_which_gateway_of_how_many_it_is(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, workers=5)
    async with open_house(settings, [f"unix:{tmp_path}/{n}" for n in range(5)], 3) as house:
        assert house.engines._first == 3
        budget, repeats = house.transcribe._retrying._budget, 0
        while budget.take(house.clock.monotonic()):
            repeats += 1
        assert repeats == RESERVE / 5
