"""Chapter three: a task's owner looks at it, follows it, reads its transcript, hears its sound, gives it up."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cosygate import errors
from cosygate.kit import metrics
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.job import TERMINAL, Job, JobEvent, JobState
from cosygate.model.principal import Principal
from cosygate.model.upload import Listing
from cosygate.ports.blobs import DirectAudio, PartStore, ResultStore
from cosygate.ports.records import Events, JobRecords

_log = logger()
_EVENTS_A_READ = 500
_LOOK_EVERY_S = 0.25  # how often a follower looks for news,
_LOOK_SELDOM_S = 1.0  # and how often when there has been none for a while


class Tasks:
    def __init__(
        self,
        *,
        jobs: JobRecords,
        events: Events,
        parts: PartStore,
        results: ResultStore,
        clock: Clock,
        direct: DirectAudio | None = None,
    ) -> None:
        """`direct`: where clients may fetch recordings without us."""
        self._jobs = jobs
        self._events = events
        self._parts = parts
        self._results = results
        self._clock = clock
        self._direct = direct

    async def get(self, caller: Principal, task_id: str) -> Job:
        """Raises TaskNotFound, also for somebody else's: the two cannot be told apart."""
        job = await self._jobs.get(caller.owner, task_id)
        if job is None:
            raise errors.TaskNotFound()
        return job

    async def page(self, caller: Principal, state: JobState | None, before: str | None, limit: int) -> list[Job]:
        return await self._jobs.page(caller.owner, state=state, before=before, limit=limit)

    async def finished(self, caller: Principal, task_id: str) -> Job:
        """One that has a transcript. Raises TaskNotFound, TaskUnfinished (with the state it is in)."""
        job = await self.get(caller, task_id)
        if job.state is not JobState.SUCCEEDED or job.result_fence is None:
            raise errors.TaskUnfinished(f"the task is {job.state}", state=str(job.state))
        return job

    async def stored_transcript(self, job: Job) -> bytes:
        """Of a finished one, as the recogniser told it: JSON, perhaps megabytes. Raises TaskNotFound."""
        assert job.result_fence is not None  # noqa: S101 - for the type checker: `finished` has looked
        data = await self._results.get(job.id, job.result_fence)
        if data is None:
            raise errors.TaskNotFound()  # deleted between the two reads
        return data

    async def audio(self, caller: Principal, task_id: str) -> tuple[Job, Listing]:
        """The stored recording's listing. Raises TaskNotFound, AudioGone."""
        job = await self.get(caller, task_id)
        listing = await self._parts.list(job.upload_id)
        if not listing.complete:
            raise errors.AudioGone()
        return job, listing

    def read_audio(self, job: Job, listing: Listing, start: int, length: int) -> AsyncIterator[bytes]:
        return self._parts.read(job.upload_id, listing, start, length)

    async def audio_elsewhere(self, job: Job, listing: Listing) -> str | None:
        """Where the recording can be fetched from instead of `read_audio`, if it can. A secret."""
        return None if self._direct is None else await self._direct.url(job.upload_id, listing)

    async def follow(self, caller: Principal, task_id: str, after: int) -> AsyncIterator[JobEvent | None]:
        """Events with seq > after as they happen, None when there is no news for a look, until the task's last one.
        A task deleted meanwhile ends the story."""
        job: Job | None = await self.get(caller, task_id)
        look = _LOOK_EVERY_S
        while job is not None:
            ended = job.state in TERMINAL  # read before the events: the last event is among the next ones read
            batch = await self._events.read(task_id, after, _EVENTS_A_READ)
            for event in batch:
                after = event.seq
                yield event
            if ended and len(batch) < _EVENTS_A_READ:
                return
            look = _LOOK_EVERY_S if batch else min(look * 1.5, _LOOK_SELDOM_S)
            if not batch:
                yield None
                await self._clock.sleep(look)
            job = await self._jobs.get(caller.owner, task_id)

    async def delete(self, caller: Principal, task_id: str) -> Job | None:
        """An active task is cancelled and its audio erased: the job is returned, and stays to be seen as cancelled. A
        finished one is erased altogether: None. Raises TaskNotFound."""
        job = await self.get(caller, task_id)
        if job.state not in TERMINAL:
            after = await self._jobs.cancel(caller.owner, task_id, self._clock.now())
            if after is None:
                raise errors.TaskNotFound()
            if after.state is JobState.CANCELLED:
                await self._parts.erase(after.upload_id)
                await self._results.erase(after.id)
                metrics.tasks.labels(JobState.CANCELLED).inc()
                _log.info("task.cancelled", task_id=task_id)
                return after
        # The row last: after a crash in between, the owner's next try, or retention, finds the task and goes on.
        await self._parts.erase(job.upload_id)
        await self._results.erase(task_id)
        await self._jobs.delete(task_id)
        _log.info("task.deleted", task_id=task_id)
        return None
