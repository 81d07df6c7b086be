"""Chapter four: speech as it is spoken. Sessions begin, are continued by whoever has their token, and end as tasks.

start ─► row, journal, session ─► an engine accepts ─► ready
resume ─► ours? attach. Somebody else's? claim: row (epoch + 1), journal, session rebuilt ─► ready, finals again
nobody came back within the window ─► the audio there is becomes the task all the same
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from cosygate import errors
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.gate import Gate
from cosygate.flows.honouring import check_honoured
from cosygate.flows.live.holding import Holding
from cosygate.flows.live.outlet import Outlet
from cosygate.flows.live.session import Session
from cosygate.flows.webhooks import Callbacks
from cosygate.kit import tracing
from cosygate.kit.clock import Clock, Randomness, time_ordered_id
from cosygate.kit.logs import logger
from cosygate.model.live import LiveSession, LiveState
from cosygate.model.live_messages import Resume, Start
from cosygate.model.principal import Principal
from cosygate.ports.live import LiveKeeping, LiveSessions

_log = logger()
_FINALS_A_READ = 500


@dataclass(frozen=True, slots=True)
class LiveLimits:
    sessions: int = 1000  # open ones in all
    sessions_each: int = 20  # of one principal
    window_s: float = 300.0  # how long a session waits for its client
    accept_s: float = 3.0  # how long a new session waits for an engine


@dataclass(frozen=True, slots=True)
class Joined:
    """A connection's place in a session."""

    session: Session | None  # None: it is finished, and only told again
    outlet: Outlet
    ready: dict[str, Any]
    finals: AsyncIterator[dict[str, Any]]  # those that the client has not seen, to be sent first
    new: bool = False


class Live:
    def __init__(
        self,
        *,
        sessions: LiveSessions,
        keeping: LiveKeeping,
        holding: Holding,
        engines: EngineRoom,
        gate: Gate,
        clock: Clock,
        randomness: Randomness,
        limits: LiveLimits,
        callbacks: Callbacks,
    ) -> None:
        self._sessions = sessions
        self._keeping = keeping
        self._holding = holding
        self._engines = engines
        self._gate = gate
        self._clock = clock
        self._randomness = randomness
        self.limits = limits
        self._callbacks = callbacks

    def begin(self) -> None:
        """Once, when the process serves."""
        self._holding.begin()

    async def drain(self, grace_s: float) -> None:
        """Takes nobody any more, and tells every client to come back elsewhere."""
        await self._holding.drain(grace_s)

    async def start(self, caller: Principal, start: Start, trace_id: str) -> Joined:
        """A new session. Raises TooManySessions, SessionsFull, EngineUnavailable (no engine takes it),
        OptionUnsupported, OptionInvalid, WebhookSecretMissing, Draining, BreakerOpen, Refused, QuotaExceeded,
        StorageFull, Unavailable."""
        if self._holding.draining:
            raise errors.Draining()
        check_honoured(self._engines.models(), start.options, live=True)
        await self._callbacks.check(caller.tenant, start.options.callback_url)
        counted = await self._gate.live(caller)
        try:
            return await self._begin(caller, start, trace_id)
        except BaseException:
            await self._gate.undo_live(caller, counted)
            raise

    async def _begin(self, caller: Principal, start: Start, trace_id: str) -> Joined:
        """A session that may begin."""
        token = base64.urlsafe_b64encode(self._randomness.token(24)).decode()
        row = LiveSession(
            id=time_ordered_id(self._clock, self._randomness),
            owner=caller.owner,
            token_hash=_hash(token),
            format=start.format,
            rate=start.rate,
            options=start.options.to_json(),
            trace_id=trace_id,
            span_id=tracing.current().span_id,
            created_at=self._clock.now(),
            state=LiveState.OPEN,
            epoch=1,
            holder=self._holding.holder,
        )
        limits = self.limits
        await self._sessions.open(
            row,
            max_of_owner=limits.sessions_each,
            max_of_all=limits.sessions,
            max_of_tenant=self._gate.live_of_tenant(caller.tenant),
        )
        try:
            session = await self._holding.take(row)
        except BaseException:
            await self._keeping.discard(row.id, row.epoch)  # or it would count among its owner's for the whole window
            raise
        outlet = Outlet(interim=start.interim)
        session.attach(outlet)
        listening = self._holding.run(session)
        try:
            async with asyncio.timeout(limits.accept_s):
                await listening.accepted.wait()
        except TimeoutError:
            await self._holding.undo(session)
            raise (errors.Draining() if self._holding.draining else errors.EngineUnavailable()) from None
        tracing.current().set({"cosygate.task_id": row.id})
        _log.info("live.started", session=row.id, format=row.format, rate=row.rate)
        return Joined(session, outlet, self._ready(row, token, 0), _none(), new=True)

    async def forget(self, session: Session) -> None:
        """A session whose client never heard of it, so nobody can come back to it. It stays counted."""
        if not session.timeline.received:
            await self._holding.undo(session)

    async def resume(self, caller: Principal, resume: Resume, left: Callable[[], bool]) -> Joined:
        """`left`: whether the client is gone again; then nothing is taken from whoever holds the session, who may be
        the one that the client has come back to meanwhile. Raises SessionNotFound (also for somebody else's, or a wrong
        token), Draining, Unavailable."""
        if self._holding.draining:
            raise errors.Draining()
        row = await self._sessions.find(resume.session)
        if row is None or row.owner != caller.owner:
            raise errors.SessionNotFound()
        if not hmac.compare_digest(row.token_hash, _hash(resume.resume_token)):
            raise errors.SessionNotFound()
        async with self._holding.lock(row.id):
            session = self._holding.get(row.id, row.epoch)
            if session is None and not left():
                session = await self._holding.claim(row)  # none when it is finished
        outlet = Outlet(interim=resume.interim, last_final=resume.last_final)
        if session is None:
            return await self._again(row, resume, outlet)
        session.timeline.known_to_client(resume.last_final + 1)
        session.attach(outlet)
        span = tracing.current()
        span.set({"cosygate.task_id": row.id})
        span.link(row.trace_id, row.span_id)
        offset = session.timeline.received
        _log.info("live.resumed", session=row.id, epoch=session.row.epoch, offset=offset)
        ready = self._ready(row, resume.resume_token, offset)
        return Joined(session, outlet, ready, self._finals(session, resume.last_final, session.told))

    async def find(self, session_id: str) -> LiveSession:
        """Raises SessionNotFound."""
        row = await self._sessions.find(session_id)
        if row is None:
            raise errors.SessionNotFound()
        return row

    async def _again(self, row: LiveSession, resume: Resume, outlet: Outlet) -> Joined:
        """A finished session: everything that was missed, and its end."""
        row = await self._sessions.find(row.id) or row
        if row.state is not LiveState.FINISHED:
            raise errors.Unavailable("the session is being taken over")
        outlet.put(self.done(row))
        outlet.close(None)
        ready = self._ready(row, resume.resume_token, row.mark.safe)
        return Joined(None, outlet, ready, self._stored_finals(row.id, resume.last_final, row.mark.finals))

    @staticmethod
    def done(row: LiveSession) -> dict[str, Any]:
        return {"type": "done", "task_id": row.id, "finals": row.mark.finals, "samples": row.mark.safe}

    def _ready(self, row: LiveSession, token: str, offset: int) -> dict[str, Any]:
        ready = {"type": "ready", "session": row.id, "resume_token": token, "offset": offset}
        return ready | {"window_s": self.limits.window_s}

    async def _finals(self, session: Session, after: int, count: int) -> AsyncIterator[dict[str, Any]]:
        """Finals with after < id < count. The newest may not be in SQL yet."""
        newest = [f for f in session.unsaved if after < f["id"] < count]
        first = newest[0]["id"] if newest else count
        async for final in self._stored_finals(session.id, after, first):
            yield final
        for final in newest:
            yield final

    async def _stored_finals(self, session_id: str, after: int, count: int) -> AsyncIterator[dict[str, Any]]:
        while after + 1 < count:
            page = await self._keeping.finals(session_id, after, _FINALS_A_READ)
            if not page:
                return
            for final in page:
                if final["id"] < count:
                    yield final
            after = page[-1]["id"]


async def _none() -> AsyncIterator[dict[str, Any]]:
    return
    yield


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
