"""What becomes of a claimed job when something goes wrong: the real flow over real records and a real store, with an
engine and a decoder that the test makes fail, and a clock that it moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.decoder_pcm import PcmDecoder
from cosygate.adapters.queue_local import LocalQueue
from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.housekeeping import Reaper, recover
from cosygate.flows.ingest import Digests, Ingest
from cosygate.flows.transcribe import Transcribe
from cosygate.flows.webhooks import Callbacks
from cosygate.model.addresses import Reach
from cosygate.model.audio import AudioLimits
from cosygate.model.job import Claim, Job, JobState, Requeue
from cosygate.model.options import TranscribeOptions
from cosygate.model.principal import Principal
from cosygate.model.transcript import EngineName, Segment
from cosygate.model.upload import UploadLimits
from cosygate.ports.decoder import Decoder, DecodeRequest, Decoding
from cosygate.ports.engine import (
    Accepted,
    Done,
    EngineEvent,
    EngineInfo,
    ModelInfo,
    Progress,
    RecogniseConfig,
    SegmentFound,
)
from tests.api.conftest import wav
from tests.support.breakers import breakers, numbered
from tests.support.clock import MovedClock, SeededRandomness

ALICE = Principal("alice")


class OwnEngine:
    """An Engine that does what the test says, in the middle of the recording."""

    def __init__(self) -> None:
        self.midway: Callable[[], Awaitable[None]] | None = None
        self.calls = 0

    async def leaving(self) -> None:
        await asyncio.Event().wait()

    async def describe(self) -> EngineInfo:
        return EngineInfo("own", "1", slots=1, busy=0, models=(ModelInfo("own", ("*",)),))

    async def recognise(
        self, config: RecogniseConfig, audio: AsyncIterator[bytes], *, idle_timeout_s: float
    ) -> AsyncIterator[EngineEvent]:
        self.calls += 1
        yield Accepted(0)
        samples = 0
        async for piece in audio:
            samples += len(piece) // 2
        yield Progress(samples // 2)
        if self.midway is not None:
            await self.midway()
        yield SegmentFound(Segment(0, 0.0, samples / 16_000, "words"))
        yield Done(EngineName("own", "own", "1"), samples)


class NoSandbox:
    @asynccontextmanager
    async def open(self, fd: int, request: DecodeRequest) -> AsyncIterator[Decoding]:
        raise errors.SandboxMissing
        yield


class House:
    """The parts of one process, on a data folder that several may share."""

    def __init__(self, records: SqlRecords, store: DiskStore, clock: MovedClock) -> None:
        self.records, self.store, self.clock = records, store, clock
        self.engine = OwnEngine()
        self.queue = LocalQueue()
        self.ingest = Ingest(
            uploads=records.uploads, parts=store.parts, queue=self.queue, clock=clock,
            randomness=SeededRandomness(), limits=UploadLimits(), models=list, compressed_media=False,
            callbacks=Callbacks(records.receivers, Reach(), clock, any_scheme=False),
        )  # fmt: skip
        decoder: Decoder = PcmDecoder(otherwise=NoSandbox())
        self.transcribe = Transcribe(
            leases=records.leases, events=records.events, parts=store.parts, files=store.recordings,
            results=store.results, decoder=decoder, engines=EngineRoom(numbered(self.engine), clock, breakers(clock)),
            clock=clock,
            randomness=SeededRandomness(), audio_limits=AudioLimits(), renew_s=10.0, engine_idle_s=60.0,
        )  # fmt: skip

    async def submit(self, session_id: str, body: bytes) -> str:
        async def pieces() -> AsyncIterator[bytes]:
            yield body

        received = await self.ingest.receive(pieces(), Digests())
        stored = await self.ingest.put(ALICE, session_id, 0, received, "0" * 32, TranscribeOptions())
        await received.close()
        assert stored.job_id is not None
        return stored.job_id

    async def run_one(self, claimant: str = "me") -> None:
        claim = await self.transcribe.claim(claimant)
        assert claim is not None
        await self.transcribe.run(claim)

    async def job(self, job_id: str) -> Job:
        found = await self.records.jobs.get(None, job_id)
        assert found is not None
        return found


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = MovedClock()
    records = await SqlRecords.open(f"sqlite:///{tmp_path / 'r.db'}", durability="process")
    async with DiskStore(tmp_path / "blobs", durability="process", clock=clock) as store:
        yield House(records, store, clock)
    await records.close()


async def _raise(error: Exception) -> None:
    raise error


async def test_a_job_succeeds_with_its_result_under_its_fence(house: House) -> None:
    job_id = await house.submit("a", wav())
    await house.run_one()
    job = await house.job(job_id)
    assert (job.state, job.percent, job.result_fence, job.fence) == (JobState.SUCCEEDED, 100, 1, 1)
    assert await house.store.results.get(job_id, 1) is not None
    kinds = [e.kind for e in await house.records.events.read(job_id, 0, 100)]
    assert kinds.count("segment") == 1
    assert kinds[-1] == "done"


@pytest.mark.parametrize("error", [errors.EngineFailed, errors.DecoderDied, RuntimeError])
async def test_the_third_failure_by_the_recording_ends_it(house: House, error: type[Exception]) -> None:
    job_id = await house.submit("a", wav())
    house.engine.midway = lambda: _raise(error())
    for attempt in (1, 2):
        await house.run_one()
        job = await house.job(job_id)
        assert (job.state, job.attempt) == (JobState.QUEUED, attempt)
        assert await house.transcribe.claim("me") is None  # it backs off
        await house.clock.advance(61)
    await house.run_one()
    job = await house.job(job_id)
    assert job.state is JobState.FAILED
    assert job.error_code == getattr(error, "code", "internal")
    assert house.engine.calls == 3


@pytest.mark.parametrize("error", [errors.EngineUnavailable, errors.EngineBusy, errors.StorageFull])
async def test_what_is_not_the_recordings_fault_costs_it_nothing(house: House, error: type[Exception]) -> None:
    job_id = await house.submit("a", wav())
    house.engine.midway = lambda: _raise(error())
    for _ in range(5):
        await house.run_one()
        assert (await house.job(job_id)).attempt == 0
        await house.clock.advance(61)
    house.engine.midway = None
    await house.run_one()
    assert (await house.job(job_id)).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"RIFF\x00\x00\x00\x00WAVE", "media_undecodable"),
        (wav(0.1, rate=1), "media_limits"),
        (wav().replace(b"fmt \x10\x00\x00\x00\x01\x00", b"fmt \x10\x00\x00\x00\x02\x00"), "sandbox_missing"),  # ADPCM
    ],
)
async def test_what_cannot_be_decoded_fails_at_once(house: House, body: bytes, code: str) -> None:
    job_id = await house.submit("a", body)
    await house.run_one()
    job = await house.job(job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, code)
    assert house.engine.calls == 0


async def test_a_lost_lease_stops_the_work_and_its_result_is_refused(house: House) -> None:
    job_id = await house.submit("a", wav())
    stolen = asyncio.Event()

    async def steal() -> None:
        """As if this process had slept through its lease, and another had the job by now."""
        house.engine.midway = None
        await house.clock.advance(31)
        await house.records.leases.requeue(job_id, 1, Requeue.LOST, house.clock.now())
        await house.run_one("other")
        stolen.set()

    house.engine.midway = steal
    await house.run_one("me")
    assert stolen.is_set()
    job = await house.job(job_id)
    assert (job.state, job.result_fence, job.fence) == (JobState.SUCCEEDED, 2, 2)
    assert await house.store.results.get(job_id, 1) is None


async def hanging(house: House) -> asyncio.Task[None]:
    """A job that is being run, and whose engine has stopped in the middle of it."""
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    house.engine.midway = hang
    running = asyncio.create_task(house.run_one())
    await asyncio.wait_for(reached.wait(), 5)
    return running


async def test_a_renewal_that_finds_the_lease_lost_stops_at_once(house: House) -> None:
    job_id = await house.submit("a", wav())
    running = await hanging(house)
    await house.records.jobs.cancel(ALICE.owner, job_id, house.clock.now())
    while not running.done():
        await house.clock.advance(11)
        await asyncio.sleep(0.01)
    await running
    assert (await house.job(job_id)).state is JobState.CANCELLED


class Away:
    """Calls of a method that fail for a while, as when a database is restarted. `answers`: the call happens, and only
    its answer is lost."""

    def __init__(self, owner: Any, method: str, times: int, *, answers: bool = False) -> None:
        self.real, self.left, self.answers, self.calls = getattr(owner, method), times, answers, 0
        setattr(owner, method, self)

    async def __call__(self, *args: Any, **named: Any) -> Any:
        self.calls += 1
        if self.left == 0:
            return await self.real(*args, **named)
        self.left -= 1
        if self.answers:
            await self.real(*args, **named)
        raise errors.DatabaseBusy


async def _with_time(house: House, running: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(running)
    for _ in range(2_000):
        if task.done():
            break
        await asyncio.sleep(0.005)
        await house.clock.advance(0.1)
    await asyncio.wait_for(task, 5.0)


@pytest.mark.parametrize("lost", ["call", "answer"])
@pytest.mark.parametrize("what", ["append", "put", "commit"])
async def test_what_cannot_be_written_for_a_moment_is_kept(house: House, what: str, lost: str) -> None:
    job_id = await house.submit("a", wav())

    async def midway() -> None:
        await house.clock.advance(1.0)  # so that what comes now is told at once

    house.engine.midway = midway
    owner = {"append": house.records.events, "put": house.store.results, "commit": house.records.leases}[what]
    away = Away(owner, what, 2, answers=lost == "answer")
    await _with_time(house, house.run_one())
    assert away.calls == 3 if what != "append" else away.calls >= 1
    job = await house.job(job_id)
    assert (job.state, job.fence, house.engine.calls) == (JobState.SUCCEEDED, 1, 1)
    assert await house.store.results.get(job_id, 1) is not None
    told = await house.records.events.read(job_id, 0, 100)
    assert [event.data["text"] for event in told if event.kind == "segment"] == ["words"]
    assert [event.kind for event in told].count("done") == 1


async def test_what_has_happened_is_not_lost_when_a_renewal_finds_no_claim(house: House) -> None:
    """The commit's answers are lost for longer than a renewal takes, which then finds a job that has ended."""
    job_id = await house.submit("a", wav())
    told = REGISTRY.get_sample_value("cv_task_total", {"state": "succeeded"}) or 0.0
    renewed: list[bool] = []
    renew = house.records.leases.renew

    async def noted(claim: Claim) -> bool:
        renewed.append(await renew(claim))
        return renewed[-1]

    cast("Any", house.records.leases).renew = noted
    Away(house.records.leases, "commit", 12, answers=True)
    await _with_time(house, house.run_one())
    assert False in renewed
    assert (await house.job(job_id)).state is JobState.SUCCEEDED
    assert await house.store.results.get(job_id, 1) is not None
    assert REGISTRY.get_sample_value("cv_task_total", {"state": "succeeded"}) == told + 1


async def test_a_failure_is_told_once_though_its_answer_is_lost(house: House) -> None:
    job_id = await house.submit("a", b"RIFF" + bytes(4) + b"WAVE" + bytes(200))
    told = REGISTRY.get_sample_value("cv_task_total", {"state": "failed"}) or 0.0
    away = Away(house.records.leases, "commit", 2, answers=True)
    await _with_time(house, house.run_one())
    assert away.calls == 3
    assert (await house.job(job_id)).state is JobState.FAILED
    assert REGISTRY.get_sample_value("cv_task_total", {"state": "failed"}) == told + 1
    story = await house.records.events.read(job_id, 0, 10)
    assert [event.kind for event in story].count("failed") == 1


async def test_being_stopped_while_a_failure_cannot_be_written_hands_the_job_back(house: House) -> None:
    job_id = await house.submit("a", b"RIFF" + bytes(4) + b"WAVE" + bytes(200))
    away = Away(house.records.leases, "commit", 1_000)
    running = asyncio.create_task(house.run_one())
    while not away.calls:
        await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await house.job(job_id)).state is JobState.QUEUED


async def test_but_not_for_ever(house: House) -> None:
    job_id = await house.submit("a", wav())
    away = Away(house.records.leases, "commit", 1_000)
    await _with_time(house, house.run_one())
    assert 10 < away.calls < 200
    job = await house.job(job_id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)


async def test_being_stopped_hands_the_job_back(house: House) -> None:
    job_id = await house.submit("a", wav())
    running = await hanging(house)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    job = await house.job(job_id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)
    house.engine.midway = None
    await house.run_one()  # at once, without backoff
    assert (await house.job(job_id)).state is JobState.SUCCEEDED


async def test_the_reaper_waits_by_its_own_clock_alone(house: House) -> None:
    await house.submit("a", wav())
    claim = await house.transcribe.claim("dead")
    assert claim is not None
    reaper = Reaper(house.records.leases, house.clock, expire_s=30.0)
    assert await reaper.round() == 0
    house.clock.wall += 3600  # a jumped wall clock expires nothing
    assert await reaper.round() == 0
    house.clock.wall -= 7200
    house.clock.mono += 29
    assert await reaper.round() == 0
    assert await house.records.leases.renew(claim)  # a beat: the time starts anew
    house.clock.mono += 29
    assert await reaper.round() == 0
    house.clock.mono += 31
    assert await reaper.round() == 1
    assert not await house.records.leases.renew(claim)
    assert await house.transcribe.claim("alive") is not None


async def test_a_restarted_process_takes_back_its_own_claims_only(house: House) -> None:
    for name in ("a", "b"):
        await house.submit(name, wav())
    await house.transcribe.claim("embedded/0")
    await house.transcribe.claim("embedded/1")
    assert await recover(house.records.leases, "embedded/0", house.clock) == 1
    assert await house.transcribe.claim("embedded/0") is not None
    assert await house.transcribe.claim("embedded/0") is None
