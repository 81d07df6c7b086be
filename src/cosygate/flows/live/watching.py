"""Watchers of a session: captions for whoever may read them, in any process, whether it holds the session or not.

One follower per watched session reads the journal's news for all of its watchers; finals it may have missed (compacted,
or from before it began) are in SQL. What a watcher has not taken yet costs nothing: it looks at the finals by number,
and at the newest passing event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from cosygate import errors
from cosygate.flows.live.desk import Live
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.live import LiveState
from cosygate.ports.journal import Journal
from cosygate.ports.live import LiveKeeping

_log = logger()
_LOOK_EVERY_S = 0.15
_CATCH_UP_S = 1.0  # how often SQL is asked for finals that are missing, and whether the session is over
_FINALS_A_READ = 500
_PASSING_KEPT = 32  # of speech events and gaps; a watcher that is further behind misses some
_PASSING = frozenset({"partial", "speech_started", "speech_ended", "gap"})
Event = dict[str, Any]


class _Follower:
    """What one session's watchers see: all finals, the newest partial, the last few other events."""

    def __init__(self) -> None:
        self.watchers = 0
        self.finals: list[Event] = []  # index = id
        self.partial: Event | None = None
        self.passing: deque[tuple[int, Event]] = deque(maxlen=_PASSING_KEPT)  # numbered
        self.count = 0  # passing events so far
        self.done: Event | None = None
        self.gone = False  # erased: there is nothing to follow
        self.news = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        news, self.news = self.news, asyncio.Event()
        news.set()


class Watching:
    def __init__(self, live: Live, keeping: LiveKeeping, journal: Journal, clock: Clock) -> None:
        self._live = live
        self._keeping = keeping
        self._journal = journal
        self._clock = clock
        self._followers: dict[str, _Follower] = {}

    async def watch(self, session_id: str, after: int) -> AsyncIterator[Event | None]:
        """Finals with id > `after`, partials and the others as they come, None when there is nothing for a while; ends
        with `done`, or when the session is erased. Raises SessionNotFound."""
        await self._live.find(session_id)
        follower = self._followers.get(session_id)
        if follower is None:
            follower = self._followers[session_id] = _Follower()
            follower.task = asyncio.create_task(self._follow(session_id, follower))
        follower.watchers += 1
        try:
            async for event in self._see(follower, after):
                yield event
        finally:
            follower.watchers -= 1
            if not follower.watchers:
                self._followers.pop(session_id, None)
                if follower.task is not None:
                    follower.task.cancel()

    async def _see(self, follower: _Follower, after: int) -> AsyncIterator[Event | None]:
        seen, partial = follower.count, None
        while True:
            news = follower.news
            while after + 1 < len(follower.finals):
                after += 1
                yield follower.finals[after]
            for number, event in list(follower.passing):
                if number > seen:
                    seen = number
                    yield event
            if follower.partial is not partial:
                partial = follower.partial
                if partial is not None:
                    yield partial
            if follower.done is not None and after + 1 >= follower.done["finals"]:
                yield follower.done
                return
            if follower.gone:
                return
            if news.is_set():
                continue
            try:
                async with asyncio.timeout(_CATCH_UP_S):
                    await news.wait()
            except TimeoutError:
                yield None

    async def _follow(self, session_id: str, follower: _Follower) -> None:
        position, looked_at = "", float("-inf")
        while follower.done is None and not follower.gone:
            try:
                events, position = await self._journal.events(session_id, position)
                missing = False
                for event in events:
                    missing |= self._take(follower, event)
                if missing or self._clock.monotonic() - looked_at >= _CATCH_UP_S:
                    await self._catch_up(session_id, follower)
                    looked_at = self._clock.monotonic()
            except errors.SessionNotFound:
                follower.gone = True
            except errors.CosyGateError as error:
                _log.warning("live.watching_put_off", session=session_id, code=error.code)
                events = []
            except Exception:  # its watchers would wait for ever
                _log.exception("live.watching_crashed", session=session_id)
                follower.gone = True
            if events or follower.gone or follower.done:
                follower.tell()
            if len(events) < _FINALS_A_READ:
                await self._clock.sleep(_LOOK_EVERY_S)

    @staticmethod
    def _take(follower: _Follower, event: Any) -> bool:
        """Whether finals before it are missing."""
        kind = event["type"]
        if kind == "final":
            follower.partial = None
            if event["id"] == len(follower.finals):
                follower.finals.append(dict(event))
            return bool(event["id"] >= len(follower.finals))
        if kind == "partial":
            follower.partial = dict(event)
        elif kind in _PASSING:
            follower.count += 1
            follower.passing.append((follower.count, dict(event)))
        return False

    async def _catch_up(self, session_id: str, follower: _Follower) -> None:
        """Raises SessionNotFound."""
        row = await self._live.find(session_id)
        while page := await self._keeping.finals(session_id, len(follower.finals) - 1, _FINALS_A_READ):
            follower.finals.extend(page)
            follower.tell()
        if row.state is LiveState.FINISHED:
            follower.done = self._live.done(row)
