"""Two things at the same moment: what a chunk, an abort, expiry, retention and a broken part of the house do to each
other. The real flows over a real store and real records; one step in between is done by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.housekeeping import Housekeeping, Reaper
from cosygate.flows.ingest import Digests, Stored
from cosygate.flows.quotas import QuotaWatch
from cosygate.flows.readiness import Readiness
from cosygate.flows.tasks import Tasks
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.kit.networks import MetricsDoor
from cosygate.model.job import MAX_LOST, JobState
from cosygate.model.options import TranscribeOptions
from cosygate.model.upload import UploadState
from cosygate.model.usage import Quota
from cosygate.ports.engine import EngineInfo, ModelInfo
from cosygate.worker import Runner
from tests.api.conftest import wav
from tests.support.blob_stores import MovedClock as ShiftedClock
from tests.support.breakers import breakers, numbered
from tests.support.clock import MovedClock
from tests.unit.test_transcribe_flow import ALICE, House, OwnEngine

Step = Callable[[], Awaitable[object]]


@pytest.fixture
def store_clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
async def house(tmp_path: Path, store_clock: ShiftedClock) -> AsyncIterator[House]:
    records = await SqlRecords.open(f"sqlite:///{tmp_path / 'r.db'}", durability="process")
    async with DiskStore(tmp_path / "blobs", durability="process", clock=store_clock) as store:
        yield House(records, store, MovedClock())
    await records.close()


async def send(house: House, seq: int, body: bytes = b"x", *, last: bool = False, session: str = "s") -> Stored:
    async def pieces() -> AsyncIterator[bytes]:
        yield body

    received = await house.ingest.receive(pieces(), Digests())
    try:
        return await house.ingest.put(ALICE, session, seq, received, "0" * 32, TranscribeOptions() if last else None)
    finally:
        await received.close()


def before(port: object, method: str, step: Step, *, once: bool = True) -> None:
    """Does `step` whenever (or the first time) `method` of the port is called, just before it."""
    real, done = getattr(port, method), []

    async def call(*args: Any, **kwargs: Any) -> Any:
        if not (once and done):
            done.append(True)
            await step()
        return await real(*args, **kwargs)

    setattr(port, method, call)


def housekeeping(house: House) -> Housekeeping:
    return Housekeeping(
        uploads=house.records.uploads, jobs=house.records.jobs, parts=house.store.parts, results=house.store.results,
        survey=house.store.survey, receivers=house.records.receivers, ingest=house.ingest, clock=house.clock,
        retention_s=100.0,
    )  # fmt: skip


async def open_now(house: House, session: str = "s") -> str:
    upload = await house.records.uploads.find(ALICE.owner, session)
    assert upload is not None
    return upload.id


@pytest.mark.parametrize("whole", [False, True])
async def test_a_chunk_that_meets_an_abort_does_not_revive_the_upload(house: House, whole: bool) -> None:
    before(house.store.parts, "put", lambda: house.ingest.abort(ALICE, "s"))
    with pytest.raises(errors.UploadClosed):
        await send(house, 0, wav(0.1), last=whole)
    assert await house.store.survey.uploads() == {}
    await send(house, 0, wav(0.1))  # the name is free, and what is sent under it completes
    await send(house, 1)
    assert (await send(house, 2, last=True)).job_id is not None


async def test_the_last_chunk_in_the_moment_of_expiry_keeps_its_recording(house: House) -> None:
    await send(house, 0, wav(0.1))
    upload_id = await open_now(house)
    house.clock.wall += 1e6
    before(house.records.uploads, "give_up", lambda: send(house, 1, last=True))
    await housekeeping(house).expire_uploads()
    [job] = await house.records.jobs.page(ALICE.owner, state=None, before=None, limit=9)
    assert job.upload_id == upload_id
    assert (await house.store.parts.list(upload_id)).complete


async def test_a_damaged_mark_stops_neither_start_nor_expiry(house: House, tmp_path: Path) -> None:
    await send(house, 0, wav(0.1))
    upload_id = await open_now(house)
    [place] = (tmp_path / "blobs/uploads").glob(f"*/{upload_id}")
    (place / "last").write_bytes(b"")  # as a power loss leaves it that was never synced
    keep = housekeeping(house)
    assert await keep.reconcile() == 0
    with pytest.raises(errors.Conflict, match="damaged"):
        await house.ingest.status(ALICE, "s")
    house.clock.wall += 1e6
    await keep.expire_uploads()
    assert not place.exists()


async def test_receivers_that_went_a_month_ago_are_asked_again(house: House) -> None:
    """Else whoever answers 410 to a URL of its own for each task would fill the database."""
    sending, receivers, keep = house.records.sending, house.records.receivers, housekeeping(house)
    old, now = house.clock.now() - 30 * 86_400 - 1, house.clock.now()
    for n in range(450):  # three pages
        await sending.disable(f"t{n % 7}", f"https://r.example/{n}", old if n % 2 else now)
    await keep.round()
    left = {(gone.tenant, gone.url) for gone in await receivers.gone(None, 1000)}
    assert left == {(f"t{n % 7}", f"https://r.example/{n}") for n in range(0, 450, 2)}
    house.clock.wall += 30 * 86_400
    await keep.round()
    assert len(await receivers.gone(None, 1000)) == 225
    house.clock.wall += 1
    await keep.round()
    assert await receivers.gone(None, 1000) == []


async def test_a_round_looks_at_so_many_receivers_and_the_next_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosygate.flows.housekeeping._BATCH", 10)
    monkeypatch.setattr("cosygate.flows.housekeeping._BATCHES", 2)
    for n in range(45):
        await house.records.sending.disable("t", f"https://r.example/{n}", 0.0)
    keep, left = housekeeping(house), []
    for _ in range(3):
        await keep.forget_gone_receivers()
        left.append(len(await house.records.receivers.gone(None, 1000)))
    assert left == [25, 5, 0]


async def test_bytes_of_an_upload_that_was_closed_in_a_crash_are_swept(house: House, store_clock: ShiftedClock) -> None:
    await send(house, 0)
    await house.records.uploads.close(await open_now(house), UploadState.ABORTED)  # and then the machine went off
    keep = housekeeping(house)
    store_clock.shift = 3700.0
    await keep.sweep_orphans()
    assert await house.store.survey.uploads() == {}


@pytest.mark.parametrize("who", ["owner", "retention"])
async def test_an_erasure_that_is_cut_off_can_be_finished(house: House, who: str) -> None:
    job_id = await house.submit("s", wav(0.1))
    await house.run_one()
    keep = housekeeping(house)
    tasks = Tasks(
        jobs=house.records.jobs, events=house.records.events, parts=house.store.parts, results=house.store.results,
        clock=house.clock,
    )  # fmt: skip
    house.clock.wall += 1e6

    async def erase() -> None:
        await (tasks.delete(ALICE, job_id) if who == "owner" else keep.erase_old_tasks())

    async def crash() -> None:
        raise errors.DatabaseBusy

    before(house.store.results, "erase", crash)
    with pytest.raises(errors.DatabaseBusy):
        await erase()
    await erase()  # the owner's next try, the next round
    assert await house.records.jobs.get(None, job_id) is None
    assert await house.store.survey.used_bytes() == 0


async def test_a_round_erases_all_that_is_due(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosygate.flows.housekeeping._BATCH", 2)
    for number in range(5):
        await house.submit(f"s{number}", wav(0.1))
        await house.run_one()
    house.clock.wall += 1e6
    await housekeeping(house).erase_old_tasks()
    assert await house.records.jobs.page(ALICE.owner, state=None, before=None, limit=9) == []


def counted(state: JobState) -> float:
    return REGISTRY.get_sample_value("cv_task_total", {"state": state}) or 0.0


async def test_every_end_of_a_task_is_counted(house: House) -> None:
    cancelled, failed = counted(JobState.CANCELLED), counted(JobState.FAILED)
    tasks = Tasks(
        jobs=house.records.jobs, events=house.records.events, parts=house.store.parts, results=house.store.results,
        clock=house.clock,
    )  # fmt: skip
    await tasks.delete(ALICE, await house.submit("given-up", wav(0.1)))
    await house.submit("lost", wav(0.1))
    reaper = Reaper(house.records.leases, house.clock, 30.0)
    for _ in range(MAX_LOST):
        assert await house.transcribe.claim("gone")
        await reaper.round()
        house.clock.mono += 30.0
        await reaper.round()
    assert (counted(JobState.CANCELLED), counted(JobState.FAILED)) == (cancelled + 1, failed + 1)


async def test_after_an_outage_of_the_database_nobody_counts_as_dead(house: House) -> None:
    """It let nobody renew, either: who lives gets the whole time anew."""
    await house.submit("s", wav(0.1))
    claim = await house.transcribe.claim("alive")
    assert claim is not None
    reaper = Reaper(house.records.leases, house.clock, 30.0)
    await reaper.round()
    real = house.records.leases.running

    async def away(claimant: str | None = None) -> Any:
        raise errors.DatabaseBusy

    cast("Any", house.records.leases).running = away
    for _ in range(7):
        house.clock.mono += 5.0
        with pytest.raises(errors.DatabaseBusy):
            await reaper.round()
    cast("Any", house.records.leases).running = real
    assert await reaper.round() == 0
    house.clock.mono += 30.0
    assert await reaper.round() == 1  # and who does not live is found all the same


async def test_a_crowd_without_rows_is_the_wrong_database_and_stays(house: House, store_clock: ShiftedClock) -> None:
    for number in range(25):
        await send(house, 0, session=f"moved-{number}")
        await house.records.uploads.close(await open_now(house, f"moved-{number}"), UploadState.ABORTED)
    store_clock.shift = 3700.0
    await housekeeping(house).sweep_orphans()
    assert len(await house.store.survey.uploads()) == 25


async def test_a_renewal_that_finds_the_disk_full_tries_again(house: House) -> None:
    job_id = await house.submit("s", wav(0.1))
    renewed: list[bool] = []
    real = house.records.leases.renew

    async def full(claim: Any) -> bool:
        if not renewed:
            renewed.append(False)
            raise errors.StorageFull
        renewed.append(await real(claim))
        return renewed[-1]

    cast("Any", house.records.leases).renew = full

    async def midway() -> None:
        for _ in range(2):
            await house.clock.advance(10.0)
            await asyncio.sleep(0.05)

    house.engine.midway = midway
    await house.run_one()
    assert renewed == [False, True]
    assert (await house.job(job_id)).state is JobState.SUCCEEDED


class OnlyEnglish(OwnEngine):
    up = True

    async def leaving(self) -> None:
        await asyncio.Event().wait()

    async def describe(self) -> EngineInfo:
        if not self.up:
            raise errors.EngineUnavailable
        return replace(await super().describe(), models=(ModelInfo("own", ("en",)),))


async def test_a_language_that_no_engine_knows_is_refused_once_all_are_known() -> None:
    clock, known, late = MovedClock(), OnlyEnglish(), OnlyEnglish()
    late.up = False
    room = EngineRoom(numbered(known, late), clock, breakers(clock))

    async def borrow(language: str) -> None:
        async with room.borrow(TranscribeOptions(language=language)):
            pass

    await borrow("en-GB")
    with pytest.raises(errors.EngineUnavailable):  # perhaps the other one can
        await borrow("de")
    late.up = True
    await room.refresh()
    await asyncio.sleep(0.01)  # it is asked beside
    with pytest.raises(errors.EngineRefused):
        await borrow("de")


async def test_storage_that_cannot_be_used_is_a_reason(house: House) -> None:
    async def broken() -> None:
        raise errors.Unavailable("the storage failed (EIO)")

    ready = Readiness(house.records.health, house.store.survey, house.clock)
    before(house.store.survey, "check_room", broken)
    ready.started = True
    assert await ready.reasons() == ["storage"]


async def _nothing(*_: object) -> int:
    return 0


async def test_a_runner_survives_a_bug_in_claiming(house: House) -> None:
    async def bug() -> None:
        raise RuntimeError("a bug")

    job_id = await house.submit("s", wav(0.1))
    before(house.records.leases, "claim", bug)
    records, clock = house.records, SystemClock()
    whole = SimpleNamespace(
        leases=records.leases, outbox=records.outbox, queue=house.queue, transcribe=house.transcribe, clock=clock,
        randomness=SystemRandomness(), engines=EngineRoom(numbered(house.engine), clock, breakers(clock)),
        housekeeping=housekeeping(house),
        live_keeper=SimpleNamespace(sweep=housekeeping(house).sweep_orphans),
        sender=SimpleNamespace(look=_nothing, stop=_nothing), switchboard=SimpleNamespace(look=_nothing),
        admission=SimpleNamespace(mark=lambda: 0, claimed=lambda *_: None), broker=None, alone=True, life="l",
        quotas=QuotaWatch(records.usage, records.quotas, clock, Quota()),
        reaper=Reaper(records.leases, clock, 30.0), reaper_every_s=60.0, housekeeping_every_s=60.0,
    )  # fmt: skip
    runner = Runner(cast("Any", whole), index=0, jobs=1)
    await runner.start(first=True)
    async with asyncio.timeout(10):
        while (await house.job(job_id)).state is not JobState.SUCCEEDED:
            await asyncio.sleep(0.02)
    await runner.stop(1.0)


def test_metrics_are_open_to_ipv4_on_a_socket_for_both_families() -> None:
    door = MetricsDoor.parse("10.0.0.0/8")
    assert door.open_to("::ffff:127.0.0.1")
    assert door.open_to("::ffff:10.1.2.3")
    assert not door.open_to("::ffff:192.0.2.1")
