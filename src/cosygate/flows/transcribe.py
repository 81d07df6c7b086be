"""Chapter two: a claimed job becomes a transcript, or says why not.

    claim → open the recording → decode → stream to an engine → store under job/fence → commit under the fence

Every write carries the claim's fence. While the work runs the claim is renewed; a renewal that finds the lease lost
stops the work at once. Whoever is stopped in between leaves nothing that anybody could see. Where the database or the
store is away for a moment, what is done already is kept, and written when they are back.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from cosygate import errors
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.recognition import LeaseLost, Recognition, Story
from cosygate.flows.retrying import Retrying
from cosygate.kit import metrics, tracing
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import bound, logger
from cosygate.model.audio import AudioLimits
from cosygate.model.job import Claim, JobState, Requeue
from cosygate.model.options import TranscribeOptions
from cosygate.model.transcript import Transcript, task_result, transcript_bytes
from cosygate.ports.blobs import PartStore, RecordingFiles, ResultStore
from cosygate.ports.decoder import Decoder
from cosygate.ports.records import MAX_DELAY_S, Events, Leases

_log = logger()
_PATIENCE_S = 60.0  # how long finished work is kept while it cannot be written: a restart or a failover takes less
T = TypeVar("T")


class Transcribe:
    def __init__(
        self,
        *,
        leases: Leases,
        events: Events,
        parts: PartStore,
        files: RecordingFiles,
        results: ResultStore,
        decoder: Decoder,
        engines: EngineRoom,
        clock: Clock,
        randomness: Randomness,
        audio_limits: AudioLimits,
        renew_s: float,
        engine_idle_s: float,
        gateways: int = 1,
    ) -> None:
        """`gateways`: how many processes share the machine's reserve of repeated calls."""
        self._leases = leases
        self._events = events
        self._parts = parts
        self._files = files
        self._results = results
        self._decoder = decoder
        self._engines = engines
        self._clock = clock
        self._randomness = randomness
        self._audio_limits = audio_limits
        self._renew_s = renew_s
        self._engine_idle_s = engine_idle_s
        self._backoff = Backoff(first_s=0.5, longest_s=MAX_DELAY_S / 2)
        self._insisting = Backoff(first_s=0.2, longest_s=5.0)
        self._committing: set[tuple[str, int]] = set()
        self._handed_back: OrderedDict[str, int] = OrderedDict()
        self._retrying = Retrying(clock, gateways)

    async def claim(self, claimant: str, priorities: tuple[int, int] | None = None) -> Claim | None:
        """The next job, if there is one for the taking. Raises DatabaseBusy."""
        return await self._leases.claim(claimant, self._clock.now(), priorities=priorities)

    async def hand_back(self, claim: Claim) -> None:
        """One that is not to be run here after all; somebody else may, at once."""
        with bound(task_id=claim.job_id, fence=claim.fence):
            await self._give_back(claim, Requeue.HAND_BACK, 0.0, errors.Draining())

    async def run(self, claim: Claim) -> None:
        """Sees a claimed job through: whatever happens it ends up finished, queued again, or in somebody else's hands.
        Cancelling it hands the job back."""
        tenant, _, user_id = claim.job.owner.partition("/")
        who = {"trace_id": claim.job.trace_id, "user_id": user_id, "tenant": tenant}
        span = tracing.continued("task.run", tracing.Kind.CONSUMER, claim.job.trace_id, claim.job.span_id)
        with bound(**who, task_id=claim.job_id, fence=claim.fence), span:
            span.set({"cosygate.task_id": claim.job_id, "cosygate.attempt": claim.job.attempt})
            work = asyncio.create_task(self._work(claim))
            renewal = asyncio.create_task(self._renew(claim, work))
            try:
                await self._through(claim, work)
            except asyncio.CancelledError:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                if renewal.done():
                    _lost()  # its new holder, or its owner's cancel, decides
                    return
                await self._give_back(claim, Requeue.HAND_BACK, 0.0, errors.Draining())
                raise
            finally:
                renewal.cancel()
                await asyncio.gather(renewal, return_exceptions=True)

    async def _through(self, claim: Claim, work: asyncio.Task[None]) -> None:
        try:
            await work
        except LeaseLost:
            _lost()
        except Exception as error:
            await self._settle(claim, error)

    async def _renew(self, claim: Claim, work: asyncio.Task[None]) -> None:
        """Ends only when the lease is lost, having stopped the work."""
        while True:
            await self._clock.sleep(self._renew_s)
            try:
                held = await self._leases.renew(claim)
            except errors.Unavailable:  # busy, or its disk is full
                continue  # the reaper waits for three renewals
            if not held and (claim.job_id, claim.fence) not in self._committing:
                work.cancel()
                return

    async def _work(self, claim: Claim) -> None:
        started = self._clock.monotonic()
        options = TranscribeOptions.from_json(claim.job.options)
        _log.info("task.started", size=claim.job.size, attempt=claim.job.attempt)
        story = Story(self._events, claim, self._clock)
        listing = await self._parts.list(claim.job.upload_id)
        if not listing.complete:
            raise errors.AudioGone()
        recognition = Recognition(
            self._decoder, options, claim.job, self._audio_limits, story, self._clock, self._engine_idle_s
        )
        with self._retrying.attempt(claim.job) as attempt:
            fd = await self._files.open(claim.job.upload_id, listing)
            try:
                async with self._engines.borrow(options, suspect=claim.job.attempt > 0) as attempt.lent:
                    transcript = await recognition.run(fd, attempt.lent)
            finally:
                await asyncio.to_thread(os.close, fd)  # the last one of a large unnamed copy: its blocks are freed now
        total = self._clock.monotonic() - started
        transcript = replace(transcript, timings={**transcript.timings, "total": total})
        await self._finish(claim, options, transcript, story)

    async def _finish(self, claim: Claim, options: TranscribeOptions, transcript: Transcript, story: Story) -> None:
        data = await asyncio.to_thread(transcript_bytes, transcript)  # twelve hours of speech take a while
        await self._insist(lambda: self._results.put(claim.job_id, claim.fence, data))
        result = task_result(transcript, options.filename)
        now = self._clock.now()
        rest, after = story.waiting, story.after
        self._committing.add((claim.job_id, claim.fence))  # what has happened already is not lost
        try:
            done = await self._insist(
                lambda: self._leases.commit(claim, now, result=result, segments=rest, after=after)
            )
        finally:
            self._committing.discard((claim.job_id, claim.fence))
        if done:
            self._handed_back.pop(claim.job_id, None)
            tracing.current().set({"cosygate.audio_s": round(transcript.duration, 3)})
            self._finished(claim, JobState.SUCCEEDED, now)
            metrics.audio_seconds.labels("file").inc(transcript.duration)
        else:
            await self._results.erase(claim.job_id, claim.fence)
            _log.warning("task.result_refused")

    async def _insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Tries again, for a while: whoever cannot write for a moment throws no work away. (A renewal that finds the
        lease lost cancels it.) Raises what `write` raises at last."""
        until = self._clock.monotonic() + _PATIENCE_S
        for number in itertools.count():
            try:
                return await write()
            except errors.Unavailable as error:
                pause_s = self._insisting.delay(number, self._randomness)
                if self._clock.monotonic() + pause_s > until:
                    raise
                _log.warning("task.written_later", code=error.code)
            await self._clock.sleep(pause_s)
        raise AssertionError("it returns or raises")

    def _finished(self, claim: Claim, state: JobState, now: float, **fields: object) -> None:
        metrics.tasks.labels(state).inc()
        if state is JobState.FAILED:
            metrics.task_failures.labels(fields.get("code")).inc()
        tracing.current().set({"cosygate.state": state.value})
        metrics.task_duration.observe(max(0.0, now - claim.job.created_at))
        _log.info("task.finished", state=state, cost_ms=round((now - claim.job.created_at) * 1000), **fields)

    async def _settle(self, claim: Claim, error: Exception) -> None:
        """What an error costs the job (reliability.md, "Job leasing" 7)."""
        now = self._clock.now()
        known = error if isinstance(error, errors.CosyGateError) else errors.CosyGateError()
        tracing.current().failed(known.code)
        if isinstance(known, errors.Unavailable):
            wait_s = known.extra.get("retry_after", 0) if isinstance(known, errors.BreakerOpen) else 0
            await self._give_back(claim, Requeue.HAND_BACK, max(wait_s, self._pause(claim.job_id)), known)
        elif known is error and not getattr(error, "counts", False):
            # Known, and the same however often it is tried.
            why = known.code, known.detail
            if await self._insist(lambda: self._leases.commit(claim, now, result=None, error=why)):
                self._finished(claim, JobState.FAILED, now, code=known.code)
        else:
            if known is not error:
                _log.error("task.crashed", exc_info=error)
            await self._give_back(
                claim, Requeue.RECORDING, self._backoff.delay(claim.job.attempt, self._randomness), known
            )

    async def _give_back(self, claim: Claim, why: Requeue, delay_s: float, error: errors.CosyGateError) -> None:
        now = self._clock.now()
        try:
            state = await self._leases.requeue(
                claim.job_id, claim.fence, why, now, delay_s=delay_s, error=(error.code, error.detail)
            )
        except errors.Unavailable:
            _log.warning("task.give_back_failed")  # the reaper will find it
            return
        if state is JobState.FAILED:
            self._finished(claim, JobState.FAILED, now, code=error.code)
        elif state is JobState.QUEUED:
            _log.info("task.requeued", why=why, code=error.code, delay_ms=round(delay_s * 1000))

    def _pause(self, job_id: str) -> float:
        """Seconds to wait after the n-th hand-back that this process made of a job in a row."""
        count = self._handed_back.pop(job_id, 0)
        self._handed_back[job_id] = count + 1
        if len(self._handed_back) > 10_000:
            self._handed_back.popitem(last=False)
        return self._backoff.delay(count, self._randomness)


def _lost() -> None:
    _log.warning("task.lease_lost")
    tracing.current().failed("lease_lost")
