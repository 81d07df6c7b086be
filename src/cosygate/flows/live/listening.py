"""Keeps an engine at a session's sound, from the last restart point to the end, however many engines that takes.

What an engine said is lasting once it is in the journal; when one dies, the next hears everything since the last
restart point again, at most twice as fast as it was spoken, and says the same words.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from cosygate import errors
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.live.session import Session
from cosygate.flows.live.webm import decoded
from cosygate.kit import metrics, tracing
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import logger
from cosygate.kit.pcm import warm_up_samples
from cosygate.model.audio import PCM_RATE
from cosygate.ports.decoder import StreamDecoder
from cosygate.ports.engine import (
    Accepted,
    Decided,
    Done,
    FinalFound,
    Finalize,
    ListenConfig,
    ListenEvent,
    ModelInfo,
    PartialFound,
    SpeechEnded,
    SpeechStarted,
)

_log = logger()
_REPLAY_SPEED = 2.0  # times real time: engines have others to listen to
_REPLAY_START_S = 0.5  # of audio that a replay may send at once
_DECODER_FAILURES_MAX = 3  # in a row
_MUTED_S = 3600.0  # of a call's deadline: people fall silent; an engine lets go of who does for so long


class Listening:
    def __init__(
        self,
        session: Session,
        engines: EngineRoom,
        decoder: StreamDecoder,
        clock: Clock,
        randomness: Randomness,
        *,
        engine_idle_s: float,
        gather_s: Callable[[], float],
        longest_s: float = 12 * 3600.0,
        unheard_tries: int = 10,
        unheard_s: float = 20.0,
    ) -> None:
        """`gather_s`: how much sound, in seconds, is sent to the engine at once, at this moment; `longest_s`: of a
        session's sound. When so many calls in a row (`unheard_tries`) died at one restart point, what comes after it is
        what kills them; for so long at least (`unheard_s`), because an engine in trouble fails everybody for a while.
        """
        self._session = session
        self._engines = engines
        self._decoder = decoder
        self._clock = clock
        self._randomness = randomness
        self._idle_s = engine_idle_s
        self._gather_s = gather_s
        self._longest_s = longest_s
        self._unheard_tries = unheard_tries
        self._unheard_s = unheard_s
        self._backoff = Backoff(first_s=0.1, longest_s=3.0)
        self.accepted = asyncio.Event()  # an engine has taken the session once
        self._reached = 0  # sample up to which the present call was fed
        self._all_heard = False  # of a format that counts bytes: the engine has heard them to their end

    async def run(self) -> None:
        """Returns when everything up to the end is decided. Raises EngineRefused, RecordingFailed errors of the
        decoder, TakenOver and what else the journal raises."""
        await self._spoken_to()
        failures, failed_at, waits, since = 0, -1, 0, 0.0
        while not self._over():
            at = self._session.timeline.restart
            if (behind := self._session.timeline.gap_at_restart()) is not None:
                self._session.decided(behind)
                continue
            try:
                await self._call(at, suspect=failures > 0 and at == failed_at)
                failures = waits = 0
            except (errors.EngineFailed, errors.DecoderDied, errors.DecoderTimeout) as error:
                if at != failed_at or at != self._session.timeline.restart:
                    failures, since = 0, self._clock.monotonic()
                failures, waits = failures + 1, 0  # there was an engine
                failed_at = self._session.timeline.restart
                if not isinstance(error, errors.EngineFailed) and failures >= _DECODER_FAILURES_MAX:
                    raise  # it is always the same bytes that are decoded
                if failures >= self._unheard_tries and self._clock.monotonic() - since >= self._unheard_s:
                    self._pass_over(error)
                    failures = 0
                await self._pause(failures, error)
            except errors.Unavailable as error:
                if self._session.gone.is_set():
                    raise
                waits = waits + 1 if at == self._session.timeline.restart else 1
                await self._pause(waits, error)

    async def _spoken_to(self) -> None:
        """Returns at once, unless the journal was lost: then with the first that its client says after its `finalize`s,
        which it sends again. What is heard before them would be heard without them."""
        session, received = self._session, self._session.timeline.received
        if not received or session.sound.first < received * session.unit:
            return
        while not session.gone.is_set() and session.timeline.received == received and session.timeline.ended is None:
            session.arrived.clear()
            await session.arrived.wait()

    def _over(self) -> bool:
        timeline = self._session.timeline
        if self._session.gone.is_set():
            raise self._session.lost_because or errors.TakenOver()
        if timeline.ended is None:
            return False
        if self._session.row.format.counts_bytes:
            return self._all_heard or timeline.received == 0
        return timeline.restart >= timeline.ended

    async def _pause(self, failures: int, error: errors.CosyGateError) -> None:
        delay = self._backoff.delay(max(0, failures - 1), self._randomness)
        _log.warning("live.engine_away", session=self._session.id, code=error.code, delay_ms=round(delay * 1000))
        await self._clock.sleep(delay)

    def _pass_over(self, error: errors.CosyGateError) -> None:
        """Something in this utterance ends every engine. It is left out, and everybody is told."""
        session = self._session
        restart = session.timeline.restart
        beyond = max(self._reached, restart + 1)
        _log.error("live.unheard", session=session.id, code=error.code, samples=beyond - restart)
        session.passing({"type": "gap", "from": restart, "to": beyond, "code": error.code})
        session.decided(beyond)

    async def _call(self, restart: int, *, suspect: bool) -> None:
        """One engine call, from `restart` to the next gap, or to the end. `suspect`: of the sound behind `restart`,
        because the last call died there."""
        session = self._session
        timeline = session.timeline
        rate = PCM_RATE if session.row.format.counts_bytes else session.row.rate
        first = restart - warm_up_samples(rate, restart, PCM_RATE)
        config = ListenConfig(
            sample_rate=rate,
            first_sample=first,
            restart_sample=restart,
            finals=timeline.finals,
            language=session.options.language,
            hotwords=session.options.hotwords,
            suspect=suspect,
            deadline_s=_MUTED_S + 2 * max(0.0, self._longest_s - restart / rate),
            trace_id=session.row.trace_id,
        )
        self._reached = restart
        if session.row.format.counts_bytes:
            feed = decoded(session, self._decoder, skip=first, reached=self._reach)
        else:
            feed = self._feed(first, restart, rate)
        outcome, began = "cancelled", self._clock.monotonic()
        try:
            async with self._engines.borrow(session.options, live=True, suspect=suspect) as engine:
                with tracing.continued(
                    "engine.call", tracing.Kind.CLIENT, session.row.trace_id, session.row.span_id
                ) as span:
                    config = replace(config, model=engine.model.name, **_features(session, engine.model))
                    events = engine.listen(config, feed, idle_timeout_s=self._idle_s)
                    try:
                        async with aclosing(events):  # type: ignore[type-var]  # the port's iterators are generators
                            async for event in events:
                                await self._take(event, rate, first)
                        span.set({"cosygate.outcome": "ok", "cosygate.engine": session.engine_name.name})
                    finally:
                        span.set({"cosygate.audio_s": _seconds(self._reached - restart, rate)})
            outcome = "ok"
        except errors.CosyGateError as error:
            outcome = error.code
            raise
        finally:
            metrics.engine_calls.labels(session.engine_name.name or "unknown", outcome).inc()
            spent = self._clock.monotonic() - began
            heard_s = _seconds(self._reached - restart, rate)  # of what was not decided, so without the warm-up
            told = {"outcome": outcome, "cost_ms": round(spent * 1000), "audio_s": heard_s}
            _log.info("engine.call", session=session.id, **told)

    def _reach(self, sample: int) -> None:
        self._reached = max(self._reached, sample)

    async def _take(self, event: ListenEvent, rate: int, first: int) -> None:
        session = self._session
        match event:
            case FinalFound(start, end, segment):
                await session.final(start, end, segment)
            case Decided(sample):
                session.decided(sample)
            case PartialFound(start, end, text):
                session.passing(
                    {"type": "partial", "start": _seconds(start, rate), "end": _seconds(end, rate), "text": text}
                )
            case SpeechStarted(sample):
                session.passing({"type": "speech_started", "at": _seconds(sample, rate)})
            case SpeechEnded(sample):
                session.passing({"type": "speech_ended", "at": _seconds(sample, rate)})
            case Accepted():
                self.accepted.set()
            case Done(engine=name, samples=samples):
                session.engine_name = name
                if session.row.format.counts_bytes:
                    session.decoded = first + samples
                    self._all_heard = session.timeline.ended is not None
                    session.decided(session.decoded)
                else:
                    session.decided(self._reached)

    async def _feed(self, first: int, restart: int, rate: int) -> AsyncIterator[bytes | Finalize]:
        """The sound from `first` on, as it comes. Ends at a gap, or at the end."""
        session, timeline, clock = self._session, self._session.timeline, self._clock
        at, passed, replay_to, began = first, restart, timeline.received, clock.monotonic()
        while not session.gone.is_set():
            stop = timeline.next_break(passed)
            if stop is not None and at == stop[0]:
                yield Finalize()
                passed = at
                if stop[1] is not None:
                    return
                continue
            end = timeline.received if stop is None else min(timeline.received, stop[0])
            if at >= end and timeline.ended is not None and at >= timeline.ended:
                return
            wanted = at + max(1, int(self._gather_s() * rate))
            if end < wanted and (stop is None or end < stop[0]) and timeline.ended is None:
                session.wake_at = wanted
                session.arrived.clear()
                await session.arrived.wait()
                continue
            session.reading_to = end  # a mark that comes while we read would be read past
            data = await session.read(2 * at, 2 * end)
            at += len(data) // 2
            self._reached = max(restart, at)
            session.took(at)
            yield data
            if at < replay_to:
                early = (at - first) / rate - _REPLAY_START_S - _REPLAY_SPEED * (clock.monotonic() - began)
                if early > 0:
                    await clock.sleep(early / _REPLAY_SPEED)


def _features(session: Session, model: ModelInfo) -> dict[str, Any]:
    """What of ListenConfig depends on what the model can tell."""
    options, features = session.options, session.options.features(model.can_live)
    if "speakers" not in features:
        return {"features": features}
    counts = {"num_speakers": options.num_speakers, "max_speakers": options.max_speakers}
    return {"features": features, "speakers": session.timeline.speakers, **counts}


def _seconds(sample: int, rate: int) -> float:
    return round(sample / rate, 3)
