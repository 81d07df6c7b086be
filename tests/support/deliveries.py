"""Jobs that have ended, and wanted somebody to be told: rows for the tests of webhooks."""

from __future__ import annotations

from dataclasses import replace

from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.job import Job, JobState
from tests.support.records import new_job, new_upload

RESULT = {"text": "hello", "duration": 1.0, "language": "en", "segments": []}


async def ended(
    records: SqlRecords,
    number: int,
    *,
    now: float,
    url: str | None,
    owner: str = "acme/ann",
    state: JobState = JobState.SUCCEEDED,
) -> Job:
    """Job `number` of `owner` as it is once it has become `state`. No other job waits."""
    await records.uploads.open(new_upload(number, owner=owner), max_open=1_000_000)
    fresh = replace(new_job(number, owner=owner), callback_url=url)
    await records.uploads.complete(fresh)
    if state is JobState.CANCELLED:
        await records.jobs.cancel(owner, fresh.id, now)
    else:
        claim = await records.leases.claim("worker", now)
        assert claim is not None and claim.job_id == fresh.id
        if state is not JobState.RUNNING:
            error = ("engine_failed", "it broke") if state is JobState.FAILED else None
            assert await records.leases.commit(claim, now, result=None if error else RESULT, error=error)
    found = await records.jobs.get(owner, fresh.id)
    assert found is not None and found.state is state
    return found
