"""Live calls to real engines, and what the port promises of every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from cosygate.adapters.engine_grpc import GrpcEngine
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
from tests.support.engine_process import EngineProcess

RATE = 16_000
Piece = bytes | Finalize
# One-second pieces. An utterance of 0.5 s hangs, one of 0.25 s kills the engine, others fail by their length.
SCRIPT: dict[str, Any] = {
    "texts": ["one", "two", "", "four"],
    "segment_s": 1.0,
    "languages": ["en"],
    "rules": [
        {"when": {"seconds": [0.5, 0.5]}, "do": "hang"},
        {"when": {"seconds": [0.25, 0.25]}, "do": "crash"},
        {"when": {"seconds": [0.3, 0.3]}, "do": "fail"},
        {"when": {"seconds": [0.31, 0.31]}, "do": "fail", "status": "INVALID_ARGUMENT"},
    ],
}


@asynccontextmanager
async def engine_at(process: EngineProcess) -> AsyncIterator[GrpcEngine]:
    engine = GrpcEngine(process.address)
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def held(engine: GrpcEngine, said: bytes = bytes(3200)) -> AsyncIterator[AsyncIterator[ListenEvent]]:
    """A live call that goes on."""

    async def quiet() -> AsyncIterator[Piece]:
        yield said
        await asyncio.Event().wait()

    async with aclosing(engine.listen(ListenConfig(RATE), quiet(), idle_timeout_s=5)) as call:  # type: ignore[type-var]  # a generator
        assert isinstance(await anext(call), Accepted)
        yield call


async def sent(*pieces: Piece, every_s: float = 0.0) -> AsyncIterator[Piece]:
    for piece in pieces:
        if every_s:
            await asyncio.sleep(every_s)
        yield piece


def frames(pcm: bytes, samples: int = 1600) -> list[Piece]:
    return [pcm[at : at + 2 * samples] for at in range(0, len(pcm), 2 * samples)]


async def listen(
    engine: GrpcEngine, pieces: Sequence[Piece], *, every_s: float = 0.0, idle_timeout_s: float = 20.0, **config: Any
) -> list[ListenEvent]:
    told = ListenConfig(**{"sample_rate": RATE, **config})
    events = engine.listen(told, sent(*pieces, every_s=every_s), idle_timeout_s=idle_timeout_s)
    return [event async for event in events]


def finals(events: Sequence[ListenEvent]) -> list[FinalFound]:
    return [e for e in events if isinstance(e, FinalFound)]


def restarts(events: Sequence[ListenEvent]) -> list[int]:
    ends = (e.end_sample if isinstance(e, FinalFound) else getattr(e, "sample", 0) for e in events if _restarts(e))
    return list(ends)


def _restarts(event: ListenEvent) -> bool:
    return isinstance(event, FinalFound | Decided)


def in_order(events: Sequence[ListenEvent]) -> None:
    """What the port promises of every call."""
    assert isinstance(events[0], Accepted)
    assert isinstance(events[-1], Done)
    decided, heard, began, ended = 0, 0, None, False
    for event in events[1:-1]:
        if isinstance(event, Heard):
            assert event.sample >= heard
            heard = event.sample
        elif isinstance(event, SpeechStarted):
            assert event.sample >= decided
            began, ended = event.sample, False
        elif isinstance(event, PartialFound):
            assert began is not None
            assert not ended
            assert began <= event.start_sample < event.end_sample
        elif isinstance(event, SpeechEnded):
            assert began is not None
            assert event.sample > began
            ended = True
        elif isinstance(event, FinalFound):
            assert decided <= event.start_sample < event.end_sample
            decided, began = event.end_sample, None
        elif isinstance(event, Decided):
            assert event.sample > decided
            decided, began = event.sample, None
