"""The contract of ports/records.py, over every adapter that claims to keep it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from cosygate import errors
from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.job import MAX_ATTEMPTS, MAX_LOST, Claim, JobState, Requeue
from cosygate.model.upload import UploadState
from cosygate.model.webhook import Answer, DeliveryState
from cosygate.ports.records import MAX_DELAY_S, Beat, Hint
from cosygate.ports.webhooks import Room
from tests.support.deliveries import ended
from tests.support.records import OWNER, new_job, new_upload, submit

Door = Callable[[], Awaitable[SqlRecords]]
RESULT = {"text": "hello", "duration": 1.5, "language": "en", "segments": [{"id": 0, "text": "hello – ça va"}]}


async def claimed(records: SqlRecords, now: float = 3_000.0, by: str = "worker") -> Claim:
    claim = await records.leases.claim(by, now)
    assert claim is not None
    return claim


async def story(records: SqlRecords, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    return [(event.kind, event.data) for event in await records.events.read(job_id, 0, 100)]


# --- uploads -----------------------------------------------------------------------------------------------------


async def test_opening_a_bound_session_returns_its_upload(records: SqlRecords) -> None:
    first = await records.uploads.open(new_upload(1, session="talk"), max_open=9)
    assert first == new_upload(1, session="talk")
    assert await records.uploads.open(new_upload(2, session="talk"), max_open=1) == first
    assert await records.uploads.find(OWNER, "talk") == first
    await records.uploads.complete(new_job(1, session="talk"))
    again = await records.uploads.open(new_upload(3, session="talk"), max_open=9)
    assert again == replace(first, state=UploadState.COMPLETE, job_id=new_job(1).id)


async def test_owners_have_names_of_their_own(records: SqlRecords) -> None:
    await records.uploads.open(new_upload(1, session="talk"), max_open=1)
    theirs = new_upload(2, owner="default/bob", session="talk")
    assert await records.uploads.open(theirs, max_open=1) == theirs
    assert await records.uploads.find("default/eve", "talk") is None


async def test_open_uploads_are_bounded_per_owner(records: SqlRecords) -> None:
    for number in range(3):
        await records.uploads.open(new_upload(number), max_open=3)
    with pytest.raises(errors.TooManyUploads):
        await records.uploads.open(new_upload(3), max_open=3)
    await records.uploads.complete(new_job(0))
    await records.uploads.close("upload-1", UploadState.ABORTED)
    await records.uploads.open(new_upload(3), max_open=3)
    await records.uploads.open(new_upload(4), max_open=3)
    with pytest.raises(errors.TooManyUploads):
        await records.uploads.open(new_upload(5), max_open=3)


async def test_the_bound_on_open_uploads_holds_in_a_race(records: SqlRecords) -> None:
    tries = (records.uploads.open(new_upload(number), max_open=5) for number in range(40))
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(outcome, errors.TooManyUploads) for outcome in outcomes) == 5


async def test_a_closed_upload_frees_its_name_and_cannot_complete(records: SqlRecords) -> None:
    for number, state in ((1, UploadState.ABORTED), (2, UploadState.EXPIRED)):
        await records.uploads.open(new_upload(number, session="talk"), max_open=9)
        assert await records.uploads.close(f"upload-{number}", state) is True
        assert await records.uploads.close(f"upload-{number}", state) is False
        assert await records.uploads.find(OWNER, "talk") is None
        with pytest.raises(errors.UploadClosed):
            await records.uploads.complete(new_job(number, session="talk"))
    with pytest.raises(errors.UploadNotFound):
        await records.uploads.complete(new_job(7))
    assert await records.jobs.page(OWNER, state=None, before=None, limit=10) == []


async def test_an_upload_that_is_given_up_keeps_its_name_until_it_is_closed(records: SqlRecords) -> None:
    await records.uploads.open(new_upload(1, session="talk"), max_open=9)
    expires_at = new_upload(1).expires_at
    for _ in range(2):
        assert await records.uploads.give_up("upload-1") is True
        found = await records.uploads.open(new_upload(2, session="talk"), max_open=1)
        assert (found.id, found.given_up, found.state) == ("upload-1", True, UploadState.OPEN)
        assert found == await records.uploads.find(OWNER, "talk")
        assert [upload.id for upload in await records.uploads.stale(0.0, 10)] == ["upload-1"]
    with pytest.raises(errors.UploadClosed, match="given up"):
        await records.uploads.complete(new_job(1, session="talk"))
    assert await records.uploads.close("upload-1", UploadState.ABORTED) is True
    assert await records.uploads.give_up("upload-1") is False
    with pytest.raises(errors.UploadClosed, match="aborted"):
        await records.uploads.complete(new_job(1, session="talk"))
    begun = await records.uploads.open(new_upload(2, session="talk"), max_open=9)
    assert (begun.id, begun.given_up, begun.expires_at) == ("upload-2", False, expires_at)
    await records.uploads.complete(new_job(2, session="talk"))
    assert await records.uploads.give_up("upload-2") is False
    assert await records.uploads.give_up("upload-9") is False


async def test_a_complete_upload_is_not_closed(records: SqlRecords) -> None:
    await submit(records, 1)
    assert await records.uploads.close("upload-1", UploadState.ABORTED) is False
    with pytest.raises(ValueError, match="aborted or expired"):
        await records.uploads.close("upload-1", UploadState.COMPLETE)


async def test_stale_uploads_come_oldest_first(records: SqlRecords) -> None:
    for number, expires_at in ((1, 30.0), (2, 10.0), (3, 20.0), (4, 99.0)):
        await records.uploads.open(new_upload(number, expires_at=expires_at), max_open=9)
    await records.uploads.close("upload-3", UploadState.ABORTED)
    assert [upload.id for upload in await records.uploads.stale(30.0, 10)] == ["upload-2", "upload-1"]
    assert [upload.id for upload in await records.uploads.stale(30.0, 1)] == ["upload-2"]


async def test_closed_uploads_that_ran_out_are_forgotten_in_the_end(records: SqlRecords) -> None:
    await records.uploads.open(new_upload(1, expires_at=1_001.9), max_open=9)
    await records.uploads.close("upload-1", UploadState.EXPIRED)
    with pytest.raises(errors.UploadClosed):
        await records.uploads.complete(new_job(1))
    await records.uploads.open(new_upload(2), max_open=9)  # opened at 1002.5
    await records.uploads.close("upload-2", UploadState.ABORTED)
    with pytest.raises(errors.UploadNotFound):
        await records.uploads.complete(new_job(1))


async def test_forgetting_leaves_the_upload_of_a_cancelled_job(records: SqlRecords) -> None:
    await records.uploads.open(new_upload(1, expires_at=1_001.9), max_open=9)
    await records.uploads.complete(new_job(1))
    await records.jobs.cancel(OWNER, new_job(1).id, 2_000.0)
    await records.uploads.open(new_upload(2), max_open=9)  # opened at 1002.5, after the first ran out
    assert await records.uploads.close("upload-2", UploadState.ABORTED) is True
    assert await records.jobs.get(OWNER, new_job(1).id) is not None


async def test_known_are_uploads_that_are_open_or_complete(records: SqlRecords) -> None:
    for number in (1, 2, 3):
        await records.uploads.open(new_upload(number), max_open=9)
    await records.uploads.complete(new_job(1))
    await records.uploads.close("upload-2", UploadState.ABORTED)
    asked = [f"upload-{number}" for number in (1, 2, 3, 4)]
    assert await records.uploads.known(asked) == {"upload-1", "upload-3"}


# --- completing --------------------------------------------------------------------------------------------------


async def test_completing_writes_job_event_and_hint_at_once(records: SqlRecords) -> None:
    job = await submit(records, 1, priority=1)
    assert (job.state, job.fence, job.attempt, job.percent, job.priority) == (JobState.QUEUED, 0, 0, 0, 1)
    assert await records.jobs.get(OWNER, job.id) == job
    assert await story(records, job.id) == [("progress", {"percent": 0})]
    assert await records.outbox.take(10) == [Hint(job.id, 1)]
    assert await records.outbox.take(10) == []


async def test_completing_again_returns_the_job_that_exists(records: SqlRecords) -> None:
    job = await submit(records, 1)
    assert await records.uploads.complete(replace(new_job(1), id="f" * 32)) == job
    claim = await claimed(records)
    await records.leases.commit(claim, 3_001.0, result=RESULT)
    assert (await records.uploads.complete(new_job(1))).state is JobState.SUCCEEDED
    assert await records.outbox.take(10) == [Hint(job.id, 0)]


async def test_completing_in_a_race_makes_one_job(door: Door, records: SqlRecords) -> None:
    other = await door()
    try:
        await records.uploads.open(new_upload(1), max_open=1)
        rivals = [replace(new_job(1), id=f"{number:032x}") for number in range(20)]
        doors = [records, other]
        jobs = await asyncio.gather(*(doors[n % 2].uploads.complete(rival) for n, rival in enumerate(rivals)))
        assert len({job.id for job in jobs}) == 1
        assert len(await records.jobs.page(OWNER, state=None, before=None, limit=50)) == 1
        assert await other.outbox.take(10) == [Hint(jobs[0].id, 0)]
    finally:
        await other.close()


# --- jobs --------------------------------------------------------------------------------------------------------


async def test_another_owners_job_does_not_exist(records: SqlRecords) -> None:
    job = await submit(records, 1)
    assert await records.jobs.get("default/eve", job.id) is None
    assert await records.jobs.cancel("default/eve", job.id, 1.0) is None
    assert await records.jobs.get(None, job.id) == job
    assert await records.jobs.get(None, "0" * 32) is None


async def test_pages_are_newest_first_and_continue(records: SqlRecords) -> None:
    jobs = [await submit(records, number) for number in range(5)]
    await submit(records, 9, owner="default/bob")
    await records.jobs.cancel(OWNER, jobs[1].id, 1.0)
    newest = await records.jobs.page(OWNER, state=None, before=None, limit=3)
    assert [job.id for job in newest] == [jobs[4].id, jobs[3].id, jobs[2].id]
    rest = await records.jobs.page(OWNER, state=None, before=newest[-1].id, limit=3)
    assert [job.id for job in rest] == [jobs[1].id, jobs[0].id]
    queued = await records.jobs.page(OWNER, state=JobState.QUEUED, before=jobs[3].id, limit=9)
    assert [job.id for job in queued] == [jobs[2].id, jobs[0].id]


async def test_cancel_is_terminal_and_fences_the_worker(records: SqlRecords) -> None:
    queued, running = await submit(records, 2), await submit(records, 1)
    claim = await claimed(records)
    assert claim.job_id == running.id
    for job in (queued, running):
        after = await records.jobs.cancel(OWNER, job.id, 4_000.5)
        assert after is not None
        assert (after.state, after.finished_at) == (JobState.CANCELLED, 4_000.5)
        assert await records.jobs.cancel(OWNER, job.id, 5_000.5) == after
        assert (await story(records, job.id))[-1] == ("cancelled", {})
    before = await records.jobs.get(OWNER, running.id), await story(records, running.id)
    assert await records.leases.renew(claim) is False
    assert await records.leases.commit(claim, 4_001.0, result=RESULT) is False
    assert await records.leases.requeue(claim.job_id, claim.fence, Requeue.LOST, 4_001.0) is None
    assert await records.events.append(claim, [("segment", {"id": 0})], 50) is False
    assert (await records.jobs.get(OWNER, running.id), await story(records, running.id)) == before
    assert await records.leases.claim("worker", 9_000.0) is None


async def test_delete_erases_everything_of_a_finished_job(records: SqlRecords) -> None:
    job = await submit(records, 1)
    assert await records.jobs.delete(job.id) is None
    claim = await claimed(records)
    assert await records.jobs.delete(job.id) is None
    await records.leases.commit(claim, 3_001.0, result=RESULT)
    erased = await records.jobs.delete(job.id)
    assert erased is not None
    assert (erased.id, erased.upload_id, erased.result) == (job.id, "upload-1", RESULT)
    assert await records.jobs.get(None, job.id) is None
    assert await records.events.read(job.id, 0, 10) == []
    assert await records.outbox.take(10) == []
    assert await records.jobs.delete(job.id) is None
    reborn = new_upload(2, session="session-1")
    assert await records.uploads.open(reborn, max_open=9) == reborn


async def test_retention_sees_the_oldest_finished_first(records: SqlRecords) -> None:
    for number in range(4):
        await submit(records, number)
    for number, finished in ((2, 50.0), (0, 40.0), (1, 60.0)):
        await records.jobs.cancel(OWNER, new_job(number).id, finished)
    assert [job.id for job in await records.jobs.finished_before(60.0, 10)] == [new_job(0).id, new_job(2).id]
    assert [job.id for job in await records.jobs.finished_before(99.0, 1)] == [new_job(0).id]


async def test_retention_waits_for_those_who_are_still_to_be_told(records: SqlRecords) -> None:
    told = await ended(records, 0, now=40.0, url="https://r.example/")
    untold = await ended(records, 1, now=50.0, url=None)
    assert [job.id for job in await records.jobs.finished_before(99.0, 10)] == [untold.id]
    (begun,) = await records.sending.begin(60.0, 1_000.0, 20.0, Room())
    assert [job.id for job in await records.jobs.finished_before(99.0, 10)] == [untold.id]
    await records.sending.end(begun.delivery, DeliveryState.DELIVERED, Answer(204), 60.0)
    assert [job.id for job in await records.jobs.finished_before(99.0, 10)] == [told.id, untold.id]


# --- leases ------------------------------------------------------------------------------------------------------


async def test_claims_go_by_priority_then_age(records: SqlRecords) -> None:
    for number, priority in ((3, 1), (2, 0), (1, 1), (4, 0)):
        await submit(records, number, priority=priority)
    order = [(await claimed(records)).job_id for _ in range(4)]
    assert order == [new_job(number).id for number in (2, 4, 1, 3)]
    assert await records.leases.claim("worker", 3_000.0) is None


async def test_claims_may_be_of_some_priorities_alone(records: SqlRecords) -> None:
    for number, priority in ((1, 0), (2, 10), (3, 5), (4, 10)):
        await submit(records, number, priority=priority)
    claim = await records.leases.claim("w", 3_000.0, priorities=(10, 10))
    assert claim is not None and claim.job_id == new_job(2).id
    await records.leases.requeue(claim.job_id, claim.fence, Requeue.HAND_BACK, 3_000.0, delay_s=5.0)
    for now, expected in ((3_001.0, 4), (3_001.0, None), (3_006.0, 2), (3_006.0, None)):
        claim = await records.leases.claim("w", now, priorities=(6, 2**31 - 1))
        assert (claim and claim.job_id) == (expected and new_job(expected).id)
    assert (await claimed(records)).job_id == new_job(1).id
    assert await records.leases.claim("w", 3_000.0, priorities=(0, 4)) is None
    claim = await records.leases.claim("w", 3_000.0, priorities=(0, 5))
    assert claim is not None and claim.job_id == new_job(3).id


async def test_a_claim_is_one_callers(door: Door, records: SqlRecords) -> None:
    for number in range(30):
        await submit(records, number)
    other = await door()
    try:
        claims = await asyncio.gather(
            *((records, other)[number % 2].leases.claim(f"w{number}", 3_000.0) for number in range(40))
        )
    finally:
        await other.close()
    taken = [claim.job_id for claim in claims if claim]
    assert len(taken) == len(set(taken)) == 30


async def test_a_claim_that_holds_renews_tells_and_commits(records: SqlRecords) -> None:
    await submit(records, 1)
    claim = await claimed(records, now=3_000.5)
    assert (claim.job.state, claim.fence, claim.job.started_at) == (JobState.RUNNING, 1, 3_000.5)
    assert await records.leases.renew(claim) is True
    assert await records.leases.running() == [Beat(claim.job_id, 1, 1)]
    assert await records.leases.running("worker") == await records.leases.running()
    assert await records.leases.running("another") == []
    assert await records.leases.commit(claim, 3_009.5, result=RESULT) is True
    job = await records.jobs.get(OWNER, claim.job_id)
    assert job is not None
    assert (job.state, job.result, job.result_fence, job.fence) == (JobState.SUCCEEDED, RESULT, 1, 1)
    assert (job.percent, job.finished_at, job.error_code) == (100, 3_009.5, None)
    assert (await story(records, job.id))[-1] == ("done", {"state": "succeeded", "percent": 100})
    told = await story(records, job.id)
    assert await records.leases.commit(claim, 3_010.0, result={"text": "again"}) is True, "its answer may be lost"
    assert await records.leases.commit(claim, 3_010.0, result=None, error=("x", "y")) is False
    assert await records.jobs.get(OWNER, job.id) == job
    assert await story(records, job.id) == told
    assert [use.recordings for use in await records.usage.of_tenant("default", "")] == [1]
    assert await records.leases.running() == []


async def test_a_job_may_fail_at_once(records: SqlRecords) -> None:
    await submit(records, 1)
    claim = await claimed(records)
    assert await records.leases.commit(claim, 3_009.5, result=None, error=("media_no_audio", "no audio")) is True
    job = await records.jobs.get(OWNER, claim.job_id)
    assert job is not None
    assert (job.state, job.error_code, job.error_detail) == (JobState.FAILED, "media_no_audio", "no audio")
    assert (job.result, job.result_fence, job.finished_at) == (None, None, 3_009.5)
    assert (await story(records, job.id))[-1] == ("failed", {"code": "media_no_audio", "detail": "no audio"})
    with pytest.raises(ValueError, match="a result or an error"):
        await records.leases.commit(claim, 1.0, result=None)
    told = await story(records, job.id)
    assert await records.leases.commit(claim, 3_010.0, result=None, error=("media_no_audio", "again")) is True
    assert await records.leases.commit(claim, 3_010.0, result=None, error=("engine_failed", "else")) is False
    assert (await records.jobs.get(OWNER, claim.job_id), await story(records, job.id)) == (job, told)


async def test_a_stale_fence_changes_nothing(records: SqlRecords) -> None:
    await submit(records, 1)
    zombie = await claimed(records)
    assert await records.leases.requeue(zombie.job_id, 1, Requeue.LOST, 3_001.0) is JobState.QUEUED
    owner = await claimed(records)
    assert owner.fence == 2
    before = await records.jobs.get(None, zombie.job_id), await story(records, zombie.job_id)
    assert await records.leases.renew(zombie) is False
    assert await records.events.append(zombie, [("segment", {"id": 0})], 90) is False
    assert await records.leases.commit(zombie, 3_002.0, result=RESULT) is False
    assert await records.leases.commit(zombie, 3_002.0, result=None, error=("x", "y")) is False
    assert await records.leases.requeue(zombie.job_id, zombie.fence, Requeue.RECORDING, 3_002.0) is None
    assert (await records.jobs.get(None, zombie.job_id), await story(records, zombie.job_id)) == before
    assert await records.leases.running() == [Beat(zombie.job_id, 2, 0)]
    assert await records.leases.commit(owner, 3_003.0, result=RESULT) is True


async def test_the_reaper_takes_only_a_claim_that_stood_still(records: SqlRecords) -> None:
    await submit(records, 1)
    claim = await claimed(records)
    [seen] = await records.leases.running()
    await records.leases.renew(claim)
    assert await records.leases.requeue(seen.job_id, seen.fence, Requeue.LOST, 3_001.0, beat=seen.beat) is None
    [seen] = await records.leases.running()
    assert await records.leases.requeue(seen.job_id, seen.fence, Requeue.LOST, 3_001.0, beat=seen.beat) == "queued"
    assert await records.leases.renew(claim) is False


async def test_the_third_failure_of_the_recording_is_the_last(records: SqlRecords) -> None:
    await submit(records, 1)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        claim = await claimed(records)
        assert claim.job.attempt == attempt - 1
        last = ("decoder_died", f"died {attempt}")
        state = await records.leases.requeue(claim.job_id, claim.fence, Requeue.RECORDING, 3_000.0, error=last)
        assert state == ("failed" if attempt == MAX_ATTEMPTS else "queued")
    job = await records.jobs.get(None, claim.job_id)
    assert job is not None
    assert (job.attempt, job.error_code, job.error_detail) == (MAX_ATTEMPTS, "decoder_died", f"died {MAX_ATTEMPTS}")
    assert (await story(records, job.id))[-1] == ("failed", {"code": "decoder_died", "detail": f"died {MAX_ATTEMPTS}"})


async def test_hand_backs_cost_nothing_and_losses_end_it_late(records: SqlRecords) -> None:
    await submit(records, 1)
    for _ in range(MAX_LOST + 5):
        claim = await claimed(records)
        assert await records.leases.requeue(claim.job_id, claim.fence, Requeue.HAND_BACK, 3_000.0) == "queued"
    for lost in range(1, MAX_LOST + 1):
        claim = await claimed(records)
        state = await records.leases.requeue(claim.job_id, claim.fence, Requeue.LOST, 3_000.0)
        assert state == ("failed" if lost == MAX_LOST else "queued")
    job = await records.jobs.get(None, claim.job_id)
    assert job is not None
    assert (job.attempt, job.error_code) == (0, errors.LostTooOften.code)


async def test_a_requeued_job_waits_out_its_delay(records: SqlRecords) -> None:
    await submit(records, 1)
    claim = await claimed(records)
    await records.leases.requeue(claim.job_id, claim.fence, Requeue.HAND_BACK, 3_000.0, delay_s=20.0)
    job = await records.jobs.get(None, claim.job_id)
    assert job is not None
    assert (job.state, job.started_at, job.percent) == (JobState.QUEUED, None, 0)
    assert await records.leases.claim("worker", 3_019.9) is None
    await submit(records, 2)  # younger, but ready
    assert (await claimed(records, now=3_019.9)).job_id == new_job(2).id
    assert (await claimed(records, now=3_020.0)).fence == 2


async def test_a_clock_set_back_delays_by_no_more_than_the_longest_delay(records: SqlRecords) -> None:
    await submit(records, 1)
    claim = await claimed(records, now=90_000.0)
    await records.leases.requeue(claim.job_id, claim.fence, Requeue.HAND_BACK, 90_000.0, delay_s=20.0)
    assert await records.leases.claim("worker", 89_990.0) is None  # ten seconds back: ten seconds longer
    claim = await claimed(records, now=86_400.0)  # an hour back: not an hour longer
    await records.leases.requeue(claim.job_id, claim.fence, Requeue.HAND_BACK, 90_000.0, delay_s=10 * MAX_DELAY_S)
    assert await records.leases.claim("worker", 90_000.0 + MAX_DELAY_S - 0.1) is None
    assert await records.leases.claim("worker", 90_000.0 + MAX_DELAY_S) is not None


async def test_everybody_at_once_on_the_same_jobs(door: Door, records: SqlRecords) -> None:
    """Claims, hand-backs, cancels, commits of several tenants through several doors: each job ends once, and nothing is
    skipped."""
    doors = [records, await door(), await door()]
    for number in range(45):
        await submit(records, number, owner=f"t{number % 3}/ann", priority=number % 2, cost_s=1.0 + number % 4)
    ended: dict[str, str] = {}

    async def work(name: int) -> None:
        mine, tries = doors[name % 3], 0
        while (claim := await mine.leases.claim(f"w{name}", 3_000.0)) is not None:
            tries += 1
            await mine.events.append(claim, [("segment", {"by": name})], 50)
            if tries % 4 == 1:
                why = (Requeue.HAND_BACK, Requeue.LOST)[name % 2]
                await mine.leases.requeue(claim.job_id, claim.fence, why, 3_000.0)
            elif await mine.leases.commit(claim, 3_001.0, result=RESULT | {"duration": 9.0}):
                assert ended.setdefault(claim.job_id, "succeeded") == "succeeded"

    async def cancel() -> None:
        for number in range(0, 45, 5):
            job = await doors[1].jobs.cancel(f"t{number % 3}/ann", new_job(number).id, 3_000.0)
            assert job is not None
            if job.state is JobState.CANCELLED:
                assert ended.setdefault(job.id, "cancelled") == "cancelled"

    await asyncio.gather(*(work(name) for name in range(6)), cancel())
    while (claim := await records.leases.claim("last", 3_000.0)) is not None:  # handed back as all others had left
        await records.leases.commit(claim, 3_001.0, result=RESULT)
        ended[claim.job_id] = "succeeded"
    assert len(ended) == 45
    counts = await records.health.counts()
    assert (counts["queued"], counts["running"]) == (0, 0)
    assert counts["succeeded"] == list(ended.values()).count("succeeded")
    for number in range(45):
        told = await story(records, new_job(number).id)
        assert told[-1][0] == ("done" if ended[new_job(number).id] == "succeeded" else "cancelled")


# --- events, outbox, health --------------------------------------------------------------------------------------


async def test_events_are_read_in_order_from_where_one_was(records: SqlRecords) -> None:
    await submit(records, 1)
    claim = await claimed(records)
    assert await records.events.append(claim, [("segment", {"id": 0}), ("segment", {"id": 1})], 40) is True
    assert await records.events.append(claim, [("segment", {"id": 2})], None) is True
    everything = await records.events.read(claim.job_id, 0, 100)
    assert [(event.kind, event.data) for event in everything] == [
        ("segment", {"id": 0}),
        ("segment", {"id": 1}),
        ("progress", {"percent": 40}),
        ("segment", {"id": 2}),
    ]
    assert [event.seq for event in everything] == sorted({event.seq for event in everything})
    assert await records.events.read(claim.job_id, everything[1].seq, 1) == everything[2:3]
    assert await records.events.read(claim.job_id, everything[-1].seq, 9) == []
    job = await records.jobs.get(None, claim.job_id)
    assert job is not None
    assert job.percent == 40


async def test_only_the_last_progress_is_kept(records: SqlRecords) -> None:
    await submit(records, 1)
    claim = await claimed(records)
    for percent in range(1, 60):
        await records.events.append(claim, [("progress", {"percent": percent})], percent)
    await records.events.append(claim, [("progress", {"percent": 60})], None)
    assert await story(records, claim.job_id) == [("progress", {"percent": 60})]
    assert await records.events.append(claim, [], None) is True


async def test_segments_whose_answer_was_lost_are_told_once(records: SqlRecords) -> None:
    await submit(records, 1)
    claim = await claimed(records)
    said = [("segment", {"id": number}) for number in range(5)]
    assert await records.events.append(claim, said[:1], 10)
    assert await records.events.append(claim, said[1:3], 20)  # its answer is lost: after the first, nothing is certain
    assert await records.events.append(claim, said[1:4], 30, after=1)
    told = [("segment", {"id": number}) for number in range(4)]
    assert await story(records, claim.job_id) == [*told[:1], *told[1:3], told[3], ("progress", {"percent": 30})]
    assert await records.leases.commit(claim, 3_001.0, result=RESULT, segments=said[3:], after=3)
    segments = [data["id"] for kind, data in await story(records, claim.job_id) if kind == "segment"]
    assert segments == [0, 1, 2, 3, 4]


async def test_a_success_tells_the_last_segments(records: SqlRecords) -> None:
    await submit(records, 1)
    claim = await claimed(records)
    said = [("segment", {"id": number}) for number in range(2)]
    assert await records.leases.commit(claim, 3_001.0, result=RESULT, segments=said)
    done = ("done", {"state": "succeeded", "percent": 100})
    assert await story(records, claim.job_id) == [("progress", {"percent": 0}), *said, done]


async def test_a_job_claimed_again_starts_its_story_anew(records: SqlRecords) -> None:
    await submit(records, 1)
    claim = await claimed(records)
    await records.events.append(claim, [("segment", {"id": 0})], 30)
    last = (await records.events.read(claim.job_id, 0, 10))[-1].seq
    await records.leases.requeue(claim.job_id, claim.fence, Requeue.HAND_BACK, 3_000.0)
    claim = await claimed(records)
    assert claim.job.percent == 0
    await records.events.append(claim, [("segment", {"id": 0})], 10)
    told = [("restarted", {}), ("segment", {"id": 0}), ("progress", {"percent": 10})]
    assert await story(records, claim.job_id) == told
    assert [event.kind for event in await records.events.read(claim.job_id, last, 10)] == [kind for kind, _ in told]


async def test_hints_are_taken_once_in_order(records: SqlRecords) -> None:
    jobs = [await submit(records, number) for number in range(5)]
    taken = await asyncio.gather(records.outbox.take(2), records.outbox.take(2), records.outbox.take(2))
    found = [[hint.job_id for hint in some] for some in taken]
    assert sorted(itertools.chain(*found)) == [job.id for job in jobs]  # of three at once, each takes the oldest left
    assert all(some == sorted(some) for some in found)


async def test_health_and_counts(records: SqlRecords) -> None:
    await records.health.check()
    assert await records.health.counts() == dict.fromkeys(JobState, 0)
    for number in range(3):
        await submit(records, number)
    await claimed(records)
    await records.jobs.cancel(OWNER, new_job(2).id, 1.0)
    counts = await records.health.counts()
    assert counts == {"queued": 1, "running": 1, "succeeded": 0, "failed": 0, "cancelled": 1}


async def test_everything_is_there_after_a_restart(door: Door, records: SqlRecords) -> None:
    jobs = [await submit(records, number) for number in range(3)]
    claim = await claimed(records, by="host-1")
    await records.events.append(claim, [("segment", {"id": 0})], 20)
    await records.close()
    with pytest.raises(errors.DatabaseBusy):
        await records.health.check()
    again = await door()
    try:
        assert [job.id for job in await again.jobs.page(OWNER, state=None, before=None, limit=9)] == [
            job.id for job in reversed(jobs)
        ]
        [own] = await again.leases.running("host-1")
        assert own == Beat(claim.job_id, claim.fence, 0)
        assert await again.leases.requeue(own.job_id, own.fence, Requeue.HAND_BACK, 1.0, beat=own.beat) == "queued"
        assert await story(again, own.job_id) == [("segment", {"id": 0}), ("progress", {"percent": 20})]
    finally:
        await again.close()
