"""Uploads that end while several gateways know them: nothing is acknowledged in one whose session_id means another.

Two gateways, real flows over one store and real records; the store or the database goes away in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.upload import UploadState
from tests.api.conftest import wav
from tests.support.clock import MovedClock, SeededRandomness
from tests.unit.test_races import before, housekeeping, open_now, send
from tests.unit.test_transcribe_flow import ALICE, House


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    clock = MovedClock()
    records = await SqlRecords.open(f"sqlite:///{tmp_path / 'r.db'}", durability="process")
    async with DiskStore(tmp_path / "blobs", durability="process") as store:
        one, other = House(records, store, clock), House(records, store, clock)
        other.ingest._randomness = SeededRandomness(1)  # else both give the same ids
        yield one, other
    await records.close()


async def cut_off() -> None:
    raise errors.StorageUnavailable


async def stored(house: House) -> list[int]:
    return sorted((await house.store.parts.list(await open_now(house))).parts)


@pytest.fixture
async def given_up(gateways: tuple[House, House], monkeypatch: pytest.MonkeyPatch) -> tuple[House, House, str]:
    """An upload that the first gateway remembers; the second gave it up, and the store went away."""
    one, other = gateways
    await send(one, 0, wav(0.1))
    old = await open_now(one)
    with monkeypatch.context() as patch:
        patch.setattr(one.store.parts, "erase", lambda _: cut_off())
        with pytest.raises(errors.StorageUnavailable):
            await other.ingest.abort(ALICE, "s")
    return one, other, old


async def test_what_is_begun_anew_has_every_chunk_that_was_acknowledged(given_up: tuple[House, House, str]) -> None:
    one, other, old = given_up
    await send(other, 0, b"new")
    await send(one, 1, b"new")
    assert await open_now(one) != old
    assert await stored(one) == [0, 1]
    assert list(await one.store.survey.uploads()) == [await open_now(one)]


async def test_an_abort_that_was_cut_off_is_finished_by_the_next(given_up: tuple[House, House, str]) -> None:
    one, other, old = given_up
    with pytest.raises(errors.UploadNotFound):
        await one.ingest.status(ALICE, "s")
    assert not await one.ingest.knows(ALICE, "s")
    await other.ingest.abort(ALICE, "s")
    assert await one.store.survey.uploads() == {}
    with pytest.raises(errors.UploadNotFound):
        await other.ingest.abort(ALICE, "s")
    await send(one, 1)
    assert await open_now(one) != old


async def test_an_abort_that_was_cut_off_is_finished_by_housekeeping(given_up: tuple[House, House, str]) -> None:
    one, other, _ = given_up
    await housekeeping(other).expire_uploads()
    assert await one.records.uploads.find(ALICE.owner, "s") is None
    assert await one.store.survey.uploads() == {}


async def test_what_is_given_up_does_not_complete(given_up: tuple[House, House, str]) -> None:
    one, other, _ = given_up
    with pytest.raises(errors.UploadClosed):
        await send(one, 1, last=True)
    assert await one.records.jobs.page(ALICE.owner, state=None, before=None, limit=9) == []
    assert await housekeeping(other).reconcile() == 0


async def test_an_expiry_that_was_cut_off_is_finished_in_the_next_round(gateways: tuple[House, House]) -> None:
    one, other = gateways
    await send(one, 0)
    one.clock.wall += 1e6
    before(one.store.parts, "erase", cut_off)
    with pytest.raises(errors.StorageUnavailable):
        await housekeeping(other).expire_uploads()
    await housekeeping(other).expire_uploads()
    assert await one.store.survey.uploads() == {}
    await send(one, 1)
    assert await stored(one) == [1]


async def test_a_revived_place_takes_chunks_for_seconds_at_most(gateways: tuple[House, House]) -> None:
    """As a late chunk leaves it whose process ended, or found the database away."""
    one, other = gateways
    await send(one, 0)
    old = await open_now(one)

    async def ended() -> None:
        assert await other.records.uploads.close(old, UploadState.ABORTED)
        raise errors.DatabaseBusy

    find = other.records.uploads.find
    before(other.records.uploads, "find", ended)
    with pytest.raises(errors.DatabaseBusy):
        await send(other, 1)  # its part is in the old place
    other.records.uploads.find = find  # type: ignore[method-assign]
    one.clock.mono += 5.0
    await send(one, 2)
    assert await open_now(one) != old
    assert await stored(one) == [2]


async def test_rows_are_looked_at_every_few_seconds_not_by_every_chunk(gateways: tuple[House, House]) -> None:
    house = gateways[0]
    await send(house, 0)
    looks: list[float] = []

    async def look() -> None:
        looks.append(house.clock.mono)

    before(house.records.uploads, "find", look, once=False)
    for seq in range(1, 41):
        house.clock.mono += 0.25
        await send(house, seq)
    assert looks == [1005.0, 1010.0]
