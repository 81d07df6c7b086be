"""The Engine port over gRPC: one engine process, at one address.

Signs of life: an engine tells something at least every 0.5 s while a call waits for a slot, and takes audio or tells
progress while it recognises. Silence beyond `idle_timeout_s` is a hang; waiting for our own audio is not silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from cosygate import errors
from cosygate.model.transcript import EngineName, Segment, Word
from cosygate.ports.engine import (
    Accepted,
    Done,
    EngineEvent,
    EngineInfo,
    ModelInfo,
    Progress,
    RecogniseConfig,
    SegmentFound,
)
from cosygate.proto import speech_engine_pb2 as pb
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc

AUDIO_MAX = 64 * 1024  # bytes of one audio message (speech_engine.proto)
STREAMS_PER_CHANNEL = 90  # one more than the engine's max_concurrent_streams (100) would wait without a word
CHANNELS_MAX = 16
_DETAIL_MAX = 200
_OPTIONS = (
    ("grpc.enable_retries", 0),  # a recording is tried again by its job alone
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # or channels to one address would share a connection
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.http2.bdp_probe", 0),
)
_S = grpc.StatusCode
# What a status means before the engine accepted the call, and after. A process that dies looks like UNAVAILABLE; one
# that shuts down in an orderly way says ABORTED. Only what this recording may have caused costs it an attempt.
STATUS_ERRORS: dict[grpc.StatusCode, tuple[type[errors.CosyGateError], type[errors.CosyGateError]]] = {
    _S.INVALID_ARGUMENT: (errors.EngineRefused, errors.EngineRefused),
    _S.OUT_OF_RANGE: (errors.EngineRefused, errors.EngineRefused),
    _S.FAILED_PRECONDITION: (errors.EngineRefused, errors.EngineRefused),
    _S.RESOURCE_EXHAUSTED: (errors.EngineBusy, errors.EngineBusy),
    _S.UNAVAILABLE: (errors.EngineUnavailable, errors.EngineFailed),
    _S.DEADLINE_EXCEEDED: (errors.EngineUnavailable, errors.EngineFailed),
    _S.CANCELLED: (errors.EngineUnavailable, errors.EngineFailed),
    _S.ABORTED: (errors.EngineUnavailable, errors.EngineUnavailable),
    _S.UNIMPLEMENTED: (errors.EngineUnavailable, errors.EngineUnavailable),
    _S.UNAUTHENTICATED: (errors.EngineUnavailable, errors.EngineUnavailable),
    _S.PERMISSION_DENIED: (errors.EngineUnavailable, errors.EngineUnavailable),
    _S.NOT_FOUND: (errors.EngineFailed, errors.EngineFailed),
    _S.ALREADY_EXISTS: (errors.EngineFailed, errors.EngineFailed),
    _S.DATA_LOSS: (errors.EngineFailed, errors.EngineFailed),
    _S.INTERNAL: (errors.EngineFailed, errors.EngineFailed),
    _S.UNKNOWN: (errors.EngineFailed, errors.EngineFailed),
}


def translate(code: grpc.StatusCode, details: str | None, *, accepted: bool) -> errors.CosyGateError:
    """Only a refusal carries the engine's own words: they are for the client."""
    error = STATUS_ERRORS[code][accepted]
    if error is errors.EngineRefused and details:
        return error("".join(c for c in details if c.isprintable())[:_DETAIL_MAX])
    return error()


class _Channel:
    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self.stub: Any = pb_grpc.SpeechEngineStub(self.channel)
        self.streams = 0


class GrpcEngine:
    """Implements ports.engine.Engine. For one event loop: connections are made when they are first needed, in it."""

    def __init__(self, address: str, *, call_limit_s: float = 12 * 3600.0, describe_timeout_s: float = 5.0) -> None:
        """`address`: unix:/path or host:port. `call_limit_s` is the deadline of a whole call."""
        self._address = address
        self._call_limit_s = call_limit_s
        self._describe_timeout_s = describe_timeout_s
        self._channels: list[_Channel] = []

    async def describe(self) -> EngineInfo:
        with self._stream() as stub:
            try:
                told = await stub.Describe(pb.DescribeRequest(), timeout=self._describe_timeout_s)
            except grpc.aio.AioRpcError as error:
                raise errors.EngineUnavailable() from error
        models = tuple(
            ModelInfo(
                name=model.name,
                languages=tuple(model.languages),
                words="words" in model.capabilities,
                speakers="speakers" in model.capabilities,
                emotion="emotion" in model.capabilities,
                live="live" in model.capabilities,
            )
            for model in told.models
        )
        return EngineInfo(name=told.name, version=told.version, slots=told.slots, models=models)

    async def recognise(
        self, config: RecogniseConfig, audio: AsyncIterator[bytes], *, idle_timeout_s: float
    ) -> AsyncIterator[EngineEvent]:
        with self._stream() as stub:
            call = stub.Recognize(timeout=self._call_limit_s, metadata=_metadata(config.trace_id))
            conversation = _Conversation(call, config, audio, idle_timeout_s)
            try:
                async for event in conversation.events():
                    yield event
            finally:
                await conversation.close()

    async def close(self) -> None:
        """Ends all calls and connections."""
        channels, self._channels = self._channels, []
        for one in channels:
            await one.channel.close()

    @contextlib.contextmanager
    def _stream(self) -> Iterator[Any]:
        """A stub on the connection with room for one more stream."""
        one = next((c for c in self._channels if c.streams < STREAMS_PER_CHANNEL), None)
        if one is None:
            if len(self._channels) >= CHANNELS_MAX:
                raise errors.EngineBusy()
            one = _Channel(self._address)
            self._channels.append(one)
        one.streams += 1
        try:
            yield one.stub
        finally:
            one.streams -= 1


def _metadata(trace_id: str) -> tuple[tuple[str, str], ...]:
    """W3C Trace Context, so that the engine's log lines carry the same trace id."""
    return (("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01"),) if trace_id else ()


class _Conversation:
    """One call: a task that sends, a reader that yields, and a timer that ends it when the engine is silent."""

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
        self._sender = asyncio.create_task(self._send())

    async def events(self) -> AsyncIterator[EngineEvent]:
        done: Done | None = None
        segments = 0
        while (event := await self._next()) is not None:
            kind = event.WhichOneof("event")
            if kind == "accepted":
                self._accepted = True
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
        if not self._sender.done():
            self._sender.cancel()
            await asyncio.wait({self._sender})
        if not self._sender.cancelled():
            self._sender.exception()  # raised to the reader already

    async def _next(self) -> pb.RecognizeEvent | None:
        """None at the end of a call that went well."""
        try:
            event = await self._call.read()
            if event is grpc.aio.EOF:
                code = await self._call.code()
                if code is not _S.OK:
                    raise translate(code, await self._call.details(), accepted=self._accepted)
                return None
        except grpc.aio.AioRpcError as error:
            raise translate(error.code(), error.details(), accepted=self._accepted) from error
        except asyncio.CancelledError:
            if self._fault is not None:  # it is the call that was cancelled, by us, and not this task
                raise self._fault from None
            raise
        self._alive_at = self._loop.time()
        return event  # type: ignore[no-any-return]  # the call is untyped

    async def _send(self) -> None:
        try:
            await self._call.write(pb.RecognizeRequest(config=_config(self._config)))
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


def _config(config: RecogniseConfig) -> pb.RecognizeConfig:
    return pb.RecognizeConfig(
        mode=pb.BATCH,
        sample_rate=config.sample_rate,
        language=config.language,
        model=config.model or "",
        features=config.features,
        hotwords=config.hotwords,
        slot_wait_ms=round(config.slot_wait_s * 1000),
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
