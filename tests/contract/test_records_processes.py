"""Several real processes on one database, and a lock that somebody does not let go."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.model.job import JobState
from cosygate.ports.records import Hint
from tests.support.records import OWNER, Place, locked_by_another_process, new_job, new_upload, open_records, submit

JOBS, PROCESSES = 120, 4


async def test_every_claim_is_one_processes(place: Place) -> None:
    records = await place.open()
    for number in range(JOBS):
        await submit(records, number)
    command = [sys.executable, "-m", "tests.support.records_hammer", place.url]
    hammers = [subprocess.Popen([*command, f"p{n}"], stdout=subprocess.PIPE, text=True) for n in range(PROCESSES)]
    outputs = await asyncio.gather(*(asyncio.to_thread(hammer.communicate, timeout=90) for hammer in hammers))
    told: list[list[tuple[str, int, float, float, bool]]] = [
        [tuple(json.loads(line)) for line in output.splitlines()] for output, _ in outputs
    ]
    assert sum(map(bool, told)) > 1, "on a busy machine one may come too late; but they have to meet"
    lines = [line for lines in told for line in lines]
    assert [hammer.returncode for hammer in hammers] == [0] * PROCESSES

    by_job: dict[str, list[tuple[str, int, float, float, bool]]] = {}
    for line in sorted(lines):
        by_job.setdefault(line[0], []).append(line)
    assert len(by_job) == JOBS
    for job_id, claims in by_job.items():
        assert [fence for _, fence, *_ in claims] == list(range(1, len(claims) + 1))
        for (_, _, _, earlier_to, _), (_, _, later_from, _, _) in itertools.pairwise(claims):
            assert earlier_to < later_from  # held by one at a time
        assert [committed for *_, committed in claims] == [False] * (len(claims) - 1) + [True]
        job = await records.jobs.get(None, job_id)
        assert job is not None
        assert (job.state, job.fence, job.result_fence) == (JobState.SUCCEEDED, len(claims), len(claims))
        kinds = [event.kind for event in await records.events.read(job_id, 0, 100)]
        assert [kind for kind in kinds if kind != "restarted"] == (
            ["progress"] * (len(claims) == 1) + ["segment", "progress", "done"]
        )[-3:]
    await records.close()


@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_database_that_stays_locked_answers_busy_and_loses_nothing(place: Place, kind: str) -> None:
    records = await place.open(busy_s=0.5)
    running, upload = await submit(records, 1), await records.uploads.open(new_upload(2), max_open=9)
    claim = await records.leases.claim("worker", 1.0)
    assert claim is not None
    waiting = await submit(records, 4)
    loop = asyncio.get_running_loop()
    with place.locked(kind):
        began = loop.time()
        outcomes = await asyncio.gather(
            records.uploads.complete(new_job(2)),
            records.uploads.open(new_upload(3), max_open=9),
            records.leases.renew(claim),
            records.leases.commit(claim, 2.0, result={"text": "x"}),
            records.leases.claim("other", 2.0),
            records.jobs.cancel(OWNER, running.id, 2.0),
            records.outbox.take(5),
            *([records.health.check()] if place.sqlite else []),  # on Postgres only those tables are locked
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [errors.DatabaseBusy] * len(outcomes)
        assert loop.time() - began < 3.0
        assert (await records.jobs.get(OWNER, running.id)) == claim.job  # reading waits for no writer
    assert await records.uploads.find(OWNER, upload.session_id) == upload
    assert await records.leases.renew(claim) is True
    assert (await records.uploads.complete(new_job(2))).state is JobState.QUEUED
    assert await records.leases.commit(claim, 3.0, result={"text": "x"}) is True
    assert await records.outbox.take(5) == [Hint(job, 0) for job in (running.id, waiting.id, new_job(2).id)]
    await records.health.check()
    await records.close()


async def test_health_tells_within_its_second(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    records = await open_records(path, busy_s=5.0)
    loop = asyncio.get_running_loop()
    with locked_by_another_process(path, "IMMEDIATE"):
        patient = asyncio.ensure_future(submit(records, 1))
        await asyncio.sleep(0.05)
        began = loop.time()
        with pytest.raises(errors.DatabaseBusy):
            await records.health.check()
        assert loop.time() - began < 2.5
        assert not patient.done()
    assert (await patient).state is JobState.QUEUED
    await records.close()
