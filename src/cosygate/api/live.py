"""The live door: WS /v1/live (docs/live.md). Bytes in and out; what they mean is the session's to say.

Two tasks a connection: one reads messages in order, and does not read on while the session has no room; one sends what
the session has to say. Whichever ends first ends the other, and the connection is closed with the code of its error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson
from starlette.types import Message, Receive, Scope, Send

from cosygate import errors
from cosygate.api.callers import require
from cosygate.api.edge import trace_id_of
from cosygate.flows.live.desk import Joined, Live
from cosygate.flows.live.outlet import Outlet
from cosygate.flows.live.session import Session
from cosygate.kit import metrics
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.g711 import decode_alaw, decode_mulaw
from cosygate.kit.logs import bound, logger
from cosygate.model.live import LiveFormat
from cosygate.model.live_messages import (
    End,
    FinalizeAt,
    GapTold,
    Ping,
    Resume,
    Start,
    parse_frame,
    parse_message,
)
from cosygate.model.principal import Principal
from cosygate.model.principal import Scope as Right
from cosygate.ports import tickets
from cosygate.ports.callers import Callers
from cosygate.ports.live import OneTime
from cosygate.ports.tickets import Tickets

_log = logger()
PATH = "/v1/live"
PROTOCOL = "cosygate.v1"
MESSAGE_BYTES = 64 * 1024  # largest message; the WebSocket library closes with 1009 beyond it
_TICKET = "ticket."
_FIRST_S = 10.0  # between the handshake and the first message
_DONE, _RESTART = 1000, 1012
_DECODERS: dict[LiveFormat, Callable[[bytes], bytes]] = {
    LiveFormat.MULAW: decode_mulaw,
    LiveFormat.ALAW: decode_alaw,
}


@dataclass(frozen=True, slots=True)
class LiveDoor:
    live: Live
    callers: Callers
    tickets: Tickets
    one_time: OneTime
    clock: Clock
    randomness: Randomness
    origins: frozenset[str]  # beside the server's own
    idle_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace_id = trace_id_of(scope["headers"], self.randomness)
        with bound(trace_id=trace_id):
            await receive()  # websocket.connect
            offered = [p for p in scope["subprotocols"] if p == PROTOCOL]
            await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
            connection = _Connection(self, scope, receive, send, trace_id)
            with contextlib.suppress(_Left):
                await connection.run()

    async def identify(self, scope: Scope) -> Principal:
        """Raises OriginForbidden, Unauthenticated, TokenInvalid, TokenExpired, Forbidden."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self._check_origin(headers, scope["scheme"])
        kind, _, credential = headers.get(b"authorization", "").partition(" ")
        if kind.lower() == "bearer" and credential.strip():
            return require(await self.callers.identify(credential.strip()), Right.LIVE)
        ticket = next((p.removeprefix(_TICKET) for p in scope["subprotocols"] if p.startswith(_TICKET)), None)
        if ticket is None:
            raise errors.Unauthenticated()
        told = self.tickets.check(ticket, tickets.LIVE, "")
        if not await self.one_time.spend(told.id, told.expires_at, self.clock.now()):
            raise errors.TokenInvalid("the ticket was used already")
        return require(told.holder, Right.LIVE)

    def _check_origin(self, headers: dict[bytes, str], scheme: str) -> None:
        """Browsers say where a page comes from; other clients say nothing, and need a token anyway."""
        origin = headers.get(b"origin")
        if origin is None or origin in self.origins:
            return
        own = f"{'https' if scheme == 'wss' else 'http'}://{headers.get(b'host', '')}"
        # Behind a proxy that ends TLS the scheme we see is not the page's: the host has to be ours all the same.
        if origin != own and urlsplit(origin).netloc.lower() != headers.get(b"host", "").lower():
            raise errors.OriginForbidden()


class _Left(Exception):
    """The client is gone; there is nobody to be told anything."""


class _Connection:
    def __init__(self, door: LiveDoor, scope: Scope, receive: Receive, send: Send, trace_id: str) -> None:
        self._door = door
        self._scope = scope
        self._receive = receive
        self._send = send
        self._trace_id = trace_id
        self._ahead: asyncio.Task[Message] | None = None
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._idle_timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Raises _Left."""
        code, error = _DONE, None
        try:
            caller = await self._door.identify(self._scope)
            with bound(user_id=caller.subject, tenant=caller.tenant):
                error = await self._session(caller)
        except errors.CosyGateError as known:
            error = known
        except (_Left, asyncio.CancelledError):
            raise
        except Exception:
            _log.exception("live.connection_crashed")
            error = errors.CosyGateError()
        if error is not None:
            code = error.close_code
            metrics.rejected.labels(error.code).inc()
            _log.info("live.closed", code=error.code, close_code=code)
            if code != _RESTART:
                await self._tell({"type": "error", "code": error.code, "detail": error.detail, **error.extra})
        with contextlib.suppress(Exception):  # it may be gone by now
            await self._send({"type": "websocket.close", "code": code, "reason": error.code if error else ""})

    async def _session(self, caller: Principal) -> errors.CosyGateError | None:
        """The whole of the connection's part in a session; why it ends, None when all is done."""
        first = await self._first()
        # Read ahead by one message: a client that has left again must not take its session from where it went.
        self._ahead = asyncio.create_task(self._next())
        try:
            if isinstance(first, Start):
                joined = await self._door.live.start(caller, first, self._trace_id)
            else:
                joined = await self._door.live.resume(caller, first, self._has_left)
        except BaseException:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
            raise
        outlet = joined.outlet
        self._watch_idle(outlet)
        reader = asyncio.create_task(self._read(joined.session, outlet))
        try:
            await self._write(joined)
            return outlet.error
        finally:
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            if self._ahead is not None:
                self._ahead.cancel()
            if joined.session is not None:
                joined.session.detach(outlet)

    def _watch_idle(self, outlet: Outlet) -> None:
        """One timer a connection; a time-out around each message would cost more than the message."""
        left = self._heard_at + self._door.idle_s - self._loop.time()
        if left <= 0:
            outlet.close(errors.LiveIdle())
        else:
            self._idle_timer = self._loop.call_later(left, self._watch_idle, outlet)

    def _has_left(self) -> bool:
        ahead = self._ahead
        return ahead is not None and ahead.done() and (ahead.cancelled() or ahead.exception() is not None)

    async def _first(self) -> Start | Resume:
        try:
            async with asyncio.timeout(_FIRST_S):
                message = await self._next()
        except TimeoutError:
            raise errors.LiveIdle("no start or resume came") from None
        text = message.get("text")
        if text is None:
            raise errors.LiveProtocol("there is audio before start")
        first = parse_message(text)
        if not isinstance(first, Start | Resume):
            raise errors.LiveProtocol("the first message is start or resume")
        return first

    # --- out ---------------------------------------------------------------------------------------------------------

    async def _write(self, joined: Joined) -> None:
        """Raises _Left."""
        await self._tell(joined.ready)
        async for final in joined.finals:
            await self._tell(final)
        while messages := await joined.outlet.next():
            for message in messages:
                await self._tell(message)

    async def _tell(self, message: dict[str, object]) -> None:
        try:
            await self._send({"type": "websocket.send", "text": orjson.dumps(message).decode()})
        except Exception as error:  # uvicorn's own, which is an OSError
            raise _Left from error

    # --- in ----------------------------------------------------------------------------------------------------------

    async def _read(self, session: Session | None, outlet: Outlet) -> None:
        """Until the connection ends, which it tells the outlet."""
        try:
            if session is None:
                while True:
                    await self._read_on()
            await self._obey(session, outlet)
        except errors.CosyGateError as error:
            outlet.close(error)
        except _Left:
            outlet.leave()
        except Exception:
            _log.exception("live.connection_crashed")
            outlet.close(errors.CosyGateError())

    async def _obey(self, session: Session, outlet: Outlet) -> None:
        row = session.row
        incoming = 1 if row.format is not LiveFormat.S16LE else 2  # bytes of one index, as sent
        decode = _DECODERS.get(row.format)
        while True:
            message = await self._read_on()
            self._heard_at = self._loop.time()
            if outlet.closed:
                raise outlet.error or errors.TakenOver()
            frame = message.get("bytes")
            if frame is not None:
                index, audio = parse_frame(frame, incoming)
                session.frame(index, decode(audio) if decode else audio)
                if not session.has_room():
                    await session.room()
            else:
                self._control(session, outlet, message["text"])

    def _control(self, session: Session, outlet: Outlet, text: str) -> None:
        match parse_message(text):
            case FinalizeAt(samples):
                session.finalize(samples)
            case GapTold(start, end):
                session.gap(start, end, 2 * self._door.live.limits.window_s)
            case End(samples):
                session.end(samples)
            case Ping():
                outlet.put({"type": "pong"})
            case _:
                raise errors.LiveProtocol("the session has begun already")

    async def _read_on(self) -> Message:
        """The next message, first the one that was read ahead. Raises _Left."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return await ahead
        return await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise _Left
        return message


class LiveLane:
    """Sends WebSockets to their door, past everything that is for HTTP."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], door: LiveDoor) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
        elif scope["path"] == PATH:
            await self._door(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 4404})  # before accepting: HTTP 403
