"""The end of a session: its sound becomes a recording, its finals a transcript, and both a task like any other.

Every step may be repeated, also by another process after a crash: parts and marks are the same bytes, the transcript is
written under the epoch as its fence, and one transaction makes it all visible. Whoever is late finds zero rows.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cosygate import errors
from cosygate.flows.live.keeping import Keeper
from cosygate.flows.live.session import Session
from cosygate.kit import metrics
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.audio import PCM_RATE, Container
from cosygate.model.job import JobState, NewJob
from cosygate.model.live import LiveFormat
from cosygate.model.transcript import (
    Transcript,
    common_language,
    join_texts,
    segment_from_dict,
    task_result,
    transcript_bytes,
)
from cosygate.ports.blobs import ResultStore
from cosygate.ports.journal import Journal
from cosygate.ports.live import LiveKeeping, LiveSessions

_log = logger()
_FINALS_A_READ = 500
_WATCHED_S = 0.5  # in which watchers take the last passing events from the journal
_NOT_OF_A_SEGMENT = frozenset({"type", "start_sample", "end_sample"})


class Finishing:
    def __init__(
        self,
        sessions: LiveSessions,
        keeping: LiveKeeping,
        keeper: Keeper,
        journal: Journal,
        results: ResultStore,
        clock: Clock,
    ) -> None:
        self._sessions = sessions
        self._keeping = keeping
        self._keeper = keeper
        self._journal = journal
        self._results = results
        self._clock = clock

    async def finish(self, session: Session) -> None:
        """Everything is decided. Raises TakenOver, StorageFull, Unavailable; repeating it is fine."""
        row, timeline = session.row, session.timeline
        try:
            await session.writer.append()  # what ended it is durable: nobody can go on from before it
        except errors.CosyGateError as error:
            session.lost(error)  # and its writer is broken: whoever claims it next sees to its end
            raise
        end = timeline.received * session.unit
        await session.sound.advance(end)
        await self._keeper.keep(session, all_of_it=True)
        webm = row.format is LiveFormat.WEBM_OPUS
        options = row.options
        size = await session.sound.finish(end, row.rate, options)
        async with session.keeping:
            # All of it is safe now; and whoever asks later how much it was finds it there.
            mark = replace(session.stored_mark, safe=timeline.received)
            if not await self._sessions.keep(session.id, row.epoch, [], mark):
                raise errors.TakenOver()
        seconds = max(session.decoded, timeline.last_end) / PCM_RATE if webm else timeline.received / row.rate
        transcript = await self._transcript(session, seconds)
        data = await asyncio.to_thread(transcript_bytes, transcript)
        await self._results.put(session.id, row.epoch, data)
        job = NewJob(
            id=session.id,
            upload_id=session.id,
            owner=row.owner,
            session_id=f"live-{session.id}",
            options=options,
            container=Container.MATROSKA if webm else Container.WAV,
            size=size,
            created_at=row.created_at,
            trace_id=row.trace_id,
            span_id=row.span_id,
            callback_url=session.options.callback_url,
        )
        result = task_result(transcript, session.options.filename)
        if not await self._sessions.finish(session.id, row.epoch, job, result, self._clock.now()):
            await self._results.erase(session.id, row.epoch)
            raise errors.TakenOver()
        metrics.tasks.labels(JobState.SUCCEEDED).inc()
        metrics.audio_seconds.labels("live").inc(seconds)
        _log.info("live.finished", session=session.id, finals=timeline.finals, audio_s=round(seconds, 3))
        done = {"type": "done", "task_id": session.id, "finals": timeline.finals, "samples": timeline.received}
        session.tell(done)
        session.leave(None)

    async def clear(self, session: Session) -> None:
        """Erases the journal of a finished session, once watchers have had time to take its last events; when the
        process ends, at once."""
        try:
            await self._clock.sleep(_WATCHED_S)
        finally:
            await session.writer.close()
            await self._journal.drop(session.id)

    async def _transcript(self, session: Session, seconds: float) -> Transcript:
        segments = []
        after = -1
        while page := await self._keeping.finals(session.id, after, _FINALS_A_READ):
            segments += [segment_from_dict({k: v for k, v in f.items() if k not in _NOT_OF_A_SEGMENT}) for f in page]
            after = segments[-1].id
        return Transcript(
            task_id=session.id,
            duration=seconds,
            language=common_language(segments),
            text=join_texts(s.text for s in segments),
            segments=tuple(segments),
            engine=session.engine_name,
            timings={"total": max(0.0, self._clock.now() - session.row.created_at)},
        )
