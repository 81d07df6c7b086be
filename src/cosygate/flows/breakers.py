"""The engines' circuit breakers as this process uses them: looks at them, tells them how calls ended, takes probes.

What cannot be told at once, because another process was stopped in the middle of telling, is kept and counted here
meanwhile, and told as soon as that can be done.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cosygate.kit.backoff import Backoff
from cosygate.kit.breaker import JITTER, WINDOW_S, Breaker
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import logger
from cosygate.ports.breaker import BoardBusy, BreakerBoard

_log = logger()
_UNTOLD_MAX = 200  # outcomes of one engine's calls that wait to be told; what comes beyond them is not counted
_PROBE_TAKEN_S = 0.5  # how long to wait before asking again whether somebody's probe has told something

Step = Callable[[Breaker], Breaker]


@dataclass
class _Untold:
    steps: list[tuple[float, Step]] = field(default_factory=list)  # when, and what
    telling: asyncio.Task[None] | None = None
    told: Breaker | None = None  # the board's, on which `seen` was built
    seen: Breaker = field(default_factory=Breaker)  # with the first `applied` of `steps`
    applied: int = 0


class Breakers:
    def __init__(self, board: BreakerBoard, clock: Clock, randomness: Randomness, *, open_s: float = 60.0) -> None:
        """`open_s`: how long a breaker stays open, give or take a tenth."""
        self._board = board
        self._clock = clock
        self._randomness = randomness
        self._open_s = open_s
        self._untold: dict[str, _Untold] = {}  # by engine
        self._backoff = Backoff(first_s=0.05, longest_s=1.0)

    def of(self, engine: str) -> Breaker:
        told, untold = self._board.look(engine), self._of(engine)
        if untold.told is not told:
            untold.told, untold.seen, untold.applied = told, told, 0
        for _, step in untold.steps[untold.applied :]:
            untold.seen = step(untold.seen)
        untold.applied = len(untold.steps)
        return untold.seen

    def forget(self, engine: str) -> None:
        """It is called no more. What is known of it stays on the board."""
        untold = self._untold.get(engine)
        if untold is not None and not untold.steps:
            del self._untold[engine]

    def _of(self, engine: str) -> _Untold:
        return self._untold.setdefault(engine, _Untold())

    def blocked_s(self, engines: Iterable[str]) -> float:
        """Seconds until no breaker keeps calls from all of `engines`; 0 when one may be called, or could be by a
        probe."""
        now = self._clock.monotonic()
        return self._least(engines, lambda breaker: breaker.wait_s(now))

    def pause_s(self, engines: Iterable[str]) -> float:
        """Seconds for which no call can begin: as `blocked_s`, but also while each probe is taken."""
        now = self._clock.monotonic()
        return self._least(engines, lambda b: 0.0 if b.callable(now) else (b.wait_s(now) or _PROBE_TAKEN_S))

    def _least(self, engines: Iterable[str], seconds: Callable[[Breaker], float]) -> float:
        least = float("inf")
        for engine in engines:
            least = min(least, seconds(self.of(engine)))
            if least <= 0:
                break  # the usual case, at the first engine
        return least if least < float("inf") else 0.0

    async def probe(self, engine: str) -> str:
        """The name of a probe that is now this process's to make; empty when there is none to be had: also while
        another process is stopped in the middle of a change, since two could not know of each other's."""
        who = self._randomness.token(8).hex()
        now = self._clock.monotonic()
        try:
            after = await self._change(engine, [(now, lambda breaker: breaker.probing(now, who))])
        except BoardBusy:
            return ""
        except asyncio.CancelledError:  # it may have been taken all the same
            self.released(engine, who)
            raise
        if after.probe != who:
            return ""
        _log.info("breaker.probing", engine=engine)
        return who

    def heard(self, engine: str, who: str) -> None:
        """An engine told something in a probe; for every such event. The others learn of it every few seconds."""
        now, known = self._clock.monotonic(), self.of(engine)
        if known.heard(now, who) is not known:
            self._tell(engine, now, lambda breaker: breaker.heard(now, who))

    def now(self) -> float:
        """On the breakers' clock."""
        return self._clock.monotonic()

    def released(self, engine: str, who: str) -> None:
        """A probe that told nothing."""
        self._tell(engine, self._clock.monotonic(), lambda breaker: breaker.released(who))

    def succeeded(self, engine: str, who: str = "") -> None:
        """`who`: the probe that it was, if it was one."""
        now, open_s = self._clock.monotonic(), self._draw()
        self._tell(engine, now, lambda breaker: breaker.succeeded(now, who, open_s=open_s))

    def failed(self, engine: str, who: str = "") -> None:
        now, open_s = self._clock.monotonic(), self._draw()
        self._tell(engine, now, lambda breaker: breaker.failed(now, who, open_s=open_s))

    def gone(self, engine: str, who: str = "", *, heard_at: float) -> None:
        """The engine's process was found gone by somebody who last heard of it at `heard_at`."""
        now, open_s = self._clock.monotonic(), self._draw()
        self._tell(engine, now, lambda breaker: breaker.gone(now, who, heard_at=heard_at, open_s=open_s))

    def excused(self, engine: str) -> None:
        """The engine's process is gone, by the doing of a recording that is known for it."""
        self._tell(engine, self._clock.monotonic(), lambda breaker: breaker.excused(self._clock.monotonic()))

    def _draw(self) -> float:
        return self._open_s * self._randomness.uniform(1 - JITTER, 1 + JITTER)

    def _tell(self, engine: str, now: float, step: Step) -> None:
        untold = self._of(engine)
        if len(untold.steps) < _UNTOLD_MAX:
            untold.steps.append((now, step))
        if untold.telling is None or untold.telling.done():
            # It tells for all who come meanwhile: of whoever happens to be the first, its log lines know nothing.
            untold.telling = asyncio.create_task(self._told(engine), context=contextvars.Context())

    async def _told(self, engine: str) -> None:
        untold, failures = self._of(engine), 0
        while untold.steps:
            telling = list(untold.steps)
            try:
                await self._change(engine, telling)
            except BoardBusy:
                await self._clock.sleep(self._backoff.delay(failures, self._randomness))
                failures += 1
                continue
            del untold.steps[: len(telling)]
            untold.told = None

    async def _change(self, engine: str, steps: list[tuple[float, Step]]) -> Breaker:
        oldest, before = self._clock.monotonic() - WINDOW_S, Breaker()

        def all_of_them(breaker: Breaker) -> Breaker:
            nonlocal before
            before = breaker
            for at, step in steps:
                if at >= oldest:  # else it would be out of the window, too, had it been told in time
                    breaker = step(breaker)
            return breaker

        after = await self._board.change(engine, all_of_them)
        if after.open_until is None and before.open_until is not None:
            _log.info("breaker.closed", engine=engine)
        elif after.open_until is not None and after.open_until != before.open_until:
            _log.error("breaker.opened", engine=engine, open_s=round(after.wait_s(self._clock.monotonic()), 1))
        return after
