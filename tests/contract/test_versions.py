"""Versions of transcripts: in order, one after the other, bounded, and gone with their task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cosygate import errors
from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.editing import MOST_BYTES, MOST_VERSIONS, Changes, Edit, Version
from tests.support.records import submit

Door = Callable[[], Awaitable[SqlRecords]]


async def _task(records: SqlRecords, number: int = 1) -> str:
    await submit(records, number)
    claim = await records.leases.claim("w", 1.0)
    assert claim is not None and await records.leases.commit(claim, 2.0, result={})
    return claim.job_id


def _named(name: str) -> Changes:
    return Changes({"S1": name})


async def test_what_was_saved_is_there_in_order(door: Door) -> None:
    records, other = await door(), await door()
    task, another = await _task(records), await _task(records, 2)
    assert await records.versions.all(task) == []
    changes = [_named("Ännä 安娜"), Changes(edits=(Edit(3, "now", None), Edit(5, None, "Ben"))), Changes(restores=1)]
    for number, change in enumerate(changes, start=2):
        await records.versions.add(task, Version(number, 7.5 + number, "ann", change.restores), change, 10)
    await records.versions.add(another, Version(2, 1.0, "ben"), changes[0], 10)
    assert await other.versions.changes(task, 99) == changes
    assert await other.versions.changes(task, 3) == changes[:2]
    assert await other.versions.changes(task, 1) == []
    assert await other.versions.all(task) == [
        Version(2, 9.5, "ann"),
        Version(3, 10.5, "ann"),
        Version(4, 11.5, "ann", 1),
    ]


async def test_of_two_who_saved_one_is_told(door: Door) -> None:
    doors = [await door() for _ in range(6)]
    task = await _task(doors[0])

    async def save(records: SqlRecords, number: int) -> int | None:
        try:
            await records.versions.add(task, Version(2, 1.0, f"user-{number}"), _named(f"name {number}"), 10)
        except errors.VersionConflict as conflict:
            assert conflict.extra == {"version": 2}
            return None
        return number

    done = [n for n in await asyncio.gather(*(save(d, n) for n, d in enumerate(doors))) if n is not None]
    assert len(done) == 1
    assert await doors[0].versions.changes(task, 9) == [_named(f"name {done[0]}")]


@pytest.mark.parametrize("number", [1, 3, 9])
async def test_a_number_that_is_not_the_next_one_is_refused(records: SqlRecords, number: int) -> None:
    task = await _task(records)
    with pytest.raises(errors.VersionConflict) as conflict:
        await records.versions.add(task, Version(number, 1.0, "ann"), _named("x"), 10)
    assert conflict.value.extra == {"version": 1}


async def test_they_go_with_their_task(records: SqlRecords) -> None:
    task = await _task(records)
    await records.versions.add(task, Version(2, 1.0, "ann"), _named("x"), 10)
    assert await records.jobs.delete(task) is not None
    assert await records.versions.all(task) == []
    with pytest.raises(errors.TaskNotFound):
        await records.versions.add(task, Version(2, 1.0, "ann"), _named("x"), 10)


async def test_there_are_so_many_and_no_more(records: SqlRecords) -> None:
    task, another = await _task(records), await _task(records, 2)
    for number in range(2, MOST_VERSIONS + 1):
        await records.versions.add(task, Version(number, 1.0, "ann"), _named("x"), 10)
    with pytest.raises(errors.TooManyVersions):
        await records.versions.add(task, Version(MOST_VERSIONS + 1, 1.0, "ann"), _named("x"), 10)
    await records.versions.add(another, Version(2, 1.0, "ann"), _named("x"), MOST_BYTES - 10)
    await records.versions.add(another, Version(3, 1.0, "ann"), _named("x"), 10)
    with pytest.raises(errors.TooManyVersions):
        await records.versions.add(another, Version(4, 1.0, "ann"), _named("x"), 1)
    assert len(await records.versions.all(another)) == 2
