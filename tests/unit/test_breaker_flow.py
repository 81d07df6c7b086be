"""What a job does when its breaker is open, and when too many calls are repeats; and how long its calls may take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cosygate import errors
from cosygate.flows.retrying import Retrying
from cosygate.kit.retry_budget import RESERVE
from cosygate.model.job import Job, JobState
from cosygate.ports.engine import EngineEvent, RecogniseConfig
from tests.api.conftest import wav
from tests.support.clock import MovedClock
from tests.unit.test_transcribe_flow import ALICE, House, OwnEngine, _raise, house

__all__ = ["house"]  # the fixture


async def open_breaker(house: House) -> None:
    house.engine.midway = lambda: _raise(errors.EngineFailed())
    for n in range(5):
        await house.submit(f"bad-{n}", wav())
        await house.run_one()
    house.engine.midway = None


async def test_jobs_wait_for_the_probe_and_lose_nothing(house: House) -> None:
    await open_breaker(house)
    job_id = await house.submit("a", wav())
    await house.run_one()
    job = await house.job(job_id)
    assert (job.state, job.attempt, house.engine.calls) == (JobState.QUEUED, 0, 5)
    await house.clock.advance(53)
    while (claim := await house.transcribe.claim("me")) is not None:  # the bad ones; it is not among them
        assert claim.job_id != job_id
        await house.transcribe.run(claim)
    assert house.engine.calls == 5
    for _ in range(4):
        await house.clock.advance(30)
        while (claim := await house.transcribe.claim("me")) is not None:
            await house.transcribe.run(claim)
    assert (await house.job(job_id)).state is JobState.SUCCEEDED


async def test_repeats_beyond_the_budget_wait_without_an_attempt(house: House) -> None:
    """Many failed at once, when their engine died under them: they are not all tried again at once."""
    count = int(RESERVE) + 8
    for n in range(count):  # a success between any two: the breaker stays out of it
        await house.submit(f"bad-{n}", wav())
        house.engine.midway = lambda: _raise(errors.EngineFailed())
        await house.run_one()
        house.engine.midway = None
        await house.submit(f"good-{n}", wav())
        await house.run_one()
    calls = house.engine.calls
    house.clock.wall += 5  # their backoff is over; on the budget's clock no time has passed
    ran = 0
    while (claim := await house.transcribe.claim("me")) is not None:
        await house.transcribe.run(claim)
        ran += 1
    assert ran == count
    assert house.engine.calls - calls == int(RESERVE + 2 * count / 10)
    waiting = [job for job in await every_job(house) if job.state is JobState.QUEUED]
    assert {job.attempt for job in waiting} == {1}
    for _ in range(10):
        await house.clock.advance(61)
        while (claim := await house.transcribe.claim("me")) is not None:
            await house.transcribe.run(claim)
    assert all(job.state is JobState.SUCCEEDED for job in await every_job(house))


async def every_job(house: House) -> list[Job]:
    return await house.records.jobs.page(ALICE.owner, state=None, before=None, limit=100)


@pytest.mark.parametrize(
    ("error", "repeats"),
    [(errors.EngineUnavailable(), True), (errors.EngineBusy(), False), (errors.EngineLeaving(), False)],
)
async def test_what_was_handed_back_is_a_repeat_when_its_engine_could_not_be_reached(
    house: House, error: Exception, repeats: bool
) -> None:
    budget = house.transcribe._retrying._budget
    for n in range(2):
        await house.submit(f"a-{n}", wav())
        house.engine.midway = lambda: _raise(error)
        await house.run_one()
    while budget.take(house.clock.monotonic()):
        pass
    calls = house.engine.calls
    house.engine.midway = None
    house.clock.wall += 40
    await house.run_one()
    assert house.engine.calls - calls == (0 if repeats else 1)


class Noting(OwnEngine):
    def __init__(self) -> None:
        super().__init__()
        self.deadlines: list[float] = []

    async def recognise(
        self, config: RecogniseConfig, audio: AsyncIterator[bytes], *, idle_timeout_s: float
    ) -> AsyncIterator[EngineEvent]:
        self.deadlines.append(config.deadline_s)
        async for event in super().recognise(config, audio, idle_timeout_s=idle_timeout_s):
            yield event


async def test_a_call_may_take_ten_times_as_long_as_its_recording_and_ten_minutes(house: House) -> None:
    noting = Noting()
    house.transcribe._engines._desks[0].engine = noting
    for seconds in (1.0, 20.0):
        await house.submit(f"s-{seconds}", wav(seconds))
        await house.run_one()
    assert noting.deadlines == [pytest.approx(610), pytest.approx(800)]


def test_gateways_share_the_machine_s_reserve_of_repeats() -> None:
    job, clock = cast("Job", SimpleNamespace(id="a", attempt=1)), MovedClock()
    for gateways, at_once in ((1, 10), (5, 2), (64, 1)):
        retrying = Retrying(clock, gateways)
        for _ in range(at_once):
            with retrying.attempt(job) as attempt:
                attempt.lent = cast("Any", SimpleNamespace(called=True))
        with pytest.raises(errors.RetriesSpent), retrying.attempt(job):
            pass
