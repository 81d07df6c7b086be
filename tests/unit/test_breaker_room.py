"""What the end of a call means to an engine's breaker, and which engine is lent because of it: the real room and
breakers, with engines that fail as told, on a clock that tests move."""

from __future__ import annotations

import asyncio

import pytest

from cosygate import errors
from cosygate.kit.breaker import Phase
from cosygate.ports.engine import Accepted, Decided, Heard
from tests.support.told_engines import Room, gone


@pytest.fixture
def house() -> Room:
    return Room()


@pytest.mark.parametrize("error", [errors.EngineFailed(), errors.EngineUnavailable(), gone(errors.EngineFailed)])
async def test_five_failures_of_the_engine_open_it(house: Room, error: Exception) -> None:
    for _ in range(5):
        assert house.phase() is Phase.CLOSED
        await house.clock.advance(1)
        await house.fails(house.call, error)
    assert house.phase() is Phase.OPEN
    assert 54 <= house.room.blocked_s() <= 66


@pytest.mark.parametrize(
    "error",
    [errors.EngineRefused(), errors.EngineBusy(), errors.EngineLeaving(), errors.DecoderDied(),
     errors.MediaUndecodable(), errors.StorageFull(), RuntimeError()],
)  # fmt: skip
async def test_what_is_not_the_engines_fault_counts_for_nothing(house: Room, error: Exception) -> None:
    for _ in range(4):
        await house.fails(house.call)
    for _ in range(30):
        await house.fails(house.call, error)
    assert (house.phase(), house.breakers.of("0").streak) == (Phase.CLOSED, 4)
    await house.call()
    assert house.breakers.of("0").streak == 0


async def test_a_cancelled_call_counts_for_nothing(house: Room) -> None:
    house.engines[0].hold = asyncio.Event()
    for _ in range(10):
        call = asyncio.create_task(house.call())
        await house.clock.advance(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert house.breakers.of("0").quarters == ()


async def test_a_recording_that_fails_again_tells_of_itself(house: Room) -> None:
    for _ in range(10):
        await house.fails(lambda: house.call(alone=True))
    assert house.breakers.of("0").quarters == ()
    await house.call(alone=True)  # but when it does not, it tells of the engine
    assert house.breakers.of("0").quarters == ((4000, 1, 0),)


async def test_live_sound_that_fails_again_tells_of_itself(house: Room) -> None:
    for _ in range(10):
        await house.fails(lambda: house.listen(suspect=True))
    assert house.breakers.of("0").quarters == ()


async def test_a_death_under_many_calls_is_one_failure(house: Room) -> None:
    """64 live streams of one engine, which is killed: not a reason to leave it alone for a minute once it is back."""
    house.engines[0].hold = asyncio.Event()
    house.engines[0].error = gone(errors.EngineFailed)
    calls = [asyncio.create_task(house.listen()) for _ in range(64)]
    await house.clock.advance(1)
    house.engines[0].hold.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(e) for e in ended} == {errors.EngineFailed}
    assert (house.phase(), house.breakers.of("0").streak) == (Phase.CLOSED, 1)


@pytest.mark.parametrize("live", [False, True])
async def test_the_next_process_s_death_is_another_failure(house: Room, live: bool) -> None:
    """This gateway heard of the engine before its first death, which another one counted, and believes that for a few
    seconds. Meanwhile the engine is back, takes its call, and dies at once."""
    await house.room.refresh()
    for death in range(1, 5):
        await house.clock.advance(1)
        house.breakers.gone("0", heard_at=house.clock.mono - 0.5)
        assert house.breakers.of("0").streak == death
    await house.clock.advance(0.5)
    await house.fails(house.listen if live else house.call, gone(errors.EngineFailed))
    assert house.phase() is Phase.OPEN


async def test_who_finds_it_gone_without_having_reached_it_tells_nothing_new(house: Room) -> None:
    await house.room.refresh()
    await house.clock.advance(1)
    house.breakers.gone("0", heard_at=house.clock.mono)
    house.engines[0].events = []
    await house.fails(house.call, gone(errors.EngineUnavailable))
    assert house.breakers.of("0").streak == 1


async def test_neighbours_of_a_recording_known_for_it_are_no_failure_either(house: Room) -> None:
    for _ in range(10):
        house.engines[0].hold = asyncio.Event()
        house.engines[0].error = gone(errors.EngineFailed)
        calls = [asyncio.create_task(house.listen()) for _ in range(8)]
        calls.append(asyncio.create_task(house.call(alone=True)))
        await house.clock.advance(1)
        house.engines[0].hold.set()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (house.phase(), house.breakers.of("0").streak) == (Phase.CLOSED, 0)


async def test_an_open_one_is_skipped_while_another_is_well() -> None:
    house = Room(2)
    await house.open(0)
    assert [await house.call() for _ in range(4)] == [1] * 4
    assert await house.listen() == 1
    assert (house.room.blocked_s(), house.room.pause_s()) == (0, 0)


async def test_none_left_is_said_with_the_time_to_wait(house: Room) -> None:
    await house.open()
    with pytest.raises(errors.BreakerOpen) as refused:
        await house.call()
    assert 54 <= refused.value.extra["retry_after"] <= 66
    assert house.engines[0].calls == 0
    await house.clock.advance(refused.value.extra["retry_after"])
    await house.call()
    assert house.phase() is Phase.CLOSED


async def test_nobody_waits_for_a_probe_of_one_when_another_may_be_back_any_moment() -> None:
    house = Room(2)
    await house.open(0)
    house.engines[1].away = True
    with pytest.raises(errors.BreakerOpen) as refused:
        await house.call()
    assert refused.value.extra["retry_after"] == 1


async def test_a_live_call_works_when_it_decides_something(house: Room) -> None:
    house.engines[0].heard = [Accepted(0), Heard(5), Decided(10), Decided(20)]
    for _ in range(10):
        await house.fails(house.listen)
    assert (house.phase(), house.breakers.of("0").quarters) == (Phase.CLOSED, ((4000, 10, 10),))
    house.engines[0].heard = [Accepted(0), Heard(5)]
    for _ in range(4):
        await house.fails(house.listen)
    assert house.phase() is Phase.OPEN  # the last of the ten before, and these
    await house.clock.advance(67)
    assert await house.listen() == 0
    assert house.phase() is Phase.CLOSED


async def test_the_room_tells_of_every_engine() -> None:
    house = Room(2)
    await house.room.refresh()
    await house.open(1)
    one, two = house.room.status()
    assert (one.key, one.name, one.up, one.slots, one.busy) == ("0", "told", True, 2, 1)
    assert (one.live_slots, one.live_busy, one.breaker, one.probe_in_s) == (9, 3, Phase.CLOSED, 0)
    assert (two.key, two.breaker, 54 <= two.probe_in_s <= 66) == ("1", Phase.OPEN, True)
