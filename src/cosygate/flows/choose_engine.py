"""Which engine takes a recording: one that is up, has the model and language, whose breaker lets it, and that is least
busy. One whose breaker has been open for long enough is given one call, which finds out: its probe.

Least busy: by the calls that this process has there now, and those of others as the engine last told. That is some
seconds old, and every gateway has heard the same: so each begins with another engine where several are as busy, and one
that had no room is tried last for a moment.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cosygate import errors
from cosygate.flows.breakers import Breakers
from cosygate.flows.honouring import fitting
from cosygate.flows.lent import Lent
from cosygate.kit import metrics
from cosygate.kit.breaker import Breaker, Phase
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.options import TranscribeOptions
from cosygate.ports.engine import Engine, EngineInfo, ModelInfo

_log = logger()
_FRESH_S = 5.0  # how long a description is believed
_FULL_S = 2.0  # how long one that had no room is tried last
_LISTENS_S = 1.0  # how long it is listened to at least before its silence means something
_STARTS_S = 5.0  # how long one that was never up may take to be
_TELL_EVERY_S = 60.0  # how often it is said that one is away
_MOMENT_S = 0.25  # how long one that was up may take to describe itself before the others are used without it


@dataclass
class _Kind:
    """Calls of one kind, about recordings or live: neither takes places of the other."""

    ours: int = 0  # now
    others: int = 0  # as the engine last told
    full_until: float = float("-inf")  # monotonic


@dataclass
class _Desk:
    """One engine as this process sees it."""

    engine: Engine
    key: str
    place: int  # among all, from 0
    info: EngineInfo | None = None  # as last heard
    heard_at: float = float("-inf")  # monotonic
    up: bool = False
    calls: _Kind = field(default_factory=_Kind)
    live_calls: _Kind = field(default_factory=_Kind)
    asking: asyncio.Task[None] | None = None
    watching: asyncio.Task[None] | None = None  # for it to say that it leaves
    tell_at: float = float("inf")  # monotonic: when it is to be told, once more, that it is away
    left: bool = False  # it is none of the engines any more
    empty: asyncio.Event = field(default_factory=asyncio.Event)  # it has left, and no call is there any more

    def fresh(self, now: float) -> bool:
        return self.up and now - self.heard_at <= _FRESH_S

    def kind(self, live: bool) -> _Kind:
        return self.live_calls if live else self.calls

    def load(self, live: bool) -> float:
        """Calls, ours and others', by its places."""
        places = (self.info.live_slots if live else self.info.slots) if self.info else 1
        kind = self.kind(live)
        return (kind.ours + kind.others) / max(1, places)

    def ended(self, live: bool) -> None:
        self.kind(live).ours -= 1
        if self.left and not self.calls.ours and not self.live_calls.ours:
            self.empty.set()

    async def ask(self) -> None:
        """Raises EngineUnavailable."""
        before = self.calls.ours, self.live_calls.ours
        self.info = info = await self.engine.describe()
        for kind, busy, ours in zip((self.calls, self.live_calls), (info.busy, info.live_busy), before, strict=True):
            # One of ours that began or ended while we asked may have been counted, or not: it is no stranger's.
            kind.others = max(0, busy - max(ours, kind.ours))


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine, for whoever looks after it."""

    key: str  # the engine's name, as metrics and logs have it
    name: str  # of the recogniser; empty until it was heard of
    version: str
    up: bool
    slots: int
    busy: int  # as it last said
    live_slots: int
    live_busy: int
    breaker: Phase
    probe_in_s: float  # how long its breaker stays open; 0 when it is not open


class EngineRoom:
    """All engines this process may call; they may change (flows/fleet.py). An engine's own line orders everybody's
    calls."""

    def __init__(self, engines: Mapping[str, Engine], clock: Clock, breakers: Breakers, *, first: int = 0) -> None:
        """`engines`: by name; `first`: the place of the one that this process begins with where several are as
        busy."""
        self._first = first
        self._desks = [_Desk(engine, key, place) for place, (key, engine) in enumerate(engines.items())]
        self._clock = clock
        self._breakers = breakers

    def join(self, key: str, engine: Engine) -> None:
        """One more engine, which is asked at once what it is, and called as soon as it has answered."""
        desk = _Desk(engine, key, len(self._desks))
        self._desks.append(desk)
        self._asking(desk)

    def leave(self, key: str) -> Awaitable[object]:
        """It gets no more calls. What is returned waits until those that it has have ended, in their own time."""
        [desk] = [desk for desk in self._desks if desk.key == key]
        self._desks.remove(desk)
        for place, other in enumerate(self._desks):
            other.place = place
        desk.left = True
        metrics.breaker_state.labels(key).set(0)  # or the last that was seen of it would be told for ever
        self._breakers.forget(key)
        for task in (desk.asking, desk.watching):
            if task is not None:
                task.cancel()
        desk.asking = desk.watching = None  # how they end refers to the desk: a cycle, which would keep connections
        if not desk.calls.ours and not desk.live_calls.ours:
            desk.empty.set()
        return desk.empty.wait()

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
            # Everybody's question: of whoever happens to ask first, its log lines know nothing.
            desk.asking = asyncio.create_task(self._ask(desk), context=contextvars.Context())
        return desk.asking

    async def _ask(self, desk: _Desk) -> None:
        try:
            await desk.ask()
        except errors.EngineUnavailable as error:
            self._away(desk, error)
            return
        desk.up, desk.heard_at, desk.tell_at = True, self._clock.monotonic(), float("inf")
        if desk.watching is None or desk.watching.done():
            desk.watching = asyncio.create_task(self._watch(desk), context=contextvars.Context())

    def _away(self, desk: _Desk, error: errors.EngineUnavailable) -> None:
        """Says so at once of one that was up, after a moment of one that was not (it may be starting), and then now and
        again."""
        now = self._clock.monotonic()
        if not desk.up and desk.tell_at == float("inf"):
            desk.tell_at = now + _STARTS_S
        if desk.up or now >= desk.tell_at:
            _log.warning("engine.away", engine=desk.key, detail=error.why or error.detail)
            desk.tell_at = now + _TELL_EVERY_S
        desk.up = False

    async def _watch(self, desk: _Desk) -> None:
        began = self._clock.monotonic()
        try:
            await desk.engine.leaving()
            _log.info("engine.leaving", engine=desk.key)
            desk.up = False
        except errors.EngineUnavailable:
            if self._clock.monotonic() - began < _LISTENS_S:
                return  # it answers, and yet cannot be listened to: it is called all the same
        desk.heard_at = float("-inf")  # ask before believing it again

    def infos(self) -> list[tuple[EngineInfo, bool]]:
        """Every engine heard of, and whether it is up."""
        return [(d.info, d.up) for d in self._desks if d.info]

    def models(self) -> list[ModelInfo]:
        """What the engines heard of can do. Two may have a model of the same name, and not tell the same of it."""
        return [m for info, _ in self.infos() for m in info.models]

    def slots(self) -> int:
        return sum(d.info.slots for d in self._desks if d.info and d.up)

    def busy(self) -> int:
        """Slots taken by anybody's calls, as the engines last said."""
        return sum(d.info.busy for d in self._desks if d.info and d.up)

    def status(self) -> list[EngineStatus]:
        """Every engine, as far as it is known now."""
        now = self._clock.monotonic()
        return [_status(desk, self._breakers.of(desk.key), now) for desk in self._desks]

    def blocked_s(self) -> float:
        """Seconds until any engine may be called again; 0 when one may be now, if only by a probe: somebody has to come
        for it to be made."""
        return self._breakers.blocked_s(desk.key for desk in self._desks)

    def pause_s(self) -> float:
        """Seconds for which it makes no sense to claim a job: each engine's breaker is open, or waits for its probe."""
        return self._breakers.pause_s(desk.key for desk in self._desks)

    @asynccontextmanager
    async def borrow(
        self, options: TranscribeOptions, *, live: bool = False, suspect: bool = False
    ) -> AsyncIterator[Lent]:
        """The least busy fitting engine, counted as busy until the context ends. Raises EngineUnavailable, BreakerOpen,
        or EngineRefused when every engine is known and no model of theirs fits: waiting would not help.
        `suspect`: of a recording, or a live session's sound, that has failed before; it makes no probe while another
        engine is healthy."""
        await self.refresh()
        now = self._clock.monotonic()
        found = {d.key: fitting(d.info.models, options, live=live) for d in self._desks if d.info}
        models = {key: model for key, model in found.items() if model}
        fit = [d for d in self._desks if d.fresh(now) and d.key in models]
        if not fit:
            if self._desks and all(d.info and d.key not in models for d in self._desks):
                raise errors.EngineRefused("no engine here has this model, or can tell with it what was asked for")
            raise errors.EngineUnavailable()
        desk, probe = await self._choose(fit, live, suspect)
        lent = Lent(desk.engine, desk.key, models[desk.key], self._breakers, probe=probe, heard_at=desk.heard_at)
        if desk.left:  # while the probe was taken
            lent.give_back()
            raise errors.EngineUnavailable()
        desk.kind(live).ours += 1
        try:
            yield lent
        except (errors.EngineUnavailable, errors.EngineFailed) as error:
            if isinstance(error, errors.EngineBusy):
                desk.kind(live).full_until = self._clock.monotonic() + _FULL_S
            desk.heard_at = float("-inf")  # ask before believing it again
            raise
        finally:
            lent.give_back()
            desk.ended(live)

    async def _choose(self, fit: list[_Desk], live: bool, suspect: bool) -> tuple[_Desk, str]:
        """With the probe that its call is to be, if it is one. Raises BreakerOpen."""
        now = self._clock.monotonic()
        breakers = {desk.key: self._breakers.of(desk.key) for desk in fit}
        healthy = [desk for desk in fit if breakers[desk.key].phase(now) is Phase.CLOSED]
        if not (suspect and healthy):
            for desk in fit:
                breaker = breakers[desk.key]
                due = breaker.phase(now) is Phase.HALF_OPEN and breaker.callable(now)
                if due and (probe := await self._breakers.probe(desk.key)):
                    return desk, probe
        if not healthy:
            # One that is away may be back any moment, and then nobody needs to wait for a probe.
            wait_s = 0.0 if len(fit) < len(self._desks) else min(b.wait_s(now) for b in breakers.values())
            raise errors.BreakerOpen(retry_after=max(1, math.ceil(wait_s)))
        return min(healthy, key=lambda d: self._order(d, live, now)), ""

    def _order(self, desk: _Desk, live: bool, now: float) -> tuple[bool, float, int, int]:
        """The engine that has the least of this is called. Of two that are as busy, where fewer calls are ours: the
        others may not have heard of them."""
        kind = desk.kind(live)
        return now < kind.full_until, desk.load(live), kind.ours, (desk.place - self._first) % len(self._desks)


def _status(desk: _Desk, breaker: Breaker, now: float) -> EngineStatus:
    info = desk.info
    return EngineStatus(
        key=desk.key,
        name=info.name if info else "",
        version=info.version if info else "",
        up=desk.up,
        slots=info.slots if info else 0,
        busy=info.busy if info else 0,
        live_slots=info.live_slots if info else 0,
        live_busy=info.live_busy if info else 0,
        breaker=breaker.phase(now),
        probe_in_s=breaker.wait_s(now),
    )
