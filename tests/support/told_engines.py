"""A room of engines that do as told, for tests of their breakers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest

from cosygate import errors
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.lent import Lent
from cosygate.kit.breaker import Phase
from cosygate.model.options import TranscribeOptions
from cosygate.model.transcript import EngineName, Segment
from cosygate.ports.engine import (
    Accepted,
    Done,
    EngineEvent,
    EngineInfo,
    Finalize,
    Heard,
    ListenConfig,
    ListenEvent,
    ModelInfo,
    Progress,
    RecogniseConfig,
    SegmentFound,
)
from tests.support.breakers import breakers, numbered
from tests.support.clock import MovedClock

NAME = EngineName("told", "told", "1")
WORDS = SegmentFound(Segment(0, 0.0, 1.0, "words"))


class ToldEngine:
    """Its calls tell these events, and end in this error."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.events: list[EngineEvent] = [Accepted(0), Progress(10), WORDS]
        self.heard: list[ListenEvent] = [Accepted(0), Heard(10)]
        self.hold: asyncio.Event | None = None  # before the end
        self.pace_s = 0.0  # before each event
        self.clock: MovedClock | None = None
        self.calls = 0
        self.away = False

    async def leaving(self) -> None:
        await asyncio.Event().wait()

    async def describe(self) -> EngineInfo:
        if self.away:
            raise errors.EngineUnavailable
        models = (ModelInfo("told", ("*",), live=True),)
        return EngineInfo("told", "1", slots=2, busy=1, models=models, live_slots=9, live_busy=3)

    async def recognise(
        self, config: RecogniseConfig, audio: AsyncIterator[bytes], *, idle_timeout_s: float
    ) -> AsyncIterator[EngineEvent]:
        self.calls += 1
        for event in self.events:
            await self._pace()
            yield event
        await self._end()
        yield Done(NAME, 10)

    async def listen(
        self, config: ListenConfig, audio: AsyncIterator[bytes | Finalize], *, idle_timeout_s: float
    ) -> AsyncIterator[ListenEvent]:
        self.calls += 1
        for event in self.heard:
            await self._pace()
            yield event
        await self._end()
        yield Done(NAME, 10)

    async def _pace(self) -> None:
        if self.pace_s:
            assert self.clock is not None
            await self.clock.sleep(self.pace_s)

    async def _end(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error


async def no_audio() -> AsyncIterator[bytes]:
    return
    yield


class Room:
    def __init__(self, engines: int = 1) -> None:
        self.clock = MovedClock()
        self.engines = [ToldEngine() for _ in range(engines)]
        for engine in self.engines:
            engine.clock = self.clock
        self.breakers = breakers(self.clock)
        self.room = EngineRoom(numbered(*self.engines), self.clock, self.breakers)

    def phase(self, number: int = 0) -> Phase:
        return self.room.status()[number].breaker

    async def call(self, *, alone: bool = False, suspect: bool = False) -> int:
        """A recording's call; the number of its engine."""
        async with self.room.borrow(TranscribeOptions(), suspect=suspect) as lent:
            number = self._number(lent)
            calls = lent.recognise(RecogniseConfig(alone=alone), no_audio(), idle_timeout_s=5)
            async with aclosing(calls):  # type: ignore[type-var]
                async for _ in calls:
                    pass
        return number

    async def listen(self, *, suspect: bool = False) -> int:
        async with self.room.borrow(TranscribeOptions(), live=True, suspect=suspect) as lent:
            number = self._number(lent)
            events = lent.listen(ListenConfig(16_000, suspect=suspect), no_audio(), idle_timeout_s=5)
            async with aclosing(events):  # type: ignore[type-var]
                async for _ in events:
                    pass
        return number

    def _number(self, lent: Lent) -> int:
        return next(n for n, engine in enumerate(self.engines) if engine is lent._engine)

    async def fails(self, call: Callable[[], Awaitable[object]], error: Exception | None = None) -> None:
        for engine in self.engines:
            engine.error = error or errors.EngineFailed()
        with pytest.raises(type(error or errors.EngineFailed())):
            await call()
        for engine in self.engines:
            engine.error = None

    async def open(self, number: int = 0) -> None:
        for _ in range(5):
            self.breakers.failed(str(number))
        await self.clock.advance(0)
        assert self.phase(number) is Phase.OPEN


def gone(error: type[errors.EngineFailed] | type[errors.EngineUnavailable]) -> Exception:
    made = error()
    made.gone = True
    return made
