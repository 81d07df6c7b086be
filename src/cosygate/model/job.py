"""A job (in the API: a task): one request to transcribe one recording, its states, and who may change them.

             claim                commit
queued ───────────────► running ─────────► succeeded
  ▲  │                  │ │  └──────────► failed      (the recording's fault, or tried too often)
  │  │    requeue       │ │
  │  └── cancel ──┐     │ └── cancel ───► cancelled
  └───────────────┼─────┘                     ▲
                  └───────────────────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MAX_ATTEMPTS = 3  # failures that the recording caused
MAX_LOST = 20  # leases lost for any reason


class JobState(StrEnum):
    QUEUED = "queued"  # waiting for a claim
    RUNNING = "running"  # claimed: somebody holds the lease
    SUCCEEDED = "succeeded"  # its transcript is stored
    FAILED = "failed"  # it has no transcript and will not get one
    CANCELLED = "cancelled"  # its owner gave it up


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

# The only state changes there are. Every write names the state it leaves.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class NewJob:
    """What submitting writes."""

    id: str
    upload_id: str
    owner: str
    session_id: str
    options: str  # JSON of TranscribeOptions
    container: str  # what sniffing said
    size: int  # bytes of the recording
    created_at: float  # seconds since the epoch
    trace_id: str  # 32 lower-case hex, continued by the job
    priority: int = 0  # lower first
    cost_s: float = 0.0  # seconds of audio, as far as its head tells (model/cost.py): what the queue is bounded in
    callback_url: str | None = None  # who is told when it has ended
    span_id: str = ""  # 16 lower-case hex: the span that the job's continue; empty when nothing is traced


@dataclass(frozen=True, slots=True)
class Job:
    """One row as readers see it."""

    id: str
    upload_id: str
    owner: str
    session_id: str
    options: str
    container: str
    size: int
    created_at: float
    trace_id: str
    priority: int
    state: JobState
    fence: int  # the number of the latest claim
    attempt: int  # failures that the recording caused, so far
    percent: int  # 0-100
    started_at: float | None = None
    finished_at: float | None = None
    result: dict[str, Any] | None = None  # {text, duration, language, segments} once succeeded
    result_fence: int | None = None  # the claim whose result is visible
    error_code: str | None = None
    error_detail: str | None = None
    cost_s: float = 0.0  # as in NewJob, like the two below
    callback_url: str | None = None
    span_id: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a job, until the lease is lost. Every write under it carries the fence."""

    job: Job  # as of the claim: job.fence is this claim's fence

    @property
    def job_id(self) -> str:
        return self.job.id

    @property
    def fence(self) -> int:
        return self.job.fence


class Requeue(StrEnum):
    """Why a claim goes back, which decides what it costs."""

    HAND_BACK = "hand_back"  # the worker stops, or the engine had no room: costs nothing
    RECORDING = "recording"  # the recording killed or failed the decoder or engine: costs an attempt
    LOST = "lost"  # the lease stood still: costs one of MAX_LOST


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One line of a job's story. `seq` rises over all events of a job and is what Last-Event-ID names."""

    seq: int
    kind: str  # progress | segment | restarted | done | failed | cancelled
    data: dict[str, Any]
