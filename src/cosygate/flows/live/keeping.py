"""What makes a session safe beyond its journal, and what happens to one that nobody holds.

Once a second every session's news go to SQL (finals, restart point, how much of its sound is stored); then its client
may forget them, and now and then the journal is compacted. Beside that whole parts of the sound go to the blob store,
which holds up no finals when it is away. Once in a while this process shows that it lives (a beat per session), and
looks at everybody's sessions: those whose beat stood still for the whole resume window, on this process's own monotonic
clock, are its to finish.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from cosygate import errors
from cosygate.flows.live.session import Session
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.kit.pcm import warm_up_samples
from cosygate.model.audio import PCM_RATE
from cosygate.model.live import SafeMark
from cosygate.ports.journal import Journal
from cosygate.ports.live import LiveKeeping, LiveSessions

_log = logger()
_EVERY_S = 1.0  # for each session
_TURNS = 20  # in which all of them have theirs: at once they would hold up everybody's sound
_BEAT_S = 10.0
_AT_ONCE = 8  # sessions whose news are being stored
_AWAY_S = 1.0  # for which who found the blob store away leaves it alone: each session's try costs its whole patience
_COMPACT_BYTES = 1024 * 1024  # of audio in the journal that is stored elsewhere
_FINALS_AT_ONCE = 1000
_ORPHAN_S = 3600.0  # a journal without a row this long after its last append is nobody's


class Keeper:
    def __init__(
        self,
        sessions: LiveSessions,
        keeping: LiveKeeping,
        journal: Journal,
        clock: Clock,
        *,
        holder: str,
        window_s: float,
        storing: int = 1,
    ) -> None:
        """`holder`: this process's name, new in each of its lives; `storing`: sessions whose parts are stored at once,
        see `parts`."""
        self._sessions = sessions
        self._keeping = keeping
        self._journal = journal
        self._clock = clock
        self.holder = holder
        self.window_s = window_s
        self._storing = storing
        self._beat_s = min(_BEAT_S, window_s / 4)
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._seen: dict[str, tuple[tuple[str, int, int], float]] = {}

    async def run(self, held: Mapping[str, Session], adopt: Callable[[str, int], Awaitable[None]]) -> None:
        """For ever. `adopt(session_id, epoch)` takes a session that nobody holds, to finish it."""
        async with asyncio.TaskGroup() as group:  # a slow disk must not keep us from showing that we live
            group.create_task(self._every(self._beat_s, lambda: self._beat(held)))
            group.create_task(self._every(self._beat_s, lambda: self._look_around(held, adopt)))
            group.create_task(self._every(_EVERY_S, lambda: self.parts(held)))
            group.create_task(self._store(held))

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._clock.sleep(seconds)
            await self._safely(work())

    async def _safely(self, work: Awaitable[None]) -> None:
        try:
            await work
        except errors.Unavailable as error:
            _log.warning("live.keeping_put_off", code=error.code)
        except Exception:
            _log.exception("live.keeping_crashed")

    async def _beat(self, held: Mapping[str, Session]) -> None:
        if held:
            await self._keeping.beat(self.holder)

    async def _store(self, held: Mapping[str, Session]) -> None:
        turn = 0
        while True:
            await self._clock.sleep(_EVERY_S / _TURNS)
            turn = (turn + 1) % _TURNS
            due = {k: s for k, s in held.items() if int(k[-4:], 16) % _TURNS == turn}
            await self._safely(self.round(due))

    async def round(self, due: Mapping[str, Session]) -> None:
        """Stores the news of the sessions `due`, and ends those that nobody came back for."""
        now = self._clock.monotonic()
        for session in list(due.values()):
            if not session.gone.is_set() and not session.writer.held():
                session.lost(errors.TakenOver())
            elif session.outlet is None and now - session.detached_at >= self.window_s:
                session.abandon()
        news = [s for s in due.values() if not s.gone.is_set() and self._has_news(s)]
        await asyncio.gather(*(self._in_turn(session) for session in news))

    async def parts(self, held: Mapping[str, Session]) -> None:
        """Stores what whole parts there are of the sessions' sound: half a megabyte each, a session's in order. On a
        disk one at a time, as every thread at it keeps the event loop waiting; on a store that is far away, where a
        part is mostly waiting for answers, of several sessions side by side. SQL hears of them with the next news."""
        due = (s for s in list(held.values()) if not s.gone.is_set() and s.sound.part_is_due(s.durable * s.unit))

        async def one_by_one() -> None:
            for session in due:  # which all of them take from
                await self._guarded(session, self._advance)

        await asyncio.gather(*(one_by_one() for _ in range(self._storing)))

    async def _advance(self, session: Session) -> None:
        try:
            await session.sound.advance(session.durable * session.unit)
        except errors.StorageUnavailable:
            await self._clock.sleep(_AWAY_S)
            raise

    async def keep(self, session: Session, *, all_of_it: bool = False) -> None:
        """Tells SQL a session's news. Raises TakenOver, Unavailable. With `all_of_it` every final is there then."""
        async with session.keeping:
            while True:
                await self._keep(session)
                if not (all_of_it and session.unsaved):
                    return

    async def _keep(self, session: Session) -> None:
        timeline, kept = session.timeline, session.sound.kept
        new = session.unsaved[:_FINALS_AT_ONCE]
        # The restart point of the moment, unless finals before it have to wait for the next round.
        restart = timeline.restart if len(new) == len(session.unsaved) else int(new[-1]["end_sample"])
        decided = kept if session.row.format.counts_bytes else min(restart, kept // session.unit)
        finals = session.stored_mark.finals + len(new)
        mark = SafeMark(safe=max(session.stored_mark.safe, decided), restart=restart, kept=kept, finals=finals)
        if not await self._sessions.keep(session.id, session.row.epoch, new, mark):
            error = errors.TakenOver()
            session.lost(error)
            raise error
        session.stored(mark)
        first = self._needed(session, mark)
        if first - session.sound.first >= _COMPACT_BYTES:
            snapshot = {**timeline.snapshot(), "unsaved": list(session.unsaved)}
            session.sound.first = first  # what lies before is in parts, whether or not the journal has it still
            await session.writer.compact(snapshot, first)

    @staticmethod
    def _needed(session: Session, mark: SafeMark) -> int:
        """The first byte that is needed of the journal: what is not in parts, or not decided yet."""
        if session.row.format.counts_bytes:
            return mark.kept
        warm = warm_up_samples(session.row.rate, mark.restart, PCM_RATE)
        return min(mark.kept, (mark.restart - warm) * session.unit)

    @staticmethod
    def _has_news(session: Session) -> bool:
        mark = session.stored_mark
        return bool(session.unsaved) or session.timeline.restart > mark.restart or session.sound.kept > mark.kept

    async def _in_turn(self, session: Session) -> None:
        async with self._at_once:
            if not session.gone.is_set():
                await self._guarded(session, self.keep)

    async def _guarded(self, session: Session, work: Callable[[Session], Awaitable[None]]) -> None:
        try:
            await work(session)
        except errors.TakenOver as error:
            session.lost(error)
        except errors.Unavailable as error:
            _log.warning("live.keeping_put_off", session=session.id, code=error.code)
        except Exception:
            _log.exception("live.keeping_crashed", session=session.id)

    async def _look_around(self, held: Mapping[str, Session], adopt: Callable[[str, int], Awaitable[None]]) -> None:
        now = self._clock.monotonic()
        seen: dict[str, tuple[tuple[str, int, int], float]] = {}
        earlier, self._seen = self._seen, {}  # when the look fails: a database that is away lets nobody beat
        for row in await self._keeping.open_sessions():
            if row.id in held:
                continue
            # A claim of ours that was broken off in the middle: our own beat says nothing of it.
            state = (row.holder, row.epoch, 0 if row.holder == self.holder else row.beat)
            before, since = earlier.get(row.id, (state, now))
            seen[row.id] = (state, since if before == state else now)
        self._seen = seen
        for row_id, (state, since) in seen.items():
            if now - since >= self.window_s:
                await self._safely(adopt(row_id, state[1]))

    async def sweep(self) -> int:
        """Erases journals whose session is finished or gone: a crash between the two leaves them. Returns how many."""
        swept = 0
        for session_id, age in (await self._journal.sessions()).items():
            if age < _ORPHAN_S:
                continue
            row = await self._sessions.find(session_id)
            if row is None or row.state != "open":
                await self._journal.drop(session_id)
                swept += 1
        return swept
