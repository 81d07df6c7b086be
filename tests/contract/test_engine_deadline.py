"""A call's deadline travels with it: the engine knows how long anybody will wait for what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cosygate import errors
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.ports.engine import ListenConfig, RecogniseConfig
from cosygate.proto import speech_engine_pb2 as pb
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc


class Listener(pb_grpc.SpeechEngineServicer):
    """An engine that notes how long each call may take, and works for `takes_s`."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self.takes_s = 0.0

    async def Recognize(self, _messages: Any, context: Any) -> None:  # type: ignore[override]
        self.told.append(context.time_remaining())
        await context.write(pb.RecognizeEvent(accepted=pb.Accepted()))
        await asyncio.sleep(self.takes_s)
        await context.write(pb.RecognizeEvent(done=pb.Done(engine="own", model="own", version="1")))


@pytest.fixture
async def listener() -> Listener:
    return Listener()


@pytest.fixture
async def engine(listener: Listener, tmp_path: Path) -> AsyncIterator[GrpcEngine]:
    server, address = grpc.aio.server(), f"unix:{tmp_path}/s"
    pb_grpc.add_SpeechEngineServicer_to_server(listener, server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(address)
    await server.start()
    made = GrpcEngine(address)
    yield made
    await made.close()
    await server.stop(0)


async def no_audio() -> AsyncIterator[bytes]:
    return
    yield


async def test_the_engine_sees_how_long_it_has(engine: GrpcEngine, listener: Listener) -> None:
    for deadline_s in (100.0, 2000.0, 0.0):
        async for _ in engine.recognise(RecogniseConfig(deadline_s=deadline_s), no_audio(), idle_timeout_s=5):
            pass
    async for _ in engine.listen(ListenConfig(16_000, deadline_s=300.0), no_audio(), idle_timeout_s=5):
        pass
    for told, given in zip(listener.told, (100, 2000, 12 * 3600, 300), strict=True):
        assert given - 20 < told <= given * 1.01  # long times are rounded on the wire


async def test_a_call_ends_with_its_deadline(engine: GrpcEngine, listener: Listener) -> None:
    listener.takes_s = 60
    async with asyncio.timeout(20):
        with pytest.raises(errors.EngineFailed):
            async for _ in engine.recognise(RecogniseConfig(deadline_s=0.3), no_audio(), idle_timeout_s=30):
                pass
