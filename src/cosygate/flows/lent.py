"""An engine in the hands of one borrower. What becomes of the calls decides whether others will be made: this is where
the end of a call gets its meaning for the engine's breaker.

- It ended well, or (live) decided something, or (a probe) found words: a success.
- The engine failed, hung, or could not be reached: a failure. Its death is one, however many calls it ended.
- It was busy, shut down in order, or refused what the caller asked for; the call was cancelled, or its audio could not
  be decoded: nothing. Nor when a recording fails again that has failed before, or a live session at the same place:
  that tells more of it than of the engine, and else two bad recordings on a quiet server would shut everybody out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from cosygate import errors
from cosygate.flows.breakers import Breakers
from cosygate.ports.engine import (
    Accepted,
    Decided,
    Done,
    Engine,
    EngineEvent,
    EngineInfo,
    FinalFound,
    Finalize,
    ListenConfig,
    ListenEvent,
    ModelInfo,
    PartialFound,
    RecogniseConfig,
    SegmentFound,
)

_DECISIONS = (Decided, PartialFound, FinalFound, Done)  # a live call may go on for hours: this is what it is for


class Lent:
    """Implements ports.engine.Engine."""

    def __init__(
        self, engine: Engine, key: str, model: ModelInfo, breakers: Breakers, *, probe: str, heard_at: float
    ) -> None:
        """`key`: the engine's name; `model`: the one of its models to use; `probe`: the probe that its first call is;
        `heard_at`: when the engine was last heard of, before that."""
        self._engine = engine
        self.key = key
        self.model = model
        self._breakers = breakers
        self._probe = probe
        self._heard_at = heard_at
        self.called = False  # whether there was any call

    async def describe(self) -> EngineInfo:
        return await self._engine.describe()

    async def leaving(self) -> None:
        await self._engine.leaving()

    async def recognise(
        self, config: RecogniseConfig, audio: AsyncIterator[bytes], *, idle_timeout_s: float
    ) -> AsyncIterator[EngineEvent]:
        self.called = True
        told = False
        try:
            events = self._engine.recognise(config, audio, idle_timeout_s=idle_timeout_s)
            async with aclosing(events):  # type: ignore[type-var]  # the port's iterators are generators
                async for event in events:
                    self._heard(event)
                    if not told and isinstance(event, (Done, SegmentFound) if self._probe else Done):
                        told = self._works()
                    yield event
        except errors.CosyGateError as error:
            self._ended(error, known_for_it=config.alone)
            raise

    async def listen(
        self, config: ListenConfig, audio: AsyncIterator[bytes | Finalize], *, idle_timeout_s: float
    ) -> AsyncIterator[ListenEvent]:
        self.called = True
        told = False
        try:
            events = self._engine.listen(config, audio, idle_timeout_s=idle_timeout_s)
            async with aclosing(events):  # type: ignore[type-var]  # the port's iterators are generators
                async for event in events:
                    self._heard(event)
                    if not told and isinstance(event, _DECISIONS):
                        told = self._works()
                    yield event
        except errors.CosyGateError as error:
            self._ended(error, known_for_it=config.suspect)
            raise

    def give_back(self) -> None:
        """A probe that has told nothing is somebody else's to make."""
        if self._probe:
            self._breakers.released(self.key, self._probe)

    def _heard(self, event: EngineEvent | ListenEvent) -> None:
        if isinstance(event, Accepted):
            # By the process that has the call: if an earlier one's death was counted before, this one's is another.
            self._heard_at = self._breakers.now()
        if self._probe:
            self._breakers.heard(self.key, self._probe)

    def _works(self) -> bool:
        self._breakers.succeeded(self.key, self._probe)
        self._probe = ""
        return True

    def _ended(self, error: errors.CosyGateError, *, known_for_it: bool) -> None:
        if isinstance(error, errors.EngineBusy | errors.EngineLeaving):
            return
        if not isinstance(error, errors.EngineUnavailable | errors.EngineFailed):
            return
        if known_for_it and not self._probe:
            if error.gone:  # nor does it count for those whose calls ended with the same death
                self._breakers.excused(self.key)
            return
        if error.gone:
            self._breakers.gone(self.key, self._probe, heard_at=self._heard_at)
        else:
            self._breakers.failed(self.key, self._probe)
        self._probe = ""
