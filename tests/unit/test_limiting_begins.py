"""What is counted when recordings begin: each once, before its row is written, whoever sends what at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.ingest import Digests, Stored
from cosygate.model.upload import UploadState
from tests.support.blob_stores import MovedClock as ShiftedClock
from tests.support.clock import MovedClock
from tests.unit.test_transcribe_flow import ALICE, House


class Budget:
    """Lets so many begin."""

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.asked = 0
        self.pause = asyncio.Event()
        self.pause.set()

    async def begun(self) -> None:
        self.asked += 1
        await self.pause.wait()
        if self.amount == 0:
            raise errors.Refused()
        self.amount -= 1

    async def undone(self) -> None:
        self.amount += 1


@pytest.fixture
async def houses(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    """Two processes on one data folder."""
    url = f"sqlite:///{tmp_path / 'r.db'}"
    records = [await SqlRecords.open(url, durability="process") for _ in range(2)]
    clock = ShiftedClock()
    async with (
        DiskStore(tmp_path / "blobs", durability="process", clock=clock) as one,
        DiskStore(tmp_path / "blobs", durability="process", clock=clock) as two,
    ):
        yield House(records[0], one, MovedClock()), House(records[1], two, MovedClock(1_800_000_005.0))
    for opened in records:
        await opened.close()


async def send(house: House, seq: int, budget: Budget, session: str = "s") -> Stored:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    received = await house.ingest.receive(body(), Digests())
    try:
        return await house.ingest.put(ALICE, session, seq, received, "0" * 32, None, budget)
    finally:
        await received.close()


async def test_many_first_chunks_in_two_processes_leave_one_count(houses: tuple[House, House]) -> None:
    budget = Budget(10)
    await asyncio.gather(*(send(houses[n % 2], n, budget) for n in range(20)))
    assert budget.amount == 9
    assert budget.asked <= 2  # once a process


async def test_a_chunk_of_what_another_process_began_costs_nothing(houses: tuple[House, House]) -> None:
    budget = Budget(1)
    await send(houses[0], 0, budget)
    await asyncio.gather(*(send(houses[1], n, budget) for n in range(1, 5)))  # although nothing is left
    assert (budget.amount, budget.asked) == (0, 1), "it takes no place in the count, not even for a moment"
    with pytest.raises(errors.Refused):
        await send(houses[1], 0, budget, "another")


async def test_what_is_refused_leaves_nothing_behind(houses: tuple[House, House], tmp_path: Path) -> None:
    house, budget = houses[0], Budget(0)
    outcomes = await asyncio.gather(*(send(house, n, budget) for n in range(10)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {errors.Refused}  # all of it, and none with a wrong reason
    assert await house.records.uploads.find(ALICE.owner, "s") is None
    assert await house.store.survey.uploads() == {}
    budget.amount = 1
    await send(house, 0, budget)


async def test_what_cannot_be_written_is_given_back(houses: tuple[House, House]) -> None:
    house, budget = houses[0], Budget(100)
    house.ingest.limits = type(house.ingest.limits)(open_per_owner=2)
    for n in range(2):
        await send(house, 0, budget, f"s{n}")
    with pytest.raises(errors.TooManyUploads):
        await send(house, 0, budget, "s2")
    assert budget.amount == 98


async def test_who_leaves_while_it_begins_leaves_it_begun_or_not_at_all(houses: tuple[House, House]) -> None:
    house, budget = houses[0], Budget(5)
    budget.pause.clear()
    leaving = asyncio.create_task(send(house, 0, budget))
    while not budget.asked:
        await asyncio.sleep(0.001)
    staying = asyncio.create_task(send(house, 1, budget))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    budget.pause.set()
    await staying
    assert (budget.asked, budget.amount) == (1, 4)
    upload = await house.records.uploads.find(ALICE.owner, "s")
    assert upload is not None and upload.state is UploadState.OPEN
