"""The contract of ports/live.py, over every adapter that claims to keep it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from cosygate import errors
from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.job import JobState
from cosygate.model.live import LiveState, SafeMark
from cosygate.model.upload import UploadState
from cosygate.ports.live import HeldSession
from tests.support.live_records import RESULT, final, live_job, mark, new_session, segment, session_id
from tests.support.records import OWNER, Place, new_upload, submit

Door = Callable[[], Awaitable[SqlRecords]]


async def begin(records: SqlRecords, number: int, *, owner: str = OWNER, holder: str = "g1") -> str:
    """Opens session `number` and returns its id."""
    session = new_session(number, owner=owner, holder=holder)
    await records.live.open(session, max_of_owner=100, max_of_all=100)
    return session.id


async def spoken(records: SqlRecords, number: int, finals: int) -> str:
    """An open session with finals in it."""
    sid = await begin(records, number)
    assert await records.live.keep(sid, 1, [final(n) for n in range(finals)], mark(finals)) is True
    return sid


async def stored(records: SqlRecords, sid: str) -> list[dict[str, Any]]:
    return await records.live_keeping.finals(sid, -1, 1_000)


async def story(records: SqlRecords, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    return [(event.kind, event.data) for event in await records.events.read(job_id, 0, 100)]


# --- opening -----------------------------------------------------------------------------------------------------


async def test_what_was_opened_is_found(records: SqlRecords) -> None:
    started = replace(new_session(1), mark=SafeMark(safe=1, restart=2, kept=3, finals=4))
    await records.live.open(started, max_of_owner=1, max_of_all=1)
    assert await records.live.find(started.id) == started
    assert await records.live.find(session_id(2)) is None


async def test_open_sessions_are_bounded_per_owner_and_in_all(records: SqlRecords) -> None:
    limits = {"max_of_owner": 2, "max_of_all": 3}
    await records.live.open(new_session(1), **limits)
    await records.live.open(new_session(2), **limits)
    with pytest.raises(errors.TooManySessions):
        await records.live.open(new_session(3), **limits)
    await records.live.open(new_session(3, owner="default/bob"), **limits)
    with pytest.raises(errors.SessionsFull):
        await records.live.open(new_session(4, owner="default/eve"), **limits)
    with pytest.raises(errors.TooManySessions):  # their own limit is what an owner is told of first
        await records.live.open(new_session(4), **limits)
    assert await records.live.find(session_id(4)) is None
    await records.live.finish(session_id(1), 1, live_job(1), RESULT, 2_000.0)
    await records.live.open(new_session(4), **limits)


async def test_a_tenants_quota_is_of_all_its_owners_together(records: SqlRecords) -> None:
    limits = {"max_of_owner": 2, "max_of_all": 9, "max_of_tenant": 2}
    await records.live.open(new_session(1, owner="acme/ann"), **limits)
    await records.live.open(new_session(2, owner="acme/bob"), **limits)
    for number, owner in enumerate(("acme0/ann", "acme-/ann", "acm/e"), start=3):  # their neighbours in the index
        await records.live.open(new_session(number, owner=owner), **limits)
    with pytest.raises(errors.QuotaExceeded) as refused:
        await records.live.open(new_session(9, owner="acme/cid"), **limits)
    assert refused.value.extra == {"quota": "live", "limit": 2, "used": 2}
    assert await records.live.find(session_id(9)) is None
    await records.live.open(new_session(9, owner="acme/cid"), max_of_owner=2, max_of_all=9, max_of_tenant=3)
    with pytest.raises(errors.QuotaExceeded):
        await records.live.open(new_session(10, owner="acme/cid"), **limits)
    await records.live.open(new_session(10, owner="acme/cid"), max_of_owner=2, max_of_all=9, max_of_tenant=0)


async def test_a_tenants_quota_holds_in_a_race(door: Door, records: SqlRecords) -> None:
    other = await door()
    doors = [records, other]
    try:
        tries = (
            doors[number % 2].live.open(
                new_session(number, owner=f"acme/o{number}"), max_of_owner=9, max_of_all=99, max_of_tenant=5
            )
            for number in range(20)
        )
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
    finally:
        await other.close()
    assert outcomes.count(None) == 5
    assert sum(isinstance(outcome, errors.QuotaExceeded) for outcome in outcomes) == 15


async def test_the_bounds_hold_in_a_race(door: Door, records: SqlRecords) -> None:
    other = await door()
    doors = [records, other]
    try:
        tries = (
            doors[number % 2].live.open(
                new_session(number, owner=f"default/o{number % 5}"), max_of_owner=2, max_of_all=7
            )
            for number in range(40)
        )
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
    finally:
        await other.close()
    assert {type(outcome) for outcome in outcomes} == {type(None), errors.TooManySessions, errors.SessionsFull}
    assert outcomes.count(None) == 7
    assert len(await records.live_keeping.open_sessions()) == 7


# --- claiming ----------------------------------------------------------------------------------------------------


async def test_a_claim_raises_the_epoch_and_shuts_the_older_holder_out(records: SqlRecords) -> None:
    sid = await spoken(records, 1, 2)
    before = await records.live.find(sid)
    assert before is not None
    after = await records.live.claim(sid, 1, "g2")
    assert after == replace(before, epoch=2, holder="g2") == await records.live.find(sid)
    assert after.mark == mark(2)
    assert await records.live.claim(sid, 1, "g3") is None
    assert await records.live.keep(sid, 1, [final(2)], mark(3)) is False
    assert await records.live.finish(sid, 1, live_job(1), RESULT, 2_000.0) is False
    assert await records.live_keeping.discard(sid, 1) is False
    assert await records.live.find(sid) == after
    assert await stored(records, sid) == [final(0), final(1)]
    assert await records.jobs.get(None, sid) is None
    assert await records.live.keep(sid, 2, [final(2)], mark(3)) is True


async def test_what_is_not_there_cannot_be_claimed_or_written(records: SqlRecords) -> None:
    sid = session_id(9)
    assert await records.live.claim(sid, 1, "g1") is None
    assert await records.live.keep(sid, 1, [final(0)], mark(1)) is False
    assert await records.live.finish(sid, 1, live_job(9), RESULT, 2_000.0) is False
    assert await records.live_keeping.discard(sid, 1) is False
    assert await stored(records, sid) == []


async def test_one_of_many_gets_the_claim(door: Door, records: SqlRecords) -> None:
    sid = await begin(records, 1)
    other = await door()
    try:
        doors = (records, other)
        claims = await asyncio.gather(*(doors[n % 2].live.claim(sid, 1, f"g{n}") for n in range(40)))
    finally:
        await other.close()
    [winner] = [claim for claim in claims if claim]
    assert await records.live.find(sid) == winner


# --- keeping -----------------------------------------------------------------------------------------------------


async def test_finals_are_kept_once_and_in_order(records: SqlRecords) -> None:
    sid = await spoken(records, 1, 2)
    other = final(1) | {"text": "another word"}
    assert await records.live.keep(sid, 1, [other, final(2), final(3)], mark(4)) is True
    assert await stored(records, sid) == [final(0), final(1), final(2), final(3)]
    assert await records.live_keeping.finals(sid, 0, 2) == [final(1), final(2)]
    assert await records.live_keeping.finals(sid, 3, 2) == []


async def test_finals_are_each_sessions_own(records: SqlRecords) -> None:
    one, two = await spoken(records, 1, 3), await spoken(records, 2, 1)
    assert (len(await stored(records, one)), len(await stored(records, two))) == (3, 1)


async def test_marks_never_go_back(records: SqlRecords) -> None:
    sid = await begin(records, 1)
    assert await records.live.keep(sid, 1, [], SafeMark(safe=10, restart=20, kept=30, finals=0)) is True
    assert await records.live.keep(sid, 1, [], SafeMark(safe=11, restart=19, kept=2**40, finals=0)) is True
    session = await records.live.find(sid)
    assert session is not None
    assert session.mark == SafeMark(safe=11, restart=20, kept=2**40, finals=0)


# --- finishing ---------------------------------------------------------------------------------------------------


async def test_a_finished_session_is_a_task_like_any_other(records: SqlRecords) -> None:
    sid = await spoken(records, 1, 2)
    await records.live.claim(sid, 1, "g2")
    assert await records.live.finish(sid, 2, live_job(1), RESULT, 2_000.25) is True
    job = await records.jobs.get(OWNER, sid)
    assert job is not None
    assert (job.state, job.result, job.fence, job.result_fence) == (JobState.SUCCEEDED, RESULT, 2, 2)
    assert (job.percent, job.attempt, job.started_at, job.finished_at) == (100, 0, 1_001.5, 2_000.25)
    assert {name: getattr(job, name) for name in ("upload_id", "session_id", "size")} == {
        "upload_id": sid,
        "session_id": f"live-{sid}",
        "size": 160_044,
    }
    upload = await records.uploads.find(OWNER, f"live-{sid}")
    assert upload is not None
    assert (upload.id, upload.state, upload.job_id) == (sid, UploadState.COMPLETE, sid)
    session = await records.live.find(sid)
    assert session is not None
    assert (session.state, session.epoch, session.mark) == (LiveState.FINISHED, 2, mark(2))
    assert await records.jobs.page(OWNER, state=JobState.SUCCEEDED, before=None, limit=9) == [job]
    assert await records.outbox.take(9) == []
    assert await records.leases.claim("worker", 9_000.0) is None
    assert await stored(records, sid) == [final(0), final(1)]  # for whoever resumes it afterwards


async def test_its_story_is_the_one_of_a_recording(records: SqlRecords) -> None:
    sid = await spoken(records, 1, 2)
    await records.live.finish(sid, 1, live_job(1), RESULT, 2_000.0)
    recorded = await submit(records, 2)
    claim = await records.leases.claim("worker", 3_000.0)
    assert claim is not None
    await records.events.append(claim, [("segment", segment(0)), ("segment", segment(1))], 100)
    await records.leases.commit(claim, 3_001.0, result=RESULT)
    assert await story(records, sid) == await story(records, recorded.id)
    assert [kind for kind, _ in await story(records, sid)] == ["segment", "segment", "progress", "done"]


async def test_finishing_again_changes_nothing(records: SqlRecords) -> None:
    sid = await spoken(records, 1, 1)
    await records.live.claim(sid, 1, "g2")
    assert await records.live.finish(sid, 2, live_job(1), RESULT, 2_000.0) is True
    before = await records.jobs.get(OWNER, sid), await records.live.find(sid), await story(records, sid)
    assert await records.live.finish(sid, 2, live_job(1), RESULT | {"text": "other"}, 3_000.0) is True
    assert await records.live.finish(sid, 1, live_job(1), RESULT, 3_000.0) is False  # somebody else did
    assert await records.live.keep(sid, 2, [final(1)], mark(2)) is True  # it is begun from there on
    assert await records.live.keep(sid, 1, [final(1)], mark(2)) is False
    assert await records.live.claim(sid, 2, "g3") is None
    assert await records.live_keeping.discard(sid, 2) is False
    after = await records.jobs.get(OWNER, sid), await records.live.find(sid), await story(records, sid)
    assert after == before
    assert await stored(records, sid) == [final(0)]
    await records.jobs.delete(sid)
    assert await records.live.keep(sid, 2, [final(1)], mark(2)) is False
    assert await records.live.finish(sid, 2, live_job(1), RESULT, 4_000.0) is False  # erased stays erased


async def test_a_silent_session_may_finish_too(records: SqlRecords) -> None:
    sid = await begin(records, 1)
    assert await records.live.finish(sid, 1, live_job(1), RESULT, 2_000.0) is True
    done = {"state": "succeeded", "percent": 100}
    assert await story(records, sid) == [("progress", {"percent": 100}), ("done", done)]


@pytest.mark.parametrize("complete", [False, True])
async def test_an_upload_of_the_same_name_stands_in_nobodys_way(records: SqlRecords, complete: bool) -> None:
    """The session's owner knows its id, and so the name that its task will have."""
    sid = await begin(records, 1)
    squatter = await records.uploads.open(new_upload(7, session=f"live-{sid}"), max_open=9)
    if complete:
        await records.uploads.complete(replace(live_job(7, name=f"live-{sid}"), upload_id=squatter.id))
    assert await records.live.finish(sid, 1, live_job(1), RESULT, 2_000.0) is True
    job = await records.jobs.get(OWNER, sid)
    assert job is not None
    assert (job.state, job.session_id) == (JobState.SUCCEEDED, f"live-{sid}")
    found = await records.uploads.find(OWNER, f"live-{sid}")
    assert found is not None
    assert found.id == squatter.id
    assert await records.uploads.known([sid, squatter.id]) == {sid, squatter.id}


async def test_a_session_becomes_the_task_of_its_own_id(records: SqlRecords) -> None:
    sid = await begin(records, 1)
    for job in (live_job(2), replace(live_job(1), upload_id="upload-1")):
        with pytest.raises(ValueError, match="id is its upload's"):
            await records.live.finish(sid, 1, job, RESULT, 2_000.0)


async def test_erasing_the_task_erases_the_session(records: SqlRecords) -> None:
    sid, other = await spoken(records, 1, 2), await spoken(records, 2, 1)
    for number in (1, 2):
        await records.live.finish(session_id(number), 1, live_job(number), RESULT, 2_000.0)
    assert [job.id for job in await records.jobs.finished_before(2_001.0, 9)] == [sid, other]
    assert await records.jobs.delete(sid) is not None
    assert await records.live.find(sid) is None
    assert await stored(records, sid) == []
    assert await records.uploads.find(OWNER, f"live-{sid}") is None
    assert await story(records, sid) == []
    assert await records.live.find(other) is not None
    assert await stored(records, other) == [final(0)]


# --- keeping house -----------------------------------------------------------------------------------------------


async def test_the_parts_of_an_open_session_are_somebodys(records: SqlRecords) -> None:
    opened, finished, erased, discarded = [await begin(records, number) for number in range(4)]
    for number in (1, 2):
        await records.live.finish(session_id(number), 1, live_job(number), RESULT, 2_000.0)
    await records.jobs.delete(erased)
    await records.live_keeping.discard(discarded, 1)
    asked = [opened, finished, erased, discarded, session_id(9)]
    assert await records.uploads.known(asked) == {opened, finished}


async def test_a_beat_is_one_holders_and_starts_anew_with_a_claim(records: SqlRecords) -> None:
    one, two = await begin(records, 1, holder="g1"), await begin(records, 2, holder="g1")
    three = await begin(records, 3, holder="g2")
    for holder in ("g1", "g1", "g2", "g3"):
        await records.live_keeping.beat(holder)
    await records.live.claim(two, 1, "g2")
    await records.live.finish(three, 1, live_job(3), RESULT, 2_000.0)
    await records.live_keeping.beat("g1")
    held = await records.live_keeping.open_sessions()
    assert set(held) == {HeldSession(one, 1, "g1", 3), HeldSession(two, 2, "g2", 0)}


async def test_only_an_empty_session_is_discarded(records: SqlRecords) -> None:
    empty, full = await begin(records, 1), await spoken(records, 2, 1)
    assert await records.live_keeping.discard(full, 1) is False
    assert await records.live_keeping.discard(empty, 2) is False
    assert await records.live_keeping.discard(empty, 1) is True
    assert await records.live_keeping.discard(empty, 1) is False
    assert await records.live.find(empty) is None
    assert await stored(records, full) == [final(0)]


async def test_everything_is_there_after_a_restart(door: Door, records: SqlRecords) -> None:
    sid = await spoken(records, 1, 3)
    before = await records.live.find(sid)
    assert await records.one_time.spend("t", 100.0, 50.0) is True
    await records.close()
    again = await door()
    try:
        assert await again.live.find(sid) == before
        assert await stored(again, sid) == [final(0), final(1), final(2)]
        assert await again.one_time.spend("t", 100.0, 50.0) is False
    finally:
        await again.close()


# --- one-time tickets --------------------------------------------------------------------------------------------


async def test_a_ticket_is_spent_once(door: Door, records: SqlRecords) -> None:
    other = await door()
    try:
        doors = (records, other)
        spent = await asyncio.gather(*(doors[n % 2].one_time.spend(f"t{n % 4}", 100.0, 50.0) for n in range(40)))
    finally:
        await other.close()
    assert spent.count(True) == 4
    assert await records.one_time.spend("t5", 100.0, 50.0) is True


async def test_a_spent_ticket_is_never_good_again(records: SqlRecords) -> None:
    assert await records.one_time.spend("t", 100.0, 50.0) is True
    for now in (99.0, 100.0, 130.0, 1_000.0, 9_000.0):
        await records.one_time.spend(f"u{now}", now + 1, now)
        assert await records.one_time.spend("t", 100.0, now) is False
    assert await records.one_time.spend("late", 100.0, 100.5) is False


async def test_a_slow_clock_makes_no_ticket_good_again(records: SqlRecords) -> None:
    """Another process, whose clock is ahead, has seen it expire."""
    assert await records.one_time.spend("t", 100.0, 90.0) is True
    await records.one_time.spend("u", 160.0, 130.0)
    assert await records.one_time.spend("t", 100.0, 91.0) is False


# --- several processes -------------------------------------------------------------------------------------------

_RIVAL = """
import asyncio, json, sys, time
from cosygate.adapters.records_sql import SqlRecords
async def main(url, name, sessions):
    records = await SqlRecords.open(url, durability="process", busy_s=30.0)
    print("ready", flush=True)
    start = float(await asyncio.to_thread(sys.stdin.readline))
    await asyncio.sleep(max(0.0, start - time.monotonic()))
    claims, spent = [], []
    for n in range(100):
        if name == "g3":  # from the other end: who walks behind gets nothing
            n = n - n % 20 + 19 - n % 20
        sid, epoch = sessions[n % 20], 1 + n // 20
        if await records.live.claim(sid, epoch, name):
            claims.append([sid, epoch])
        if await records.one_time.spend(f"t{n}", 100.0, 50.0):
            spent.append(n)
    print(json.dumps([claims, spent]))
    await records.close()
asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
"""


async def test_two_processes_never_hold_the_same(place: Place) -> None:
    records = await place.open()
    sessions = [await begin(records, number) for number in range(20)]
    command = [sys.executable, "-c", _RIVAL, place.url]
    rivals = [
        subprocess.Popen([*command, name, *sessions], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("g2", "g3")
    ]
    for rival in rivals:
        assert rival.stdout is not None
        assert await asyncio.to_thread(rival.stdout.readline) == "ready\n"
    start = f"{time.monotonic() + 0.5}\n"
    answers = await asyncio.gather(*(asyncio.to_thread(rival.communicate, start, timeout=60) for rival in rivals))
    (claims_2, spent_2), (claims_3, spent_3) = (json.loads(output) for output, _ in answers)
    assert all((claims_2, claims_3, spent_2, spent_3))  # everybody got some
    assert sorted(claims_2 + claims_3) == sorted([sid, epoch] for sid in sessions for epoch in range(1, 6))
    assert sorted(spent_2 + spent_3) == list(range(100))
    last = {"g2": {sid for sid, epoch in claims_2 if epoch == 5}, "g3": {sid for sid, epoch in claims_3 if epoch == 5}}
    for held in await records.live_keeping.open_sessions():
        assert (held.epoch, held.id in last[held.holder]) == (6, True)
    await records.close()
