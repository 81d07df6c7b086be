"""How many jobs a dispatcher has at once: by the engines' slots, by how long jobs take; and what becomes of hints."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cosygate.adapters.queue_local import LocalQueue
from cosygate.kit.clock import SystemRandomness
from cosygate.worker.dispatch import Dispatcher, Nobody
from tests.support.clock import MovedClock


class House:
    """Jobs without end; each takes as long as the clock is moved."""

    def __init__(self, slots: int) -> None:
        self.clock = MovedClock()
        self.running: list[asyncio.Event] = []
        room = SimpleNamespace(slots=lambda: slots, pause_s=lambda: 0.0, refresh=self._nothing)
        self.queue = LocalQueue()
        self.left = 10**9  # jobs that wait to be claimed
        self.parts = (SimpleNamespace(claim=self._claim, run=self._run), room, self.queue, Nobody(), self.clock)

    def dispatcher(self, jobs: int, runners: int = 1) -> Dispatcher:
        return Dispatcher(*cast("Any", self.parts), SystemRandomness(), claimant="c", jobs=jobs, runners=runners)

    async def _nothing(self) -> None:
        pass

    async def _claim(self, *_: Any) -> Any:
        if not self.left:
            return None
        self.left -= 1
        return SimpleNamespace(job=SimpleNamespace(owner="t/u", cost_s=1.0))

    async def _run(self, _: Any) -> None:
        ended = asyncio.Event()
        self.running.append(ended)
        await ended.wait()
        self.running.remove(ended)

    async def after(self, took_s: float, jobs: int) -> int:
        """How many run at once, once so many jobs have taken so long."""
        for _ in range(jobs):
            self.clock.mono += took_s
            for ended in list(self.running):
                ended.set()
            await asyncio.sleep(0.02)
        return len(self.running)


@pytest.mark.parametrize(
    ("slots", "runners", "short", "long"), [(2, 1, 3, 2), (2, 2, 2, 1), (8, 1, 9, 8), (1, 4, 1, 1)]
)
async def test_one_more_than_there_are_slots_while_jobs_are_short(
    slots: int, runners: int, short: int, long: int
) -> None:
    house = House(slots)
    dispatch = asyncio.create_task(house.dispatcher(0, runners).run())
    assert await house.after(0.2, 5) == short
    assert await house.after(8.0, 5) == long
    assert await house.after(0.1, 40) == short
    dispatch.cancel()
    for ended in house.running:
        ended.set()
    await asyncio.gather(dispatch, return_exceptions=True)


async def test_as_many_as_the_operator_says() -> None:
    house = House(2)
    dispatch = asyncio.create_task(house.dispatcher(5).run())
    assert await house.after(8.0, 5) == 5
    dispatch.cancel()
    for ended in house.running:
        ended.set()
    await asyncio.gather(dispatch, return_exceptions=True)


async def test_a_hint_waits_for_the_job_that_it_brought() -> None:
    house = House(2)
    house.left = 0
    dispatcher = house.dispatcher(5)
    dispatch = asyncio.create_task(dispatcher.run())
    await asyncio.sleep(0.02)  # it has looked, and waits
    house.left = 1
    hinted = asyncio.create_task(dispatcher.hinted())
    await asyncio.sleep(0.02)
    assert (dispatcher.busy(), hinted.done()) == (1, False)
    house.running[0].set()
    assert await hinted is True
    assert await asyncio.wait_for(dispatcher.hinted(), 1.0) is False  # nothing is left
    dispatch.cancel()
    await asyncio.gather(dispatch, return_exceptions=True)


async def test_hints_wait_while_there_is_no_room() -> None:
    house = House(2)
    dispatcher = house.dispatcher(2)
    dispatch = asyncio.create_task(dispatcher.run())
    while dispatcher.busy() < 2:
        await asyncio.sleep(0.01)
    hints = [asyncio.create_task(dispatcher.hinted()) for _ in range(4)]
    await asyncio.sleep(0.05)
    assert (dispatcher.busy(), sum(hint.done() for hint in hints)) == (2, 0)
    dispatch.cancel()
    await asyncio.gather(dispatch, return_exceptions=True)
    await dispatcher.stop(0.0)
    assert await asyncio.gather(*hints) == [False] * 4  # nobody waits for ever: others have them
    assert dispatcher.busy() == 0


async def test_a_claim_that_is_under_way_at_the_end_is_given_back() -> None:
    house = House(2)
    given_back: list[Any] = []
    claiming, may = asyncio.Event(), asyncio.Event()

    async def slowly(*_: Any) -> Any:
        claiming.set()
        await may.wait()
        return "a claim"

    async def hand_back(claim: Any) -> None:
        given_back.append(claim)

    house.parts[0].claim, house.parts[0].hand_back = slowly, hand_back
    dispatcher = house.dispatcher(2)
    dispatch = asyncio.create_task(dispatcher.run())
    await claiming.wait()
    dispatch.cancel()
    await asyncio.sleep(0.02)
    may.set()
    await asyncio.gather(dispatch, return_exceptions=True)
    assert (given_back, dispatcher.busy()) == (["a claim"], 0)


async def test_nothing_is_claimed_while_no_engine_is_up() -> None:
    house = House(0)
    dispatch = asyncio.create_task(house.dispatcher(2).run())
    await asyncio.sleep(0.05)
    assert house.left == 10**9
    dispatch.cancel()
    await asyncio.gather(dispatch, return_exceptions=True)
