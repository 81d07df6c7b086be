"""One recording through decoder and engine: PCM in pieces one way, segments and progress the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from cosygate import errors
from cosygate.flows.lent import Lent
from cosygate.kit import metrics, tracing
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.audio import PCM_RATE, AudioLimits, Container, MediaInfo
from cosygate.model.job import Claim, Job
from cosygate.model.options import Channels, TranscribeOptions
from cosygate.model.speakers import with_speakers
from cosygate.model.transcript import (
    LANGUAGE_MISMATCH,
    EngineName,
    Segment,
    Transcript,
    common_language,
    join_texts,
    segment_dict,
)
from cosygate.ports.decoder import Decoder, DecodeRequest
from cosygate.ports.engine import Done, Progress, RecogniseConfig, SegmentFound, SpeakersFound
from cosygate.ports.records import Events

_log = logger()
_SLACK_S = 600.0  # of a call's deadline: a wait for a slot, a cold model, a header that says too little
_SLOWEST = 10.0  # seconds per second of audio: who is slower does not work
_TELL_EVERY_S = 0.5  # how often progress and segments are written


class LeaseLost(Exception):
    """The claim is somebody else's by now; nothing more may be written."""


class Story:
    """The job's events, gathered for a moment so that a fast engine costs few transactions: a full one is written at
    once. While the database is away they are kept (no more than the transcript itself) and told later: the work goes on
    as long as the lease holds."""

    def __init__(self, events: Events, claim: Claim, clock: Clock, longest: int = 64) -> None:
        self._events = events
        self._claim = claim
        self._clock = clock
        self._longest = longest
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._told = 0  # segments, for certain
        self._unsure = False  # the last append's answer was lost: it may have told more
        self._percent = claim.job.percent
        self._told_at = clock.monotonic()

    async def segment(self, segment: Segment, percent: int) -> None:
        self._waiting.append(("segment", segment_dict(segment)))
        await self.progress(percent)

    async def progress(self, percent: int) -> None:
        self._percent = max(self._percent, min(percent, 99))  # 100 is the commit's
        await self._tell_sometimes()

    async def _tell_sometimes(self) -> None:
        full = len(self._waiting) >= self._longest and not self._unsure
        if not full and self._clock.monotonic() - self._told_at < _TELL_EVERY_S:
            return
        try:
            held = await self._events.append(self._claim, self._waiting, self._percent, after=self.after)
        except errors.Unavailable as error:
            self._unsure = True
            _log.warning("task.told_later", code=error.code)
        else:
            if not held:
                raise LeaseLost
            self._told += len(self._waiting)
            self._waiting, self._unsure = [], False
        self._told_at = self._clock.monotonic()

    @property
    def waiting(self) -> list[tuple[str, dict[str, Any]]]:
        """Segments that are not told yet, or perhaps not: see `after`."""
        return self._waiting

    @property
    def after(self) -> int | None:
        """As Events.append has it."""
        return self._told if self._unsure else None


class Recognition:
    def __init__(self, decoder: Decoder, options: TranscribeOptions, job: Job, limits: AudioLimits, story: Story,
                 clock: Clock, engine_idle_s: float) -> None:  # fmt: skip
        self._decoder = decoder
        self._options = options
        self._job = job
        self._limits = limits
        self._story = story
        self._clock = clock
        self._engine_idle_s = engine_idle_s
        self._segments: list[Segment] = []
        self._engine_name = EngineName("", "", "")
        self._foreign = False
        self._seconds = 0.0
        self._timings: dict[str, float] = {}

    async def run(self, fd: int, engine: Lent) -> Transcript:
        """Raises what decoder and engine raise, and LeaseLost."""
        if self._options.channels is Channels.SPLIT:
            channels = await self._pass(fd, engine, channel=0, passes=None)
            for channel in range(1, channels):
                await self._pass(fd, engine, channel=channel, passes=channels)
            self._segments.sort(key=lambda s: (s.start, s.channel or 0))
            self._segments = [replace(s, id=n) for n, s in enumerate(self._segments)]
        else:
            await self._pass(fd, engine, channel=None, passes=1)
        return Transcript(
            task_id=self._job.id,
            duration=self._seconds,
            language=common_language(self._segments),
            text=join_texts(s.text for s in self._segments),
            segments=tuple(self._segments),
            engine=self._engine_name,
            flags=(LANGUAGE_MISMATCH,) if self._foreign else (),
            timings=self._timings,
        )

    async def _pass(self, fd: int, engine: Lent, *, channel: int | None, passes: int | None) -> int:
        """One decoding and one engine call; returns the recording's channels. With channels=split there is one pass a
        channel: the recording is never held, and an engine needs to know nothing of channels."""
        request = DecodeRequest(
            container=Container(self._job.container),
            raw=self._options.audio_format,
            channel=channel,
            limits=self._limits,
        )
        began = self._clock.monotonic()
        async with self._decoder.open(fd, request) as decoding:
            info = decoding.info
            of = passes or info.channels
            fed = _Fed(decoding.pcm())
            features = self._options.features(engine.model.can)
            config = RecogniseConfig(
                language=self._options.language,
                model=engine.model.name,
                features=features,
                hotwords=self._options.hotwords,
                num_speakers=self._options.num_speakers if "speakers" in features else 0,
                max_speakers=self._options.max_speakers if "speakers" in features else 0,
                doubts=channel is None,  # of two channels one may be silence, music or noise: the other goes on
                # It has failed before, perhaps with the engine: if it does so again, nobody else's goes down with it.
                alone=self._job.attempt > 0,
                deadline_s=_SLACK_S + _SLOWEST * (info.duration or self._limits.seconds),
                trace_id=self._job.trace_id,
            )
            outcome = "cancelled"
            events = engine.recognise(config, fed.pieces(), idle_timeout_s=self._engine_idle_s)
            with tracing.span("engine.call", tracing.Kind.CLIENT) as span:
                try:
                    async for event in events:
                        await self._take(event, channel, of, info, fed)
                    outcome = "ok"
                    span.set({"cosygate.outcome": outcome, "cosygate.engine": self._engine_name.name})
                except errors.CosyGateError as error:
                    outcome = error.code
                    raise
                finally:
                    await _close(events)
                    spent = self._clock.monotonic() - began
                    self._timings["recognise"] = self._timings.get("recognise", 0.0) + spent
                    metrics.engine_calls.labels(self._engine_name.name or "unknown", outcome).inc()
                    _log.info(
                        "engine.call", outcome=outcome, cost_ms=round(spent * 1000), audio_s=round(fed.seconds, 3)
                    )
                    span.set({"cosygate.audio_s": round(fed.seconds, 3)})
            self._seconds = max(self._seconds, fed.seconds)
            return info.channels

    async def _take(self, event: object, channel: int | None, of: int, info: MediaInfo, fed: _Fed) -> None:
        if isinstance(event, SegmentFound):
            # Numbered over all passes: a client that shows segments as they come needs one number each.
            segment = replace(event.segment, id=len(self._segments), channel=channel)
            if channel is not None:
                segment = replace(segment, speaker=f"S{channel + 1}")  # who else should it be
            self._segments.append(segment)
            await self._story.segment(segment, _percent(segment.end, channel, of, info, fed))
        elif isinstance(event, Progress):
            await self._story.progress(_percent(event.samples / PCM_RATE, channel, of, info, fed))
        elif isinstance(event, SpeakersFound):
            self._segments = await asyncio.to_thread(with_speakers, self._segments, event.turns)
        elif isinstance(event, Done):
            self._engine_name = event.engine
            self._foreign |= event.foreign
            for name, seconds in event.stats.items():
                self._timings[f"engine_{name}"] = self._timings.get(f"engine_{name}", 0.0) + seconds


def _percent(done_s: float, channel: int | None, of: int, info: MediaInfo, fed: _Fed) -> int:
    """How much of all passes is recognised. Without a duration in the header, what was read so far stands for the
    whole, cautiously."""
    whole = max(info.duration or fed.seconds * 1.25, 0.001)
    return int(100 * ((channel or 0) + min(1.0, done_s / whole)) / of)


class _Fed:
    """Counts the audio on its way to the engine."""

    def __init__(self, pcm: AsyncIterator[bytes]) -> None:
        self._pcm = pcm
        self._bytes = 0

    @property
    def seconds(self) -> float:
        return self._bytes / 2 / PCM_RATE

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._pcm:
            self._bytes += len(piece)
            yield piece


async def _close(iterator: AsyncIterator[object]) -> None:
    """Ends a generator now rather than when it is collected: closing is what cancels the engine call."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()
