"""One Recognize call: validated, given a slot, read message by message, answered as pieces are recognised.

    config → slot → accepted → (audio → pieces → segments, progress)* → half-close → last segments → done

No message is read before the one in work is done, so a slow recogniser slows its caller.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc

from cosygate.engine.messages import AUDIO_MAX, CallEnded, check_config, invalid, segment_event
from cosygate.engine.pipeline import Heard, Pipeline
from cosygate.engine.recognisers.base import Recogniser, RecogniserError
from cosygate.engine.slots import LineFull, Slots
from cosygate.engine.vad import CutterPool, Piece
from cosygate.kit.clock import Clock
from cosygate.proto import speech_engine_pb2 as pb

TELL_EVERY_S = 0.5  # progress, which is also the sign of life, at most this often
CLIENT_IDLE_S = 300.0  # a caller that sends, or takes, nothing for this long loses its slot
_SLOT_WAIT_MAX_S = 600.0
_RECORDING_MAX_S = 24 * 3600  # the detector counts samples in 31 bits
T = TypeVar("T")


class Call:
    """Used once. `leave` must follow `run`, however that ended."""

    def __init__(
        self,
        context: Any,  # grpc.aio.ServicerContext, generic in a way that only stubs know
        recogniser: Recogniser,
        slots: Slots,
        threads: Executor,
        cutters: CutterPool,
        clock: Clock,
    ) -> None:
        self._context = context
        self._recogniser = recogniser
        self._slots = slots
        self._threads = threads
        self._cutters = cutters
        self._clock = clock
        self._inline = recogniser.instant and recogniser.cut_s is not None
        self._stop = threading.Event()
        self._held = 0  # slots
        self._work: asyncio.Future[Any] | None = None
        self._told_at = clock.monotonic()
        self._pipeline: Pipeline | None = None

    @property
    def samples(self) -> int:
        """Received so far."""
        return self._pipeline.received if self._pipeline else 0

    async def run(self) -> None:
        """Raises CallEnded; RecogniserError becomes one. Any other exception is a fault of the engine."""
        first = await self._read()
        if first is grpc.aio.EOF or first.WhichOneof("message") != "config":
            raise invalid("the first message is not a config")
        config = first.config
        hints = check_config(config, self._recogniser.models)
        slot_wait_s = await self._take_slot(config)
        cutter = await self._do(self._cutters.borrow)
        pipeline = self._pipeline = Pipeline(
            self._recogniser,
            cutter,
            hints,
            sample_rate=config.sample_rate,
            first_sample=config.first_sample,
            stop=self._stop,
            monotonic=self._clock.monotonic,
        )
        try:
            await self._audio(pipeline, config.sample_rate)
        except RecogniserError as error:
            raise CallEnded(grpc.StatusCode[error.status], "the recogniser failed on this audio") from error
        stats = {"vad": pipeline.timings.vad, "recognise": pipeline.timings.recognise, "slot_wait": slot_wait_s}
        name, version = self._recogniser.name, self._recogniser.version
        done = pb.Done(engine=name, model=hints.model, version=version, samples=pipeline.received, stats=stats)
        await self._write(pb.RecognizeEvent(done=done))
        self._cutters.give_back(cutter)

    def leave(self) -> None:
        """The slot is free once the thread that works for this call has noticed."""
        self._stop.set()
        if self._work is not None and not self._work.done():
            self._work.add_done_callback(self._release)
        else:
            self._release(None)

    def _release(self, work: asyncio.Future[Any] | None) -> None:
        if work is not None and not work.cancelled():
            work.exception()  # looked at, or asyncio complains; nobody waits for it any more
        held, self._held = self._held, 0
        if held:
            self._slots.give_back(held)

    async def _take_slot(self, config: pb.RecognizeConfig) -> float:
        """Waits its turn, showing that it is alive; tells the caller. Returns the seconds waited."""
        asked_at = self._clock.monotonic()
        deadline = asked_at + min(config.slot_wait_ms / 1000, _SLOT_WAIT_MAX_S)
        wanted = self._slots.count if config.alone else 1
        try:
            turn = self._slots.ask(wanted)
        except LineFull:
            raise CallEnded(grpc.StatusCode.RESOURCE_EXHAUSTED, "every slot is taken, and the line is full") from None
        try:
            while not turn.done():
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    raise CallEnded(grpc.StatusCode.RESOURCE_EXHAUSTED, "no slot became free in time")
                await asyncio.wait({turn}, timeout=min(left, TELL_EVERY_S))
                if not turn.done():
                    await self._progress(config.first_sample)
            if turn.cancelled():
                raise CallEnded(grpc.StatusCode.UNAVAILABLE, "the engine is shutting down")
        except BaseException:
            self._slots.withdraw(turn, wanted)
            raise
        self._held = wanted
        waited = self._clock.monotonic() - asked_at
        await self._write(pb.RecognizeEvent(accepted=pb.Accepted(slot_wait_ms=round(waited * 1000))))
        return waited

    async def _audio(self, pipeline: Pipeline, rate: int) -> None:
        while (message := await self._read()) is not grpc.aio.EOF:
            kind = message.WhichOneof("message")
            if kind == "audio":
                pcm = message.audio
                if len(pcm) % 2 or len(pcm) > AUDIO_MAX:
                    raise invalid(f"an audio message has {len(pcm)} bytes: not an even number up to {AUDIO_MAX}")
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

    async def _recognise(self, pipeline: Pipeline, pieces: list[Piece]) -> None:
        for piece in pieces:
            heard = await self._patiently(pipeline, piece)
            if heard is not None:
                await self._write(segment_event(heard))

    async def _patiently(self, pipeline: Pipeline, piece: Piece) -> Heard | None:
        """A recogniser that ends by itself may be silent for long: tells the caller meanwhile that it is alive. One
        without a limit gets no such cover, so that a hang shows."""
        limit = self._recogniser.limit_s
        if self._inline or limit is None:
            return await self._do(pipeline.recognise, piece)
        work = self._start(pipeline.recognise, piece)
        until = self._clock.monotonic() + limit
        while not work.done():
            await asyncio.wait({work}, timeout=TELL_EVERY_S)
            if not work.done() and self._clock.monotonic() < until:
                await self._progress(pipeline.decided)
        return work.result()

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        return work(*arguments) if self._inline else await self._in_thread(work, *arguments)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        # Shielded: a cancelled call ends at once, and its thread when it notices `stop` (see `leave`).
        return await asyncio.shield(self._start(work, *arguments))

    def _start(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        self._work = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
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
