"""One connection of the live door. What comes in is handled the moment it is parsed, in its order; a task sends what
the session has to say; another waits for the client to leave. When the session has no room the socket is not read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from starlette.types import Message, Receive, Scope, Send

from cosygate import errors
from cosygate.api.live_socket import EXTENSION, LiveSocket
from cosygate.api.problems import members
from cosygate.flows.identifying import Identifying
from cosygate.flows.live.desk import Joined, Live
from cosygate.flows.live.outlet import Outlet
from cosygate.flows.live.session import Session
from cosygate.kit import metrics
from cosygate.kit.g711 import decode_alaw, decode_mulaw
from cosygate.kit.logs import bound, logger
from cosygate.model.live import LiveFormat
from cosygate.model.live_messages import End, FinalizeAt, GapTold, Ping, Resume, Start, parse_frame, parse_message
from cosygate.model.principal import Principal

_log = logger()
_FIRST_S = 10.0  # between the handshake and the first message
_DONE, _LEFT, _RESTART = 1000, 1006, 1012  # 1006: the client went without a close from us (RFC 6455 §7.1.5)
_DECODERS: dict[LiveFormat, Callable[[bytes], bytes]] = {
    LiveFormat.MULAW: decode_mulaw,
    LiveFormat.ALAW: decode_alaw,
}


class Left(Exception):
    """The client is gone; there is nobody to be told anything."""


class Connection:
    """Used once: `run`."""

    def __init__(self, live: Live, callers: Identifying, idle_s: float, scope: Scope, receive: Receive, send: Send,
                 trace_id: str) -> None:  # fmt: skip
        """`callers` tells when the caller's credential has ended; `idle_s`: seconds without a message after which the
        connection is closed."""
        self._live = live
        self._callers = callers
        self._idle_s = idle_s
        self._scope = scope
        self._receive = receive
        self._send = send
        self._trace_id = trace_id
        self.close_code = _LEFT
        self._socket: LiveSocket = scope["extensions"][EXTENSION]
        self._loop = asyncio.get_running_loop()
        self._ahead: asyncio.Task[Message] | None = None  # the next message, read while the client joins
        self._heard_at = self._loop.time()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[None] | None = None  # for room; meanwhile nothing is read

    async def run(self, identify: Callable[[Scope], Awaitable[Principal]]) -> None:
        """Raises Left."""
        code, error = _DONE, None
        try:
            caller = self._scope["caller"] = await identify(self._scope)
            with bound(user_id=caller.subject, tenant=caller.tenant):
                error = await self._session(caller)
        except errors.CosyGateError as known:
            error = known
        except (Left, asyncio.CancelledError):
            raise
        except Exception:
            _log.exception("live.connection_crashed")
            error = errors.CosyGateError()
        self.close_code = error.close_code if error else code
        if error is not None:
            code = error.close_code
            metrics.rejected.labels(error.code).inc()
            _log.info("live.closed", code=error.code, close_code=code)
            if code != _RESTART:
                extra = members(error, self._trace_id) if "retry_after" in error.extra else error.extra
                await self._tell([{"type": "error", "code": error.code, "detail": error.detail, **extra}])
        with contextlib.suppress(Exception):  # it may be gone by now
            await self._send({"type": "websocket.close", "code": code, "reason": error.code if error else ""})

    async def _session(self, caller: Principal) -> errors.CosyGateError | None:
        """The whole of the connection's part in a session; why it ends, None when all is done."""
        first = await self._first()
        # Read ahead: a client that has left again must not take its session from where it went.
        self._ahead = asyncio.create_task(self._next())
        leaving: asyncio.Task[None] | None = None
        joined: Joined | None = None
        unwatch: Callable[[], None] | None = None
        try:
            if isinstance(first, Start):
                joined = await self._live.start(caller, first, self._trace_id)
            else:
                joined = await self._live.resume(caller, first, self._has_left)
            unwatch = self._callers.watch(caller, joined.outlet.close)
            leaving = asyncio.create_task(self._read(joined.session, joined.outlet))
            await self._write(joined)
            return joined.outlet.error
        finally:
            beside = [task for task in (self._ahead, leaving, self._waiting) if task is not None]
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if unwatch is not None:
                unwatch()
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            if joined is not None and joined.session is not None:
                joined.session.detach(joined.outlet)

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
        """Raises Left."""
        try:
            await self._tell([joined.ready])
        except Left:
            if joined.new and joined.session is not None:
                await self._live.forget(joined.session)
            raise
        async for final in joined.finals:
            await self._tell([final])
        while messages := await joined.outlet.next():
            await self._tell(messages)

    async def _tell(self, messages: Sequence[dict[str, Any]]) -> None:
        texts = [orjson.dumps(message) for message in messages]
        if self._socket.say(texts):
            return
        try:
            for text in texts:
                await self._send({"type": "websocket.send", "text": text.decode()})
        except Exception as error:  # uvicorn's own, which is an OSError
            raise Left from error

    # --- in ----------------------------------------------------------------------------------------------------------

    async def _read(self, session: Session | None, outlet: Outlet) -> None:
        """Until the client leaves, which it tells the outlet."""
        self._watch_idle(outlet)

        def take(message: str | bytes) -> None:
            self._heard_at = self._loop.time()
            if session is not None and not outlet.closed:
                self._obey(session, outlet, message)

        try:
            if self._ahead is not None and self._ahead.done():
                message = self._ahead.result()
                self._ahead = None
                take(message["text"] if message.get("text") is not None else message["bytes"])
            self._socket.divert(take, lambda: self._waiting is not None)
            if self._ahead is not None:
                await self._ahead
            while True:
                await self._next()
        except Left:
            outlet.leave()

    def _obey(self, session: Session, outlet: Outlet, message: str | bytes) -> None:
        try:
            if isinstance(message, str):
                self._control(session, outlet, message)
                return
            kind = session.row.format
            index, audio = parse_frame(message, 2 if kind is LiveFormat.S16LE else 1)
            decode = _DECODERS.get(kind)
            session.frame(index, decode(audio) if decode else audio)
            if self._waiting is None and not session.has_room():
                self._socket.hold(True)
                self._waiting = asyncio.create_task(self._until_room(session))
        except errors.CosyGateError as error:
            outlet.close(error)
        except Exception:
            _log.exception("live.connection_crashed")
            outlet.close(errors.CosyGateError())

    async def _until_room(self, session: Session) -> None:
        await session.room()
        self._waiting = None
        self._heard_at = self._loop.time()
        self._socket.hold(False)

    def _control(self, session: Session, outlet: Outlet, text: str) -> None:
        match parse_message(text):
            case FinalizeAt(samples):
                session.finalize(samples)
            case GapTold(start, end):
                session.gap(start, end, 2 * self._live.limits.window_s)
            case End(samples):
                session.end(samples)
            case Ping():
                outlet.put({"type": "pong"})
            case _:
                raise errors.LiveProtocol("the session has begun already")

    def _watch_idle(self, outlet: Outlet) -> None:
        """One timer a connection; a time-out around each message would cost more than the message. While we do not read
        it is not the client who is silent."""
        left = self._heard_at + self._idle_s - self._loop.time()
        if self._waiting is not None:
            left = self._idle_s
        if left <= 0:
            outlet.close(errors.LiveIdle())
        else:
            self._idle_timer = self._loop.call_later(left, self._watch_idle, outlet)

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise Left
        return message
