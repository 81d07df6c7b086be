"""The rows: uploads, jobs, leases, events. SQL is the truth; the queue is only a wake-up.

Every method is one transaction. A method that cannot reach the database, or finds it locked for longer than its bounded
retries, raises DatabaseBusy and has changed nothing. Seconds since the epoch are passed in as `now`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cosygate.model.job import Claim, Job, JobEvent, JobState, NewJob, Requeue
from cosygate.model.upload import Upload, UploadState


class UploadRecords(Protocol):
    async def open(self, upload: Upload, *, max_open: int) -> Upload:
        """Writes `upload`, or returns the one that the owner's session_id is bound to already, whatever its state.
        Raises TooManyUploads when the owner has `max_open` open ones (counted in the same transaction)."""

    async def find(self, owner: str, session_id: str) -> Upload | None:
        """The upload that the owner's session_id is bound to: open (perhaps given up) or complete."""

    async def complete(self, job: NewJob) -> Job:
        """In one transaction: the upload becomes complete, its job queued with a first `progress` event and an
        outbox row. Repeating it, from anywhere, returns the job that exists (UNIQUE(upload_id)). Raises
        UploadClosed when the upload is given up, aborted or expired, UploadNotFound when its row is gone."""

    async def give_up(self, upload_id: str) -> bool:
        """An open upload cannot complete any more, but keeps its session_id until it is closed; meanwhile it is stale.
        Repeating it is fine. False when it is not open."""

    async def close(self, upload_id: str, state: UploadState) -> bool:
        """An open upload becomes aborted or expired, and its session_id free; False when it was not open."""

    async def stale(self, now: float, limit: int) -> list[Upload]:
        """Open uploads that are given up, or whose expires_at has passed, oldest first."""

    async def any_open(self, owner: str) -> bool:
        """Whether the owner has an upload that is open."""

    async def known(self, upload_ids: Sequence[str]) -> set[str]:
        """Those of at most 200 ids that are open or complete: the bytes of all others are nobody's."""


class JobRecords(Protocol):
    async def get(self, owner: str | None, job_id: str) -> Job | None:
        """None when there is none or it is another owner's. `owner=None` is for the system itself."""

    async def page(self, owner: str, *, state: JobState | None, before: str | None, limit: int) -> list[Job]:
        """Newest first, those before the job id `before`."""

    async def cancel(self, owner: str, job_id: str, now: float) -> Job | None:
        """A queued or running job becomes cancelled (with its event) under the same row lock that fences writes: a
        worker's later commit finds zero rows. Its session_id is free again. Returns the job as it is afterwards;
        finished ones are unchanged."""

    async def delete(self, job_id: str) -> Job | None:
        """Removes the job with its events, outbox rows and upload row (the session_id is free). Only terminal jobs:
        others are left alone, and None is returned. The caller erases the bytes."""

    async def finished_before(self, cutoff: float, limit: int) -> list[Job]:
        """Terminal jobs with finished_at < cutoff, oldest first: what retention erases."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One running claim as the reaper sees it."""

    job_id: str
    fence: int
    beat: int


class Leases(Protocol):
    """reliability.md, "Job leasing". No method looks at a clock to decide who holds a claim."""

    async def claim(self, claimant: str, now: float, *, priorities: tuple[int, int] | None = None) -> Claim | None:
        """The first claimable job: fence + 1, beat = 0, state running. One caller gets it. Of the lowest priority that
        has any, tenants take turns (model/turns.py); within a tenant the oldest. `priorities`: only jobs whose priority
        lies between these two, both included (None: any); turns of other priorities are left as they are. None: there
        is nothing to claim, and nothing was written for it."""

    async def renew(self, claim: Claim) -> bool:
        """beat + 1 WHERE id AND fence AND running. False: the lease is lost, stop at once."""

    async def commit(
        self,
        claim: Claim,
        now: float,
        *,
        result: dict[str, Any] | None,
        error: tuple[str, str] | None = None,
        segments: Sequence[tuple[str, dict[str, Any]]] = (),
        after: int | None = None,
    ) -> bool:
        """WHERE id AND fence AND running: succeeded with `result` (and result_fence = fence), or failed with
        `error` (code, detail); together with its event. Success first tells the last `segments` (`after`: as in
        Events.append), and corrects its tenant's turn by `result["duration"]`, where that is told. What is
        repeated by the same claim (its answer was lost) changes nothing and is true again. False: not ours any more,
        nothing changed."""

    async def requeue(
        self,
        job_id: str,
        fence: int,
        why: Requeue,
        now: float,
        *,
        delay_s: float = 0.0,
        error: tuple[str, str] = ("lost_too_often", ""),
        beat: int | None = None,
    ) -> JobState | None:
        """WHERE id AND fence AND running (AND beat, when given): back to queued, claimable after `delay_s`; attempts
        and losses counted as `why` says; unless that is RECORDING, its tenant's turn is given back, too. At
        MAX_ATTEMPTS the job fails with `error`, at MAX_LOST with lost_too_often. A wall clock that jumps back delays a
        job by at most MAX_DELAY_S. Returns the state after, None: zero rows."""

    async def running(self, claimant: str | None = None) -> list[Beat]:
        """Every running claim (the reaper watches beats), or those of one claimant (restart recovery)."""


MAX_DELAY_S = 60.0  # no requeue asks for more; a `not_before` further ahead than this is a jumped clock, and ignored


class Events(Protocol):
    async def append(
        self,
        claim: Claim,
        new: Sequence[tuple[str, dict[str, Any]]],
        percent: int | None,
        *,
        after: int | None = None,
    ) -> bool:
        """Events (kind, data) under the claim's fence, in order, and the job's percent, told as a last `progress` event
        (earlier ones of the job are dropped). `after`: after an append whose answer was lost, how many segments of this
        claim had been told for certain before it; those of `new` that it told all the same are not told twice. False:
        the lease is lost."""

    async def read(self, job_id: str, after: int, limit: int) -> list[JobEvent]:
        """Events with seq > after, in order. Reading from 0 gives the whole story of the current claim: when a job is
        claimed again, its earlier segment events are replaced by a `restarted` event."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A job that somebody is to be told of."""

    job_id: str
    priority: int


class Outbox(Protocol):
    async def take(self, limit: int) -> list[Hint]:
        """Jobs whose hint has not been sent, removed in the same transaction. A hint lost afterwards is found by
        the runner's own look at the table."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One tenant's queued jobs."""

    jobs: int
    seconds: float  # of audio, as far as their heads tell (model/cost.py)


@dataclass(frozen=True, slots=True)
class Depth:
    """What is queued at one moment."""

    tenants: Mapping[str, Waiting]
    oldest_at: float | None  # created_at of the oldest job; None when nothing waits

    @property
    def jobs(self) -> int:
        return sum(waiting.jobs for waiting in self.tenants.values())

    @property
    def seconds(self) -> float:
        return sum(waiting.seconds for waiting in self.tenants.values())

    def heaviest(self, limit: int) -> list[tuple[str, Waiting]]:
        """Those tenants with most audio waiting, most first."""
        return heapq.nlargest(limit, self.tenants.items(), key=lambda entry: entry[1].seconds)


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended, however it did."""

    at: float  # seconds since the epoch
    seconds: float  # of audio, as it counted while it waited; 0 when nobody had begun it


class QueueDepth(Protocol):
    async def waiting(self) -> Depth:
        """Every queued job, also those that wait out a delay. Reads an index alone: 10,000 jobs take milliseconds.
        Sees every commit that had returned when it was called."""

    async def ended(self, since: float, most: int) -> Sequence[Ended]:
        """The `most` jobs that ended last, none before `since`, the last one first. Reads no more than those."""


class RecordsHealth(Protocol):
    async def check(self) -> None:
        """Raises DatabaseBusy when a write transaction cannot be had within a second."""

    async def counts(self) -> dict[str, int]:
        """state → jobs, for metrics."""
