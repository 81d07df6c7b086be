"""One Recognize call in BATCH mode: given a slot, read message by message, answered as pieces are recognised.

    config → slot → accepted → (audio → pieces → segments, progress)* → half-close → last segments → done

No message is read before the one in work is done, so a slow recogniser slows its caller.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

import grpc

from cosygate.engine.admission import TELL_EVERY_S, take_slot
from cosygate.engine.extras import SPEAKERS
from cosygate.engine.messages import CallEnded, check_audio, invalid, segment_event, speakers_event
from cosygate.engine.pipeline import Heard, Pipeline
from cosygate.engine.recognisers.base import Hints, RecogniserError
from cosygate.engine.shared import Shared
from cosygate.engine.turns import Rank, Turn
from cosygate.engine.vad import Piece
from cosygate.proto import speech_engine_pb2 as pb

CLIENT_IDLE_S = 300.0  # a caller that sends, or takes, nothing for this long loses its slot
_RECORDING_MAX_S = 24 * 3600  # the detector counts samples in 31 bits
_UNTOLD_MAX = 16 << 20  # bytes of segments: 24 hours of speech with its words are 7 MiB
T = TypeVar("T")


class Call:
    """Used once. `leave` must follow `run`, however that ended."""

    def __init__(self, context: Any, shared: Shared, config: pb.RecognizeConfig, hints: Hints) -> None:
        """`context`: a grpc.aio.ServicerContext, generic in a way that only stubs know."""
        self._context = context
        self._shared = shared
        self._config = config
        self._hints = hints
        self._recogniser = shared.recogniser
        self._clock = shared.clock
        self._inline = self._recogniser.instant and shared.cuts_inline
        self._stop = threading.Event()
        self._held = 0  # slots
        self._work: asyncio.Future[Any] | None = None
        self._turn: Turn[Any] | None = None
        self._told_at = self._clock.monotonic()
        self._pipeline: Pipeline | None = None
        # Segments as they will be sent (a fifth of what Heard takes), while it is not known whether the recording is in
        # the model's language: a whole foreign day of them may have to wait.
        self._untold: list[bytes] = []
        self._untold_bytes = 0

    @property
    def samples(self) -> int:
        """Received so far."""
        return self._pipeline.received if self._pipeline else 0

    @property
    def seconds(self) -> float:
        return round(self.samples / self._config.sample_rate, 3)

    async def run(self) -> None:
        """Raises CallEnded; RecogniserError becomes one. Any other exception is a fault of the engine."""
        config = self._config
        slot_wait_s = await self._take_slot(config)
        cutter = await self._do(self._shared.cutters.borrow)
        pipeline = self._pipeline = Pipeline(
            self._recogniser,
            self._shared.extras,
            cutter,
            self._hints,
            sample_rate=config.sample_rate,
            first_sample=config.first_sample,
            stop=self._stop,
            monotonic=self._clock.monotonic,
            doubts=config.doubts and self._hints.language == "auto",
        )
        try:
            await self._audio(pipeline, config.sample_rate)
        except RecogniserError as error:
            raise CallEnded(grpc.StatusCode[error.status], "the recogniser failed on this audio") from error
        if SPEAKERS in self._hints.features:
            await self._write(speakers_event(await self._speakers(pipeline)))
        stats = {name: seconds for name, seconds in asdict(pipeline.timings).items() if seconds}
        stats |= {"slot_wait": slot_wait_s}
        name, version = self._recogniser.name, self._recogniser.version
        done = pb.Done(engine=name, model=self._hints.model, version=version, samples=pipeline.received, stats=stats)
        done.foreign = pipeline.foreign
        await self._write(pb.RecognizeEvent(done=done))
        self._shared.cutters.give_back(cutter)

    def leave(self) -> None:
        """The slot is free once the thread that works for this call has noticed."""
        self._stop.set()
        if self._turn is not None:
            self._shared.turns.withdraw(self._turn)
        if self._work is not None and not self._work.done():
            self._work.add_done_callback(self._release)
        else:
            self._release(None)

    def _release(self, work: asyncio.Future[Any] | None) -> None:
        if work is not None and not work.cancelled():
            work.exception()  # looked at, or asyncio complains; nobody waits for it any more
        held, self._held = self._held, 0
        if held:
            self._shared.slots.give_back(held)

    async def _take_slot(self, config: pb.RecognizeConfig) -> float:
        """Waits its turn, showing that it is alive; tells the caller. Returns the seconds waited."""
        slots = self._shared.slots
        wanted = slots.count if config.alone else 1
        waited = await take_slot(
            slots, wanted, config.slot_wait_ms, self._clock, partial(self._progress, config.first_sample)
        )
        self._held = wanted
        await self._write(pb.RecognizeEvent(accepted=pb.Accepted(slot_wait_ms=round(waited * 1000))))
        return waited

    async def _audio(self, pipeline: Pipeline, rate: int) -> None:
        while (message := await self._read()) is not grpc.aio.EOF:
            kind = message.WhichOneof("message")
            if kind == "audio":
                pcm = check_audio(message.audio)
                if pipeline.received > _RECORDING_MAX_S * rate:
                    raise invalid(f"the recording is longer than {_RECORDING_MAX_S // 3600} hours")
                await self._recognise(pipeline, await self._do(pipeline.push, pcm))
            elif kind == "finalize":
                await self._recognise(pipeline, await self._do(pipeline.finalize))
            else:
                raise invalid("a message is neither audio nor finalize")
            if self._clock.monotonic() - self._told_at >= TELL_EVERY_S:
                await self._progress(pipeline.decided)
        await self._recognise(pipeline, await self._do(pipeline.finalize))
        pipeline.end()
        await self._tell(pipeline)

    async def _recognise(self, pipeline: Pipeline, pieces: list[Piece]) -> None:
        for piece in pieces:
            heard = await self._patiently(pipeline, piece)
            if heard is not None:
                self._untold.append(segment_event(heard).SerializeToString())
                self._untold_bytes += len(self._untold[-1])
            if self._untold_bytes > _UNTOLD_MAX:
                pipeline.end()  # so much has to be enough
            if pipeline.language_known:
                await self._tell(pipeline)

    async def _tell(self, pipeline: Pipeline) -> None:
        untold, self._untold, self._untold_bytes = self._untold, [], 0
        for event in untold if not pipeline.foreign else ():
            await self._write(pb.RecognizeEvent.FromString(event))

    async def _patiently(self, pipeline: Pipeline, piece: Piece) -> Heard | None:
        """Waits for its turn and for the recogniser, and tells the caller that there is hope, as long as there is: a
        recogniser without a time limit of its own gets no cover, so that a hang shows."""
        if self._inline:
            return pipeline.recognise(piece)
        turns, limit_s = self._shared.turns, self._recogniser.limit_s
        turn: Turn[Heard | None] = turns.ask(Rank.FILE, partial(pipeline.recognise, piece))
        self._turn, self._work = turn, turn.future
        while not turn.future.done():
            await asyncio.wait({turn.future}, timeout=TELL_EVERY_S)
            waits = turn.started_at is None or limit_s is not None
            if not turn.future.done() and waits and turns.alive(turn, limit_s):
                await self._progress(pipeline.decided)
        return turn.future.result()

    async def _speakers(self, pipeline: Pipeline) -> list[tuple[int, int, str]]:
        """That may take minutes, where the models are slow: the caller is told meanwhile that there is hope."""
        wanted = self._config.num_speakers, self._config.max_speakers
        if self._inline:
            return pipeline.speakers(*wanted)
        work = self._start(pipeline.speakers, *wanted)
        while not work.done():
            await asyncio.wait({work}, timeout=TELL_EVERY_S)
            if not work.done():
                await self._progress(pipeline.decided)
        return work.result()

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        return work(*arguments) if self._inline else await self._in_thread(work, *arguments)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        # Shielded: a cancelled call ends at once, and its thread when it notices `stop` (see `leave`).
        return await asyncio.shield(self._start(work, *arguments))

    def _start(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        self._work = asyncio.get_running_loop().run_in_executor(self._shared.threads, work, *arguments)
        return self._work

    async def _read(self) -> Any:
        try:
            async with asyncio.timeout(CLIENT_IDLE_S):
                return await self._context.read()
        except TimeoutError:
            raise CallEnded(grpc.StatusCode.ABORTED, f"nothing came for {CLIENT_IDLE_S:.0f} s") from None

    async def _write(self, event: pb.RecognizeEvent) -> None:
        try:
            async with asyncio.timeout(CLIENT_IDLE_S):
                await self._context.write(event)
        except TimeoutError:
            raise CallEnded(grpc.StatusCode.ABORTED, f"nothing was taken for {CLIENT_IDLE_S:.0f} s") from None

    async def _progress(self, samples: int) -> None:
        await self._write(pb.RecognizeEvent(progress=pb.Progress(samples=samples)))
        self._told_at = self._clock.monotonic()
