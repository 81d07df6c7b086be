"""One Recognize call, seen from the gateway.

Signs of life: an engine tells something at least every 0.5 s while a call waits for a slot, and takes audio or tells
progress while it recognises. Silence beyond the idle timeout is a hang; waiting for our own audio is not silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any, TypeVar, cast

import grpc

from cosygate import errors
from cosygate.adapters.engine_grpc.status import translate
from cosygate.model.transcript import EngineName, Segment, Word
from cosygate.ports.engine import Accepted, Done, EngineEvent, Progress, RecogniseConfig, SegmentFound
from cosygate.proto import speech_engine_pb2 as pb

AUDIO_MAX = 64 * 1024  # bytes of one audio message (speech_engine.proto)
_WRITE_FAILED = "Internal error from Core"  # _AioCall.set_internal_error in grpc's aio/call.pyx.pxi
_STATUS_WAIT_S = 2.0  # between a failed write and the status that explains it
T = TypeVar("T")


class Conversation:
    """One call: a task that sends once the engine has accepted (what waits in line holds no audio), a reader that
    yields, and a timer that ends it when the engine is silent."""

    def __init__(self, call: Any, config: RecogniseConfig, audio: AsyncIterator[bytes], idle_timeout_s: float) -> None:
        self._call = call
        self._config = config
        self._audio = audio
        self._idle_s = idle_timeout_s
        self._loop = asyncio.get_running_loop()
        self._accepted = False
        self._fault: BaseException | None = None  # why we cancelled the call ourselves
        self._waits_for_audio = False
        self._alive_at = self._loop.time()
        self._timer = self._loop.call_later(idle_timeout_s, self._check)
        self._sender: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[tuple[grpc.StatusCode, str]] = self._loop.create_future()
        call.add_done_callback(self._note_status)

    async def events(self) -> AsyncIterator[EngineEvent]:
        done: Done | None = None
        segments = 0
        await self._calling(self._call.write(pb.RecognizeRequest(config=_config(self._config))))
        while (event := await self._next()) is not None:
            kind = event.WhichOneof("event")
            if kind == "accepted":
                self._accepted = True
                self._sender = asyncio.create_task(self._send())
                yield Accepted(event.accepted.slot_wait_ms)
            elif kind == "progress" and self._accepted:
                yield Progress(event.progress.samples)
            elif kind == "segment":
                yield SegmentFound(_segment(segments, event.segment, self._config.sample_rate))
                segments += 1
            elif kind == "done":
                done = _done(event.done)
        if done is None:
            raise errors.EngineFailed()
        yield done

    async def close(self) -> None:
        """The engine sees a cancel, unless the call is over."""
        self._timer.cancel()
        self._call.cancel()
        if self._sender is not None:
            if not self._sender.done():
                self._sender.cancel()
                await asyncio.wait({self._sender})
            if not self._sender.cancelled():
                self._sender.exception()  # raised to the reader already

    async def _next(self) -> pb.RecognizeEvent | None:
        """None at the end of a call that went well."""
        event: pb.RecognizeEvent = await self._calling(self._call.read())
        if event is not grpc.aio.EOF:
            self._alive_at = self._loop.time()
            return event
        code, details = await self._status()
        if code is not grpc.StatusCode.OK:
            raise translate(code, details, accepted=self._accepted)
        return None

    async def _calling(self, step: Awaitable[Any]) -> Any:
        """One read or write, its error as ours."""
        try:
            return await step
        except grpc.aio.AioRpcError as error:
            code, details = await self._status()
            raise translate(code, details, accepted=self._accepted) from error
        except asyncio.CancelledError:
            if self._fault is not None:  # it is the call that was cancelled, by us, and not this task
                raise self._fault from None
            raise

    async def _status(self) -> tuple[grpc.StatusCode, str]:
        """How the engine ended the call."""
        await asyncio.wait({self._ended}, timeout=_STATUS_WAIT_S)
        return self._ended.result() if self._ended.done() else (grpc.StatusCode.UNKNOWN, "")

    def _note_status(self, call: Any) -> None:
        """Called once or twice: a write that fails because the engine has ended the call makes grpc.aio put a status
        of its own before, or over, the engine's. So it is taken at the moment it is there."""
        code, details = _at_once(call.code()), _at_once(call.details())
        if details != _WRITE_FAILED and not self._ended.done():
            self._ended.set_result((code, details or ""))

    async def _send(self) -> None:
        try:
            async for pcm in self._messages():
                await self._call.write(pb.RecognizeRequest(audio=pcm))
                self._alive_at = self._loop.time()
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the call is over: the reader learns why

    async def _messages(self) -> AsyncIterator[bytes]:
        """The audio in messages of AUDIO_MAX bytes (the last is shorter), whatever its pieces were."""
        held = bytearray()
        while (piece := await self._next_piece()) is not None:
            held += piece
            while len(held) >= AUDIO_MAX:
                yield bytes(held[:AUDIO_MAX])
                del held[:AUDIO_MAX]
        if held:
            yield bytes(held)

    async def _next_piece(self) -> bytes | None:
        self._waits_for_audio = True
        try:
            return await anext(self._audio, None)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._cancel(error)
            raise
        finally:
            self._waits_for_audio = False
            self._alive_at = self._loop.time()

    def _check(self) -> None:
        silent_s = self._loop.time() - self._alive_at
        if self._waits_for_audio or silent_s < self._idle_s:
            left = self._idle_s if self._waits_for_audio else self._idle_s - silent_s
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._cancel(errors.EngineFailed() if self._accepted else errors.EngineUnavailable())

    def _cancel(self, fault: BaseException) -> None:
        self._fault = fault
        self._call.cancel()


def _at_once(ready: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that has nothing to wait for."""
    try:
        ready.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    ready.close()
    raise RuntimeError("grpc told that a call is over before it was")


def _config(config: RecogniseConfig) -> pb.RecognizeConfig:
    return pb.RecognizeConfig(
        mode=pb.BATCH,
        sample_rate=config.sample_rate,
        language=config.language,
        model=config.model or "",
        features=config.features,
        hotwords=config.hotwords,
        slot_wait_ms=round(config.slot_wait_s * 1000),
        alone=config.alone,
    )


def _told(message: Any, field: str) -> Any:
    """An optional field's value, None when the engine did not say."""
    return getattr(message, field) if message.HasField(field) else None


def _segment(number: int, told: pb.Segment, rate: int) -> Segment:
    words = tuple(Word(w.text, w.start_sample / rate, w.end_sample / rate, _told(w, "confidence")) for w in told.words)
    return Segment(
        id=number,
        start=told.start_sample / rate,
        end=told.end_sample / rate,
        text=told.text,
        speaker=_told(told, "speaker"),
        emotion=_told(told, "emotion"),
        language=_told(told, "language"),
        confidence=_told(told, "confidence"),
        words=words,
        events=tuple(told.events),
    )


def _done(told: pb.Done) -> Done:
    name = EngineName(name=told.engine, model=told.model, version=told.version)
    return Done(engine=name, samples=told.samples, stats=dict(told.stats))
