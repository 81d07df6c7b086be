"""How many jobs the embedded runner has at once: by the engines' slots, and by how long jobs take."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cosygate.worker import Runner
from tests.support.clock import MovedClock


class House:
    """Jobs without end; each takes as long as the clock is moved."""

    def __init__(self, slots: int) -> None:
        self.clock = MovedClock()
        self.running: list[asyncio.Event] = []
        room = SimpleNamespace(slots=lambda: slots, pause_s=lambda: 0.0, refresh=self._nothing)
        self.whole = SimpleNamespace(
            clock=self.clock,
            engines=room,
            transcribe=SimpleNamespace(claim=self._claim, run=self._run),
            admission=SimpleNamespace(mark=lambda: 0, claimed=lambda *_: None),
        )

    async def _nothing(self) -> None:
        pass

    async def _claim(self, _: str) -> Any:
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
    runner = Runner(cast("Any", house.whole), index=0, jobs=0, runners=runners)
    dispatch = asyncio.create_task(runner._dispatch())
    assert await house.after(0.2, 5) == short
    assert await house.after(8.0, 5) == long
    assert await house.after(0.1, 40) == short
    dispatch.cancel()
    for ended in house.running:
        ended.set()
    await asyncio.gather(dispatch, return_exceptions=True)


async def test_as_many_as_the_operator_says() -> None:
    house = House(2)
    dispatch = asyncio.create_task(Runner(cast("Any", house.whole), index=0, jobs=5)._dispatch())
    assert await house.after(8.0, 5) == 5
    dispatch.cancel()
    for ended in house.running:
        ended.set()
    await asyncio.gather(dispatch, return_exceptions=True)
