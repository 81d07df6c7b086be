"""One live call, seen from the gateway.

A task collects the audio as it comes, another sends what has come since its last message, so that a frame costs a
message only while the engine keeps up. Sign of life: an engine tells how far it has heard once a second while audio
comes, and while it works on the last finals. When it owes that for longer than the idle timeout it hangs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc

from cosygate import errors
from cosygate.adapters.engine_grpc import told
from cosygate.adapters.engine_grpc.exchange import Exchange
from cosygate.ports.engine import (
    Accepted,
    Decided,
    Done,
    FinalFound,
    Finalize,
    Heard,
    ListenConfig,
    ListenEvent,
    PartialFound,
    SpeechEnded,
    SpeechStarted,
)
from cosygate.proto import speech_engine_pb2 as pb

ACCEPT_SILENCE_S = 1.5
AUDIO_MAX = 64 * 1024  # bytes of one audio message (speech_engine.proto), and of what waits to be sent


class Listening:
    """Collector and sender start once the engine has accepted; the reader yields; a timer ends the call when the engine
    is silent."""

    def __init__(
        self, call: Any, config: ListenConfig, audio: AsyncIterator[bytes | Finalize], idle_timeout_s: float
    ) -> None:
        self._call = call
        self._exchange = Exchange(call)
        self._config = config
        self._audio = audio
        self._idle_s = idle_timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes | Finalize] = deque()
        self._waiting_bytes = 0
        self._ended = False  # no more audio will come
        self._wake = asyncio.Event()  # something waits, or it ended
        self._room = asyncio.Event()
        self._sent = config.first_sample  # samples
        self._heard = config.first_sample  # as the engine last said
        self._end_sent = False
        self._owed_since: float | None = self._loop.time()  # since when the engine has owed a sign of life
        self._timer = self._loop.call_later(min(idle_timeout_s, ACCEPT_SILENCE_S), self._check)
        self._tasks: list[asyncio.Task[None]] = []

    async def events(self) -> AsyncIterator[ListenEvent]:
        done: Done | None = None
        finals = self._config.finals
        exchange = self._exchange
        await exchange.begin(_config(self._config))
        while (event := await exchange.read()) is not None:
            kind = event.WhichOneof("event")
            if kind == "accepted":
                exchange.accepted = True
                self._tasks = [asyncio.create_task(self._collect()), asyncio.create_task(self._send())]
                yield Accepted(event.accepted.slot_wait_ms)
            elif kind == "segment":
                found = told.segment(finals, event.segment, self._config.sample_rate)
                finals += 1
                yield FinalFound(event.segment.start_sample, event.segment.end_sample, found)
            elif kind == "done":
                done = told.done(event.done)
            elif exchange.accepted and (passed := _passed(kind, event)) is not None:
                yield passed
            self._lives(event.heard.samples if kind == "heard" else 0)
        if done is None:
            raise errors.EngineFailed()
        yield done

    async def close(self) -> None:
        """The engine sees a cancel, unless the call is over."""
        self._timer.cancel()
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.exception()  # raised to the reader already
        self._tasks.clear()  # how they ended refers to us: a cycle, which would keep the connection for a while

    async def _collect(self) -> None:
        try:
            async for piece in self._audio:
                self._waiting.append(piece)
                self._wake.set()
                if isinstance(piece, bytes):
                    self._waiting_bytes += len(piece)
                while self._waiting_bytes >= AUDIO_MAX:
                    self._room.clear()
                    await self._room.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._exchange.cancel(error)
            raise
        self._ended = True
        self._wake.set()

    async def _send(self) -> None:
        try:
            while True:
                while self._waiting:
                    await self._write(self._next())
                if self._ended:
                    break
                self._wake.clear()
                await self._wake.wait()
            self._end_sent = True
            self._owes()
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the call is over: the reader learns why

    async def _write(self, message: pb.RecognizeRequest) -> None:
        self._sent += len(message.audio) // 2
        if message.audio:
            self._owes()
        await self._call.write(message)

    def _next(self) -> pb.RecognizeRequest:
        """What waits, as one message; at most AUDIO_MAX, and not beyond a Finalize."""
        if isinstance(self._waiting[0], Finalize):
            self._waiting.popleft()
            return pb.RecognizeRequest(finalize=pb.Finalize())
        taken: list[bytes] = []
        size = 0
        while self._waiting and size < AUDIO_MAX and not isinstance(piece := self._waiting[0], Finalize):
            self._waiting.popleft()
            if size + len(piece) > AUDIO_MAX:
                self._waiting.appendleft(piece[AUDIO_MAX - size :])
                piece = piece[: AUDIO_MAX - size]
            taken.append(piece)
            size += len(piece)
        self._waiting_bytes -= size
        self._room.set()
        return pb.RecognizeRequest(audio=taken[0] if len(taken) == 1 else b"".join(taken))

    # --- signs of life ---

    def _owes(self) -> None:
        if self._owed_since is None:
            self._owed_since = self._loop.time()

    def _lives(self, heard: int) -> None:
        """Something came. The engine owes more when it has not heard all that was sent, and until it is done."""
        self._heard = max(self._heard, heard)
        more = self._end_sent or not self._exchange.accepted or self._heard < self._sent
        self._owed_since = self._loop.time() if more else None

    def _check(self) -> None:
        # One that would have us wait says so twice a second: until it has accepted, silence is short.
        left_s = self._idle_s if self._exchange.accepted else min(self._idle_s, ACCEPT_SILENCE_S)
        if self._owed_since is not None:
            left_s -= self._loop.time() - self._owed_since
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._check)
        else:
            self._exchange.cancel(errors.EngineFailed() if self._exchange.accepted else errors.EngineUnavailable())


def _passed(kind: str | None, event: pb.RecognizeEvent) -> ListenEvent | None:
    """The events that are the same on both sides."""
    if kind == "heard":
        return Heard(event.heard.samples)
    if kind == "partial":
        return PartialFound(event.partial.start_sample, event.partial.end_sample, event.partial.text)
    if kind == "speech_started":
        return SpeechStarted(event.speech_started.sample)
    if kind == "speech_ended":
        return SpeechEnded(event.speech_ended.sample)
    return Decided(event.decided.sample) if kind == "decided" else None


def _config(config: ListenConfig) -> pb.RecognizeConfig:
    return pb.RecognizeConfig(
        mode=pb.LIVE,
        sample_rate=config.sample_rate,
        first_sample=config.first_sample,
        restart_sample=config.restart_sample,
        finals=config.finals,
        language=config.language,
        model=config.model or "",
        features=config.features,
        hotwords=config.hotwords,
        num_speakers=config.num_speakers,
        max_speakers=config.max_speakers,
        speakers=config.speakers if "speakers" in config.features else None,
        interim=config.interim,
        slot_wait_ms=round(config.slot_wait_s * 1000),
    )
