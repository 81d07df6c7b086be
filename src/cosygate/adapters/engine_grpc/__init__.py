"""The Engine port over gRPC: one engine process, at one address.

`conversation.py` is a call about a recording, `listening.py` a live one, `exchange.py` what both have in common,
`status.py` what a call's end means.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from cosygate import errors
from cosygate.adapters.engine_grpc.conversation import Conversation
from cosygate.adapters.engine_grpc.listening import Listening
from cosygate.kit import tracing
from cosygate.ports.engine import (
    EngineEvent,
    EngineInfo,
    Finalize,
    ListenConfig,
    ListenEvent,
    ModelInfo,
    RecogniseConfig,
)
from cosygate.proto import speech_engine_pb2 as pb
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc

STREAMS_PER_CHANNEL = 90  # one more than the engine's max_concurrent_streams (100) would wait without a word
CHANNELS_MAX = 16
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


class _Channel:
    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self.stub: Any = pb_grpc.SpeechEngineStub(self.channel)
        self.streams = 0


class GrpcEngine:
    """Implements ports.engine.Engine. For one event loop: connections are made when they are first needed, in it."""

    def __init__(self, address: str, *, call_limit_s: float = 12 * 3600.0, describe_timeout_s: float = 5.0) -> None:
        """`address`: unix:/path or host:port. `call_limit_s` is the deadline of a call that brings none."""
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
        return EngineInfo(
            name=told.name,
            version=told.version,
            slots=told.slots,
            busy=told.slots_busy,
            models=models,
            live_slots=told.live_slots,
            live_busy=told.live_busy,
        )

    async def recognise(
        self, config: RecogniseConfig, audio: AsyncIterator[bytes], *, idle_timeout_s: float
    ) -> AsyncIterator[EngineEvent]:
        with self._stream() as stub:
            call = stub.Recognize(timeout=config.deadline_s or self._call_limit_s, metadata=_metadata(config.trace_id))
            conversation = Conversation(call, config, audio, idle_timeout_s)
            try:
                async for event in conversation.events():
                    yield event
            finally:
                await conversation.close()

    async def listen(
        self, config: ListenConfig, audio: AsyncIterator[bytes | Finalize], *, idle_timeout_s: float
    ) -> AsyncIterator[ListenEvent]:
        with self._stream() as stub:
            call = stub.Recognize(timeout=config.deadline_s or self._call_limit_s, metadata=_metadata(config.trace_id))
            listening = Listening(call, config, audio, idle_timeout_s)
            try:
                async for event in listening.events():
                    yield event
            finally:
                await listening.close()

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
    """W3C Trace Context, so that the engine's span and its log lines belong to the same trace."""
    return tuple(tracing.outgoing(trace_id).items())
