"""What ports/records.py promises about leasing, in plain Python: the state machine compares the tables with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cosygate.errors import LostTooOften
from cosygate.model.job import MAX_ATTEMPTS, MAX_LOST, Claim, Job, JobState, Requeue
from cosygate.ports.records import MAX_DELAY_S, Beat
from tests.support.records import OWNER


@dataclass
class ModelJob:
    """What the port promises of one job, and nothing about how."""

    id: str
    priority: int
    created_at: float
    owner: str = OWNER
    cost_s: float = 1.0
    state: JobState = JobState.QUEUED
    fence: int = 0
    beat: int = 0
    claimant: str = ""
    attempt: int = 0
    lost: int = 0
    not_before: float | None = None
    percent: int = 0
    result: dict[str, Any] | None = None
    error: tuple[str, str] | None = None
    story: list[tuple[str, dict[str, Any]]] = field(default_factory=lambda: [("progress", {"percent": 0})])
    commits: int = 0  # writes that were told they are the visible one

    def end(self, state: JobState, event: str, data: dict[str, Any]) -> None:
        self.state, self.claimant, self.not_before = state, "", None
        self.story.append((event, data))

    def tell(self, told: list[tuple[str, dict[str, Any]]], percent: int | None) -> None:
        self.story += told
        if percent is not None:
            self.percent = percent
            self.story = [event for event in self.story if event[0] != "progress"]
            self.story.append(("progress", {"percent": percent}))

    def succeed(self, result: dict[str, Any]) -> None:
        self.result, self.percent = result, 100
        self.commits += 1
        self.end(JobState.SUCCEEDED, "done", {"state": "succeeded", "percent": 100})

    def fail(self, error: tuple[str, str]) -> None:
        self.error = error
        self.end(JobState.FAILED, "failed", {"code": error[0], "detail": error[1]})

    def visible(self) -> tuple[object, ...]:
        fence = self.fence if self.state is JobState.SUCCEEDED else None
        code, detail = self.error or (None, None)
        return (self.state, self.fence, self.attempt, self.percent, self.result, fence, code, detail)


def visible(job: Job) -> tuple[object, ...]:
    ended = (job.result, job.result_fence, job.error_code, job.error_detail)
    return (job.state, job.fence, job.attempt, job.percent, *ended)


@dataclass
class Line:
    """The turns of one priority. Tenants whose last job is over on its clock are forgotten."""

    clock: float = 0.0
    ends: dict[str, float] = field(default_factory=dict)


@dataclass
class LeasingModel:
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    lines: dict[int, Line] = field(default_factory=dict)  # by priority

    def held(self, claim: Claim | Beat) -> ModelJob | None:
        """The job of a claim that still holds."""
        job = self.jobs.get(claim.job_id)
        return job if job and job.state is JobState.RUNNING and job.fence == claim.fence else None

    def succeeded(self, claim: Claim) -> bool:
        """By this very claim."""
        job = self.jobs.get(claim.job_id)
        return job is not None and job.state is JobState.SUCCEEDED and job.fence == claim.fence

    def failed(self, claim: Claim, code: str) -> bool:
        """By this very claim."""
        job = self.jobs.get(claim.job_id)
        if job is None or job.error is None:
            return False
        return job.state is JobState.FAILED and job.fence == claim.fence and job.error[0] == code

    def claim(self, worker: str, now: float) -> ModelJob | None:
        """By priority, then whose tenant's turn it is, then age. Once a delay is over it stays over; one that no
        requeue could ask for is over too."""
        for job in self.jobs.values():
            if job.not_before is not None and not now < job.not_before <= now + MAX_DELAY_S:
                job.not_before = None
        ready = [job for job in self.jobs.values() if job.state is JobState.QUEUED and job.not_before is None]
        level = min((job.priority for job in ready), default=None)
        self.lines = {other: line for other, line in self.lines.items() if level is not None and other >= level}
        if level is None:
            return None
        first = self.first_of([job for job in ready if job.priority == level], level)
        first.state, first.claimant = JobState.RUNNING, worker
        first.fence, first.beat, first.percent = first.fence + 1, 0, 0
        if first.fence > 1:
            first.story = [("restarted", {})]
        return first

    def first_of(self, ready: list[ModelJob], level: int) -> ModelJob:
        """Turns as start-time fair queueing has them: every job starts when its tenant's last one would be over, on a
        clock that shows the start of the job that was served last; the one that starts first is next."""
        heads: dict[str, ModelJob] = {}
        for job in sorted(ready, key=lambda job: job.created_at):
            heads.setdefault(job.owner, job)
        line = self.lines.setdefault(level, Line())
        starts = {owner: max(line.clock, line.ends.get(owner, 0.0)) for owner in heads}
        first = min(heads.values(), key=lambda job: (starts[job.owner], job.created_at))
        line.clock = starts[first.owner]
        line.ends = {owner: end for owner, end in line.ends.items() if end > line.clock}
        if len(heads) > 1 or line.ends or sum(job.owner == first.owner for job in ready) > 1:
            line.ends[first.owner] = line.clock + first.cost_s
        return first

    def requeue(
        self, claim: Claim | Beat, why: Requeue, now: float, error: tuple[str, str], delay_s: float = 0.0
    ) -> JobState | None:
        """`claim` as a Beat: only if it stood still."""
        job = self.held(claim)
        if job is None or (isinstance(claim, Beat) and claim.beat != job.beat):
            return None
        job.attempt += why is Requeue.RECORDING
        job.lost += why is Requeue.LOST
        if job.attempt >= MAX_ATTEMPTS:
            job.fail(error)
        elif job.lost >= MAX_LOST:
            job.fail((LostTooOften.code, LostTooOften.title))
        else:
            job.state, job.claimant, job.percent = JobState.QUEUED, "", 0
            job.not_before = now + min(delay_s, MAX_DELAY_S) if delay_s else None
            if why is not Requeue.RECORDING:
                self.owe_more(job, -job.cost_s)
        return job.state

    def owe_more(self, job: ModelJob, seconds: float) -> None:
        """The job's tenant has had so much more than it was charged for, or less. Who owes nothing, and has had too
        much, owes it only if others wait."""
        line = self.lines.setdefault(job.priority, Line())
        others = any(
            other.state is JobState.QUEUED
            and other.not_before is None
            and (other.priority, other.owner != job.owner) == (job.priority, True)
            for other in self.jobs.values()
        )
        if job.owner in line.ends or (others and seconds > 0):
            line.ends[job.owner] = line.ends.get(job.owner, line.clock) + seconds
        if line.ends.get(job.owner, 0.0) <= line.clock:
            line.ends.pop(job.owner, None)
