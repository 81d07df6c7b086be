"""One BATCH call, seen from the gateway.

Signs of life: an engine tells something at least every 0.5 s while a call waits for a slot, and takes audio or tells
progress while it recognises. Silence beyond the idle timeout is a hang; waiting for our own audio is not silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from cosygate import errors
from cosygate.adapters.engine_grpc import told
from cosygate.adapters.engine_grpc.exchange import Exchange
from cosygate.ports.engine import Accepted, Done, EngineEvent, Progress, RecogniseConfig, SegmentFound
from cosygate.proto import speech_engine_pb2 as pb

AUDIO_MAX = 64 * 1024  # bytes of one audio message (speech_engine.proto)


class Conversation:
    """One call: a task that sends once the engine has accepted (what waits in line holds no audio), a reader that
    yields, and a timer that ends it when the engine is silent."""

    def __init__(self, call: Any, config: RecogniseConfig, audio: AsyncIterator[bytes], idle_timeout_s: float) -> None:
        self._call = call
        self._exchange = Exchange(call)
        self._config = config
        self._audio = audio
        self._idle_s = idle_timeout_s
        self._loop = asyncio.get_running_loop()
        self._waits_for_audio = False
        self._alive_at = self._loop.time()
        self._timer = self._loop.call_later(idle_timeout_s, self._check)
        self._sender: asyncio.Task[None] | None = None

    async def events(self) -> AsyncIterator[EngineEvent]:
        done: Done | None = None
        segments = 0
        exchange = self._exchange
        await exchange.begin(_config(self._config))
        while (event := await exchange.read()) is not None:
            self._alive_at = self._loop.time()
            kind = event.WhichOneof("event")
            if kind == "accepted":
                exchange.accepted = True
                self._sender = asyncio.create_task(self._send())
                yield Accepted(event.accepted.slot_wait_ms)
            elif kind == "progress" and exchange.accepted:
                yield Progress(event.progress.samples)
            elif kind == "segment":
                yield SegmentFound(told.segment(segments, event.segment, self._config.sample_rate))
                segments += 1
            elif kind == "speakers":
                yield told.speakers(event.speakers, self._config.sample_rate)
            elif kind == "done":
                done = told.done(event.done)
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
            self._sender = None  # how it ended refers to us: a cycle, which would keep the connection for a while

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
            self._exchange.cancel(error)
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
            self._exchange.cancel(errors.EngineFailed() if self._exchange.accepted else errors.EngineUnavailable())


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
        doubts=config.doubts,
        num_speakers=config.num_speakers,
        max_speakers=config.max_speakers,
    )
