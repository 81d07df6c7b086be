"""The live sessions that this process holds: taken with a claim, rebuilt from the journal, seen through to their task,
let go when the process ends."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from cosygate import errors
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.live.finishing import Finishing
from cosygate.flows.live.keeping import Keeper
from cosygate.flows.live.listening import Listening
from cosygate.flows.live.rebuilding import rebuilt
from cosygate.flows.live.session import Session
from cosygate.flows.live.sound import Sound, hole, stored_sound, whole_from
from cosygate.kit import metrics
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import bound, logger
from cosygate.model.live import LiveSession, LiveState
from cosygate.ports.blobs import PartStore
from cosygate.ports.decoder import StreamDecoder
from cosygate.ports.journal import Journal
from cosygate.ports.live import LiveKeeping, LiveSessions

_log = logger()
_CLAIM_TRIES = 5
_GATHER = ((32, 0.0), (96, 0.15), (192, 0.3), (10**9, 0.5))  # up to so many sessions: seconds of sound in one message
_MOVED_MS = 500  # how long a client waits before it comes back to another gateway, or to the next life of this one


class Holding:
    def __init__(
        self,
        *,
        sessions: LiveSessions,
        keeping: LiveKeeping,
        journal: Journal,
        parts: PartStore,
        keeper: Keeper,
        finishing: Finishing,
        engines: EngineRoom,
        decoder: StreamDecoder,
        clock: Clock,
        randomness: Randomness,
        engine_idle_s: float,
        longest_s: float,
        longest_bytes: int,
        unheard_tries: int,
        unheard_s: float,
    ) -> None:
        """`longest_s`, `longest_bytes`: of a session's audio, as it is stored; `unheard_…`: see Listening."""
        self._sessions = sessions
        self._keeping = keeping
        self._journal = journal
        self._parts = parts
        self._keeper = keeper
        self._finishing = finishing
        self._engines = engines
        self._decoder = decoder
        self._clock = clock
        self._randomness = randomness
        self.holder = keeper.holder
        self._engine_idle_s = engine_idle_s
        self._longest_s = longest_s
        self._longest_bytes = longest_bytes
        self._unheard_tries = unheard_tries
        self._unheard_s = unheard_s
        self._backoff = Backoff(first_s=0.2, longest_s=10.0)
        self._held: dict[str, Session] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._claiming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._keeper_task: asyncio.Task[None] | None = None
        self.draining = False

    def begin(self) -> None:
        self._keeper_task = asyncio.create_task(self._keeper.run(self._held, self._adopt))

    async def drain(self, grace_s: float) -> None:
        """Tells every client to come back elsewhere, puts away what is known, and lets go of every session."""
        self.draining = True
        if self._keeper_task is not None:
            self._keeper_task.cancel()
            await asyncio.gather(self._keeper_task, return_exceptions=True)
        while letting_go := [s for s in self._held.values() if not s.gone.is_set()]:
            await asyncio.gather(*(self._let_go(s, grace_s) for s in letting_go))
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _let_go(self, session: Session, grace_s: float) -> None:
        session.tell({"type": "moved", "reconnect_in_ms": _MOVED_MS})
        try:
            async with asyncio.timeout(grace_s):
                await self._keeper.keep(session)
        except (errors.CosyGateError, TimeoutError) as error:
            _log.warning("live.keeping_put_off", session=session.id, code=getattr(error, "code", "timeout"))
        except Exception:  # the others have to be let go all the same
            _log.exception("live.keeping_crashed", session=session.id)
        session.lost(errors.Draining())
        await session.writer.close()

    def get(self, session_id: str, epoch: int) -> Session | None:
        """The session, if this process holds it still. One that is lost or finished is on its way out, and so is one
        whose row, as read just now, has an epoch that this process has not heard of."""
        session = self._held.get(session_id)
        if session is None or session.gone.is_set():
            return None
        if session.row.epoch < epoch or not session.writer.held():
            session.lost(errors.TakenOver())
            return None
        return session

    def lock(self, session_id: str) -> asyncio.Lock:
        """One claim of a session at a time. It lives as long as somebody has it."""
        lock = self._claiming.get(session_id)
        if lock is None:
            lock = self._claiming[session_id] = asyncio.Lock()
        return lock

    async def claim(self, row: LiveSession) -> Session | None:
        """The session, taken over from whoever held it; None when it is finished by now."""
        for _ in range(_CLAIM_TRIES):
            claimed = await self._sessions.claim(row.id, row.epoch, self.holder)
            if claimed is not None:
                session = await self.take(claimed)
                self.run(session)
                return session
            found = await self._sessions.find(row.id)
            if found is None:
                raise errors.SessionNotFound()
            if found.state is LiveState.FINISHED:
                return None
            row = found
        raise errors.Unavailable("the session is being taken over")

    async def take(self, row: LiveSession, *, to_finish: bool = False) -> Session:
        """Raises Draining, also when that began meanwhile: nobody would let go of the session any more."""
        claimed = await self._journal.claim(row.id, row.epoch)
        header, kept, ended = not row.format.counts_bytes, row.mark.kept, False
        unit = row.format.stored_bytes
        try:
            # Parts are stored before SQL knows. When the journal is lost, they alone know what it had acknowledged; and
            # whoever only finishes it needs them anyhow.
            if row.epoch > 1 and (to_finish or claimed.past.end <= kept):
                found, ended = await stored_sound(self._parts, row.id, header=header)
                kept = max(kept, found)
            timeline, unsaved = await rebuilt(self._keeping, row, claimed.past, kept, ended=ended)
            end = timeline.received * unit
            if end > claimed.past.end:
                await claimed.writer.append(hole(end))
            if self.draining:
                raise errors.Draining()
        except BaseException:
            await claimed.writer.close()
            raise
        first = whole_from(claimed.past) if claimed.past.end > kept else end
        sound = Sound(self._parts, row.id, claimed.writer, first=first, end=end, kept=kept, header=header)
        longest = self._longest_bytes // unit
        if not row.format.counts_bytes:
            longest = min(longest, int(self._longest_s * row.rate))
        window_s = self._keeper.window_s
        session = Session(
            row, claimed.writer, timeline, sound, unsaved, self._clock, longest=longest, window_s=window_s
        )
        self._held[row.id] = session
        metrics.live_sessions.set(len(self._held))
        return session

    def run(self, session: Session) -> Listening:
        listening = Listening(
            session,
            self._engines,
            self._decoder,
            self._clock,
            self._randomness,
            engine_idle_s=self._engine_idle_s,
            gather_s=self._gather_s,
            longest_s=self._longest_s,
            unheard_tries=self._unheard_tries,
            unheard_s=self._unheard_s,
        )
        task = asyncio.create_task(self._see_through(session, listening))
        self._tasks[session.id] = task
        return listening

    def _gather_s(self) -> float:
        """With few sessions every frame goes to its engine at once. With many, two or three go together: a message
        costs both ends the same, whatever is in it."""
        return next(seconds for sessions, seconds in _GATHER if len(self._held) <= sessions)

    async def _see_through(self, session: Session, listening: Listening) -> None:
        """From the first word to the task; ends when the session is finished, or somebody else's."""
        tenant, _, user_id = session.row.owner.partition("/")
        with bound(trace_id=session.row.trace_id, user_id=user_id, tenant=tenant):
            try:
                await self._listen(session, listening)
                if await self._finish(session):
                    self._forget(session)
                    await self._finishing.clear(session)
            except errors.CosyGateError as error:
                session.lost(error)
            except asyncio.CancelledError:
                session.lost(errors.Draining())
                raise
            except Exception:
                _log.exception("live.crashed", session=session.id)
                session.lost(errors.CosyGateError())
            finally:
                self._forget(session)
                if self._tasks.get(session.id) is asyncio.current_task():
                    del self._tasks[session.id]
                await session.writer.close()

    async def _listen(self, session: Session, listening: Listening) -> None:
        try:
            await listening.run()
        except errors.RecordingFailed as error:
            # It cannot be heard any further. What was sent and heard so far is kept, as a task.
            _log.warning("live.unheard", session=session.id, code=error.code)
            if session.timeline.ended is None:  # else its client waits for the task, such as it is
                session.end_here()
                if session.outlet is not None:
                    session.outlet.close(error)

    async def _finish(self, session: Session) -> bool:
        """As a task: True. One in which nothing was ever said, and for which nobody came back, leaves nothing behind:
        False."""
        failures = 0
        while True:
            try:
                if session.abandoned and not session.timeline.received and not session.timeline.finals:
                    session.lost(errors.SessionNotFound())
                    await self._discard(session)
                    return False
                await self._finishing.finish(session)
                return True
            except errors.Unavailable as error:
                if session.gone.is_set():
                    raise
                _log.warning("live.finish_put_off", session=session.id, code=error.code)
                await self._clock.sleep(self._backoff.delay(failures, self._randomness))
                failures += 1

    def _forget(self, session: Session) -> None:
        if self._held.get(session.id) is session:
            del self._held[session.id]
            metrics.live_sessions.set(len(self._held))

    async def undo(self, session: Session) -> None:
        """No engine took it: as if it had never begun."""
        task = self._tasks.get(session.id)
        session.lost(errors.EngineUnavailable())
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._discard(session)

    async def _discard(self, session: Session) -> None:
        if await self._keeping.discard(session.id, session.row.epoch):
            await session.writer.close()
            await self._journal.drop(session.id)

    async def _adopt(self, session_id: str, epoch: int) -> None:
        """Nobody came back for it: takes it to finish it."""
        async with self.lock(session_id):
            if session_id in self._held:
                return
            row = await self._sessions.claim(session_id, epoch, self.holder)
            if row is None:
                return
            session = await self.take(row, to_finish=True)
            _log.info("live.adopted", session=session_id, epoch=row.epoch)
            session.abandon()
            self.run(session)
