"""The board in Redis: this process's copy, what keeps it fresh, and how it is changed.

Whoever looks sees this process's copy. It is read anew every quarter of a second, so it is that old at most while Redis
answers, and an answer's time older. A change goes to Redis at once, if the field's token is still that of the copy; if
not, it is made again on what is there. It carries a moment by Redis's clock after which it is void: what Redis reads
late, because it was stopped or far behind, changes nothing behind its caller's back. One that was made and whose answer
nobody waited for is taken back, unless somebody else has built on it meanwhile: then its outcomes count, and once more
when they are told again. Changes that come while one is on its way go together.

When Redis is away, the copy stays. For the first seconds changes are refused: what they would have told is kept by
whoever tells it (flows/breakers.py). After that this process goes on alone, with the copy as its own; once Redis is
back it tells what has become of it, unless others have told something else by then.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from redis.asyncio import Redis
from redis.exceptions import RedisError

from cosygate.adapters.breaker_redis.place import TOKEN, Place, Value
from cosygate.kit.breaker import Breaker
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import logger
from cosygate.ports.breaker import BoardBusy

ALONE_S = 5.0
_log = logger()
_LOOK_EVERY_S = 0.25
_LOOK_S = 0.5  # for its answer
_CHANGE_S = 0.08  # for all tries of one change
_TRIES = 8
_WAITING = 1_000  # changes of one engine at once

_CLOSED = Breaker()
Step = Callable[[Breaker], Breaker]


@dataclass(frozen=True, slots=True)
class _Seen:
    token: str = ""  # none: nothing is there
    breaker: Breaker = _CLOSED
    untold: bool = False  # changed alone since
    unsure: str = ""  # the token of a change that was given up: nobody was told that it was made
    change: int = 0  # how many had ended when this was seen


@dataclass(slots=True)
class _Line:
    """Changes of one engine."""

    waiting: list[tuple[Step, asyncio.Future[Breaker]]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


_NOTHING = _Seen()


class RedisBreakers:
    """Implements ports.breaker.BreakerBoard, for one event loop. `change` waits for 80 ms at most, and while another
    change of the same engine is on its way for twice that; not at all when Redis is known to be away."""

    def __init__(
        self,
        client: Redis,
        clock: Clock,
        randomness: Randomness,
        *,
        prefix: str = "cosygate:",
        alone_s: float = ALONE_S,
    ) -> None:
        """`client`: answers in bytes, and is closed by whoever made it. `prefix`: of all keys. `alone_s`: seconds
        without Redis, after which this process goes on alone."""
        self._place = Place(client, clock, prefix)
        self._clock = clock
        self._randomness = randomness
        self._seen: dict[str, _Seen] = {}  # by engine: those that anybody has changed
        self._changes = 0
        self._lines: dict[str, _Line] = {}
        self._away_since: float | None = None  # of real time, as all waiting here; None: it is there
        self._told_away = False
        self._keeping: asyncio.Task[None] | None = None
        self._alone_s = alone_s
        self._closed = False

    def start(self) -> None:
        """Begins to look; in a running event loop. What others know is known some milliseconds later."""
        self._keeping = asyncio.create_task(self._keep(), context=contextvars.Context())

    async def close(self) -> None:
        """`look` shows what was seen last; `change` raises BoardBusy."""
        self._closed = True
        lines = list(self._lines.values())
        tasks = [task for task in (self._keeping, *(line.task for line in lines)) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for line in lines:  # of those that had not begun
            _refuse(line.waiting, None)

    def look(self, engine: str) -> Breaker:
        return self._seen.get(engine, _NOTHING).breaker

    async def change(self, engine: str, step: Step) -> Breaker:
        if self._closed:
            raise BoardBusy
        if self._away_since is not None:
            if time.monotonic() - self._away_since < self._alone_s:
                raise BoardBusy
            return self._change_alone(engine, step)
        if not self._place.known:  # not begun
            raise BoardBusy
        return await self._queued(engine, step)

    # --- looking ---

    async def _keep(self) -> None:
        while not self._closed:  # a cancellation may get lost in redis-py (asyncio.wait_for does that before 3.12)
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._look()
            except (RedisError, OSError) as error:  # OSError: TimeoutError, too
                self._lost()
                if not self._told_away:
                    self._told_away = True
                    _log.error("breakers.lost", error=type(error).__name__)
            else:
                self._found()
            await self._clock.sleep(_LOOK_EVERY_S)

    async def _look(self) -> None:
        """Raises RedisError, OSError."""
        changes = self._changes
        found = await self._place.look(writing=self._away_since is not None)
        for engine in found.keys() | self._seen.keys():
            if self._seen.get(engine, _NOTHING).change <= changes:  # else what was read may be older
                self._learn(engine, found.get(engine))

    def _learn(self, engine: str, value: Value | None) -> None:
        known = self._seen.get(engine, _NOTHING)
        if value is None:
            if known.untold:  # Redis has lost it: what this process knows is then more than nothing
                self._seen[engine] = replace(known, token="")
            else:
                self._seen.pop(engine, None)
        elif value.token == known.token:
            self._seen[engine] = replace(known, unsure="")
        elif value.token == known.unsure:  # it was made after all: then it is taken back
            self._seen[engine] = replace(known, token=value.token, unsure="", untold=True)
        else:
            try:
                breaker = self._place.breaker(value)
            except ValueError:
                _log.error("breakers.unreadable", engine=engine)
                breaker = _CLOSED
            self._seen[engine] = _Seen(value.token, breaker, change=self._changes)

    def _lost(self) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()

    def _found(self) -> None:
        if self._away_since is None:
            return
        self._away_since = None
        if self._told_away:
            self._told_away = False
            _log.info("breakers.found")
        for engine, seen in self._seen.items():
            if seen.untold:
                self._line(engine)

    # --- changing ---

    def _change_alone(self, engine: str, step: Step) -> Breaker:
        seen = self._seen.get(engine, _NOTHING)
        after = step(seen.breaker)
        if after != seen.breaker:
            self._seen[engine] = replace(seen, breaker=after, untold=True)
        return after

    async def _queued(self, engine: str, step: Step) -> Breaker:
        line = self._lines.get(engine)
        if line is not None and len(line.waiting) >= _WAITING:
            raise BoardBusy
        answer: asyncio.Future[Breaker] = asyncio.get_running_loop().create_future()
        self._line(engine).waiting.append((step, answer))
        return await answer

    def _line(self, engine: str) -> _Line:
        """One that is at work, or begins as soon as its caller waits."""
        line = self._lines.setdefault(engine, _Line())
        if line.task is None:
            line.task = asyncio.create_task(self._work(engine, line), context=contextvars.Context())
        return line

    async def _work(self, engine: str, line: _Line) -> None:
        """Until no change waits, or one could not be made."""
        steps: list[tuple[Step, asyncio.Future[Breaker]]] = []
        try:
            while line.waiting or self._seen.get(engine, _NOTHING).untold:
                steps, line.waiting = line.waiting, []
                steps = [(step, answer) for step, answer in steps if not answer.done()]  # else its caller left
                if not steps and not self._seen.get(engine, _NOTHING).untold:
                    continue
                async with asyncio.timeout(_CHANGE_S):
                    await self._apply(engine, steps)
        except (BoardBusy, RedisError, OSError) as error:
            if not isinstance(error, BoardBusy):
                self._lost()  # until a look tells that it is there
            _refuse(steps + line.waiting, error)
        except BaseException as error:  # closed; or a bug, in a step
            _refuse(steps + line.waiting, error)
            raise
        finally:
            del self._lines[engine]

    async def _apply(self, engine: str, steps: list[tuple[Step, asyncio.Future[Breaker]]]) -> None:
        """Raises BoardBusy, RedisError, OSError."""
        for _ in range(_TRIES):
            seen = self._seen.get(engine, _NOTHING)
            afters, breaker = [], seen.breaker
            for step, _answer in steps:
                breaker = step(breaker)
                afters.append(breaker)
            changed, token = breaker != seen.breaker or seen.untold, self._randomness.token(TOKEN // 2).hex()
            try:
                outcome = await self._place.swap(engine, seen.token, token, breaker if changed else None)
            except BaseException:
                self._changes += 1
                self._seen[engine] = replace(seen, unsure=token, change=self._changes)
                raise
            self._changes += 1
            if outcome.done:
                if changed:
                    self._seen[engine] = _Seen(token, breaker, change=self._changes)
                for (_step, answer), after in zip(steps, afters, strict=True):
                    if not answer.done():
                        answer.set_result(after)
                return
            if outcome.other:
                self._learn(engine, outcome.value)
        raise BoardBusy


def _refuse(steps: list[tuple[Step, asyncio.Future[Breaker]]], error: BaseException | None) -> None:
    for _step, answer in steps:
        if not answer.done():
            busy = BoardBusy()
            busy.__cause__ = error
            answer.set_exception(busy)
