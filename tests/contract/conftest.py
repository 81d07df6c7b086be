"""The databases that a contract of records holds over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from cosygate.adapters.records_sql import SqlRecords
from tests.support.records import Place, a_place

POSTGRES = pytest.param("postgres", marks=pytest.mark.needs("postgres"))


@pytest.fixture(params=["sqlite-process", "sqlite-disk", POSTGRES])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with a_place(request.param) as found:
        yield found


@pytest.fixture
def busy_s() -> float:
    """How long calls wait; a file may say otherwise."""
    return 5.0


@pytest.fixture
async def door(place: Place, busy_s: float) -> AsyncIterator[Callable[[], Awaitable[SqlRecords]]]:
    """Opens the same records again and again: one door per process of the real thing. They are closed in the end."""
    opened: list[SqlRecords] = []

    async def another() -> SqlRecords:
        opened.append(await place.open(busy_s=busy_s))
        return opened[-1]

    yield another
    for records in opened:
        await records.close()


@pytest.fixture
async def records(door: Callable[[], Awaitable[SqlRecords]]) -> SqlRecords:
    return await door()
