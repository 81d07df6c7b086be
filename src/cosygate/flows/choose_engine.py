"""Which engine takes a recording: one that is up, has the model and language, and is least busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cosygate import errors
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.options import TranscribeOptions
from cosygate.ports.engine import Engine, EngineInfo, ModelInfo

_log = logger()
_FRESH_S = 5.0  # how long a description is believed
_MOMENT_S = 0.25  # how long one that was up may take to describe itself before the others are used without it


@dataclass
class _Desk:
    """One engine as this process sees it."""

    engine: Engine
    info: EngineInfo | None = None  # as last heard
    heard_at: float = float("-inf")  # monotonic
    up: bool = False
    calls: int = 0  # ours, now, but for live ones: they take no slots
    live_calls: int = 0
    asking: asyncio.Task[None] | None = None

    def fresh(self, now: float) -> bool:
        return self.up and now - self.heard_at <= _FRESH_S

    def load(self, live: bool) -> float:
        places = (self.info.live_slots if live else self.info.slots) if self.info else 1
        return (self.live_calls if live else self.calls) / max(1, places)

    def begin(self, live: bool, count: int) -> None:
        if live:
            self.live_calls += count
        else:
            self.calls += count


class EngineRoom:
    """All engines this process may call. Knows only its own calls; an engine's own line orders everybody's."""

    def __init__(self, engines: Sequence[Engine], clock: Clock) -> None:
        self._desks = [_Desk(e) for e in engines]
        self._clock = clock

    async def refresh(self, *, force: bool = False) -> None:
        """Asks every engine that was not heard of lately what it is. Never raises: an engine that is away is down. One
        that hangs holds nobody up who has another."""
        now = self._clock.monotonic()
        asked = {self._asking(desk): desk.up for desk in self._desks if force or not desk.fresh(now)}
        pending = set(asked)
        while pending and not any(desk.fresh(now) for desk in self._desks):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if late := {task for task in pending if asked[task]}:
            await asyncio.wait(late, timeout=_MOMENT_S)

    def _asking(self, desk: _Desk) -> asyncio.Task[None]:
        """One question at a time, however many wait for its answer."""
        if desk.asking is None or desk.asking.done():
            desk.asking = asyncio.create_task(self._ask(desk))
        return desk.asking

    async def _ask(self, desk: _Desk) -> None:
        try:
            desk.info = await desk.engine.describe()
            desk.up, desk.heard_at = True, self._clock.monotonic()
        except errors.EngineUnavailable as error:
            if desk.up:
                _log.warning("engine.away", detail=error.detail)
            desk.up = False

    def infos(self) -> list[tuple[EngineInfo, bool]]:
        """Every engine heard of, and whether it is up."""
        return [(d.info, d.up) for d in self._desks if d.info]

    def models(self) -> list[ModelInfo]:
        """What the engines heard of can do, each model once."""
        return list({m.name: m for info, _ in self.infos() for m in info.models}.values())

    def slots(self) -> int:
        return sum(d.info.slots for d in self._desks if d.info and d.up)

    def busy(self) -> int:
        """Slots taken by anybody's calls, as the engines last said."""
        return sum(d.info.busy for d in self._desks if d.info and d.up)

    def blocked_s(self) -> float:
        """Seconds until any engine may be called again; 0 when one may be now."""
        return 0.0

    @asynccontextmanager
    async def borrow(self, options: TranscribeOptions, *, live: bool = False) -> AsyncIterator[Engine]:
        """The least busy fitting engine, counted as busy until the context ends. Raises EngineUnavailable, or
        EngineRefused when every engine is known and none has the model and language: waiting would not help."""
        await self.refresh()
        now = self._clock.monotonic()
        fitting = [d for d in self._desks if d.fresh(now) and d.info and _fits(d.info, options, live)]
        if not fitting:
            if self._desks and all(d.info and not _fits(d.info, options, live) for d in self._desks):
                raise errors.EngineRefused("no engine here has this model, or recognises this language with it")
            raise errors.EngineUnavailable()
        desk = min(fitting, key=lambda d: d.load(live))
        desk.begin(live, 1)
        try:
            yield desk.engine
        except (errors.EngineUnavailable, errors.EngineFailed):
            desk.heard_at = float("-inf")  # ask before believing it again
            raise
        finally:
            desk.begin(live, -1)


def _fits(info: EngineInfo, options: TranscribeOptions, live: bool) -> bool:
    return any(
        options.model in (None, m.name) and m.speaks(options.language) and (m.live or not live) for m in info.models
    )
