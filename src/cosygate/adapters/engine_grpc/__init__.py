"""The Engine port over gRPC: one engine process, at one address.

`channels.py` are its connections, `tls.py` how they are encrypted; `conversation.py` is a call about a recording,
`listening.py` a live one, `exchange.py` what both have in common, `status.py` what a call's end means.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cosygate import errors
from cosygate.adapters.engine_grpc.channels import IDLE_S, Channels
from cosygate.adapters.engine_grpc.conversation import Conversation
from cosygate.adapters.engine_grpc.listening import Listening
from cosygate.adapters.engine_grpc.tls import Tls
from cosygate.kit import tracing
from cosygate.ports.engine import (
    CAPABILITIES,
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

_SERVICE = pb.DESCRIPTOR.services_by_name["SpeechEngine"].full_name
_WATCH_S = 60.0  # of one question about an engine's health: behind a proxy the next may be about another engine
_WHY_MAX = 300


class GrpcEngine:
    """Implements ports.engine.EngineConnection. For one event loop: connections are made when they are first needed, in
    it."""

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | None = None,
        call_limit_s: float = 12 * 3600.0,
        describe_timeout_s: float = 5.0,
        keepalive_s: float = 10.0,
        idle_s: float = IDLE_S,
    ) -> None:
        """`address`: unix:/path or host:port. `call_limit_s` is the deadline of a call that brings none. `keepalive_s`:
        a host that vanished is noticed after twice as long at most; not below 5 s, which engines take for an attack.
        `idle_s`: how long connections are kept that no call needs."""
        self._channels = Channels(address, tls, keepalive_s=keepalive_s, idle_s=idle_s)
        self._call_limit_s = call_limit_s
        self._describe_timeout_s = describe_timeout_s

    async def describe(self) -> EngineInfo:
        with self._stream() as stub:
            try:
                told = await stub.Describe(pb.DescribeRequest(), timeout=self._describe_timeout_s)
            except grpc.aio.AioRpcError as error:
                raise self._unavailable(error) from error
        models = tuple(
            ModelInfo(
                name=model.name,
                languages=tuple(model.languages),
                **{name: name in model.capabilities for name in CAPABILITIES},
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

    async def leaving(self) -> None:
        while True:
            with self._channels.stream() as channel:
                watch = health_pb2_grpc.HealthStub(channel).Watch(
                    health_pb2.HealthCheckRequest(service=_SERVICE), timeout=_WATCH_S
                )
                try:
                    async for told in watch:
                        if told.status != health_pb2.HealthCheckResponse.SERVING:
                            return
                    raise errors.EngineUnavailable()
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                        break
                    if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        raise self._unavailable(error) from error
                finally:
                    watch.cancel()
        await asyncio.Event().wait()  # it cannot say

    async def close(self) -> None:
        """Ends all calls and connections."""
        await self._channels.close()

    @contextlib.contextmanager
    def _stream(self) -> Iterator[Any]:
        """A stub on a connection with room for one more call."""
        with self._channels.stream() as channel:
            yield pb_grpc.SpeechEngineStub(channel)

    def _unavailable(self, error: grpc.aio.AioRpcError) -> errors.EngineUnavailable:
        """With what gRPC says of it, for the log."""
        said = "".join(c if c.isprintable() else " " for c in error.details() or "")
        if said.endswith("Socket closed"):  # all that is heard of a handshake which the other side gave up
            mine = "TLS is spoken to it: it may not, or not know this certificate" if self._channels.encrypted else ""
            said = f"{said} ({mine or 'TLS is not spoken to it: it may want that'})"
        unavailable = errors.EngineUnavailable()
        unavailable.why = f"{error.code().name}: {said}"[:_WHY_MAX]
        return unavailable


def _metadata(trace_id: str) -> tuple[tuple[str, str], ...]:
    """W3C Trace Context, so that the engine's span and its log lines belong to the same trace."""
    return tuple(tracing.outgoing(trace_id).items())
