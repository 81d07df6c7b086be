"""The one call that finds out whether an engine is well again: who makes it, and when it has told enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cosygate import errors
from cosygate.adapters.breaker_memory import MemoryBreakers
from cosygate.flows.breakers import Breakers
from cosygate.kit.breaker import PROBE_S, Breaker, Phase
from cosygate.ports.engine import Accepted, EngineEvent, Heard, ListenEvent, Progress
from tests.support.clock import MovedClock, SeededRandomness
from tests.support.told_engines import WORDS, Room


@pytest.fixture
def house() -> Room:
    return Room()


async def test_one_that_was_open_gets_one_call_though_another_is_well() -> None:
    house = Room(2)
    await house.open(0)
    await house.clock.advance(67)
    assert await house.call(suspect=True) == 1  # a bad recording would tell nothing
    house.engines[0].hold = asyncio.Event()
    house.engines[0].events = [Accepted(0), Progress(10)]
    probe = asyncio.create_task(house.call())
    await house.clock.advance(0)
    assert [await house.call() for _ in range(4)] == [1] * 4
    assert house.phase(0) is Phase.HALF_OPEN
    house.engines[0].hold.set()
    assert await probe == 0
    assert house.phase(0) is Phase.CLOSED


async def test_a_suspect_makes_the_probe_when_there_is_nobody_else(house: Room) -> None:
    await house.open()
    await house.clock.advance(67)
    house.engines[0].events = [Accepted(0)]
    await house.fails(lambda: house.call(alone=True, suspect=True))
    assert house.phase() is Phase.OPEN  # it may be the engine after all
    await house.clock.advance(67)
    await house.call(alone=True, suspect=True)
    assert house.phase() is Phase.CLOSED


async def test_a_probe_has_told_enough_with_its_first_words(house: Room) -> None:
    """It may be twelve hours long, and everybody waits for it."""
    await house.open()
    await house.clock.advance(67)
    house.engines[0].hold = asyncio.Event()
    probe = asyncio.create_task(house.call())
    await house.clock.advance(0)
    assert house.phase() is Phase.CLOSED
    house.engines[0].error = errors.EngineFailed()
    house.engines[0].hold.set()
    with pytest.raises(errors.EngineFailed):
        await probe
    assert (house.phase(), house.breakers.of("0").streak) == (Phase.CLOSED, 1)


@pytest.mark.parametrize("error", [errors.EngineBusy(), errors.EngineRefused(), errors.DecoderDied()])
async def test_a_probe_that_tells_nothing_is_given_back(house: Room, error: Exception) -> None:
    await house.open()
    await house.clock.advance(67)
    house.engines[0].events = [Accepted(0)]
    await house.fails(house.call, error)
    await house.clock.advance(0)
    assert (house.phase(), house.room.pause_s()) == (Phase.HALF_OPEN, 0)
    await house.call()
    assert house.phase() is Phase.CLOSED


@pytest.mark.parametrize("live", [False, True])
async def test_a_probe_whose_first_words_take_minutes_closes_it(house: Room, live: bool) -> None:
    """A slow engine, which tells its progress, and callers that come again and again meanwhile."""
    engine = house.engines[0]
    await house.open()
    await house.clock.advance(67)
    engine.pace_s = 20.0
    signs: list[EngineEvent] = [Progress(n) for n in range(12)]
    heard: list[ListenEvent] = [Heard(n) for n in range(12)]
    engine.events, engine.heard = [Accepted(0), *signs, WORDS], [Accepted(0), *heard]
    probe = asyncio.create_task(house.listen() if live else house.call())
    await house.clock.advance(0)
    for _ in range(12):
        await house.clock.advance(20)
        assert house.phase() is Phase.HALF_OPEN
        with pytest.raises(errors.BreakerOpen):
            await house.call()
    assert engine.calls == 1
    await house.clock.advance(20)
    await house.clock.advance(20)
    assert house.phase() is Phase.CLOSED
    engine.pace_s = 0.0
    assert await probe == 0


async def test_a_probe_that_accepted_and_told_nothing_more_is_forgotten(house: Room) -> None:
    await house.open()
    await house.clock.advance(67)
    house.engines[0].hold, house.engines[0].events = asyncio.Event(), [Accepted(0), Progress(10)]
    silent = asyncio.create_task(house.call())
    await house.clock.advance(PROBE_S - 1)
    with pytest.raises(errors.BreakerOpen):
        await house.call()
    await house.clock.advance(2)
    house.engines[0].hold.set()
    await asyncio.gather(silent, house.call())
    assert (house.phase(), house.engines[0].calls) == (Phase.CLOSED, 2)


async def test_a_probe_without_end_is_not_waited_for(house: Room) -> None:
    """A live caller who says nothing."""
    await house.open()
    await house.clock.advance(67)
    house.engines[0].hold = asyncio.Event()
    silent = asyncio.create_task(house.listen())
    await house.clock.advance(1)
    with pytest.raises(errors.BreakerOpen):
        await house.call()
    assert (house.room.blocked_s(), house.room.pause_s() > 0) == (0, True)
    await house.clock.advance(PROBE_S)
    house.engines[0].hold.set()
    await house.call()
    assert house.phase() is Phase.CLOSED
    assert await silent == 0


class FarBoard(MemoryBreakers):
    """The first probe that is taken there is answered never."""

    far = True

    async def change(self, engine: str, step: Callable[[Breaker], Breaker]) -> Breaker:
        after = await super().change(engine, step)
        if self.far and after.probe:
            self.far = False
            await asyncio.Event().wait()
        return after


async def test_a_probe_whose_caller_left_while_it_was_taken_is_anothers() -> None:
    board, clock = FarBoard(), MovedClock()
    room = Breakers(board, clock, SeededRandomness(), open_s=60.0)
    for _ in range(5):
        room.failed("far:1")
    await clock.advance(0)
    await clock.advance(67)
    assert room.of("far:1").phase(clock.monotonic()) is Phase.HALF_OPEN
    asking = asyncio.create_task(room.probe("far:1"))
    await clock.advance(0)
    assert board.look("far:1").probe
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await clock.advance(0)
    assert await room.probe("far:1") != ""
