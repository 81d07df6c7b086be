"""The live door: WS /v1/live (docs/live.md). Bytes in and out; what they mean is the session's to say.

This file says who may come in; live_connection.py is what happens then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from cosygate import errors
from cosygate.api.callers import credential_in, require
from cosygate.api.live_connection import Connection, Left
from cosygate.api.strangers import Strangers
from cosygate.flows.identifying import Identifying
from cosygate.flows.live.desk import Live
from cosygate.kit import tracing
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import bound, logger
from cosygate.model.principal import Principal
from cosygate.model.principal import Scope as Right
from cosygate.ports import tickets
from cosygate.ports.live import OneTime
from cosygate.ports.tickets import Tickets

_log = logger()
PATH = "/v1/live"
PROTOCOL = "cosygate.v1"
MESSAGE_BYTES = 64 * 1024  # largest message; the WebSocket library closes with 1009 beyond it
_TICKET = "ticket."


@dataclass(frozen=True, slots=True)
class LiveDoor:
    live: Live
    callers: Identifying
    tickets: Tickets
    one_time: OneTime
    strangers: Strangers
    clock: Clock
    randomness: Randomness
    origins: frozenset[str]  # beside the server's own
    idle_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parent = tracing.incoming(scope["headers"])
        trace_id = parent.trace_id if parent else self.randomness.trace_id()
        with bound(trace_id=trace_id), tracing.begin(f"WS {PATH}", tracing.Kind.SERVER, trace_id, parent):
            await receive()  # websocket.connect
            offered = [p for p in scope["subprotocols"] if p == PROTOCOL]
            await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
            connection = Connection(self.live, self.callers, self.idle_s, scope, receive, send, trace_id)
            began = self.clock.monotonic()
            try:
                with contextlib.suppress(Left):
                    await connection.run(self.identify)
            finally:
                _tell(scope, connection.close_code, self.clock.monotonic() - began)

    async def identify(self, scope: Scope) -> Principal:
        """Raises OriginForbidden, Unauthenticated, TokenInvalid, TokenExpired, TokenRevoked, Forbidden, Unavailable,
        Refused."""
        try:
            return await self._known(scope)
        except errors.Unauthenticated:
            if (refusal := await self.strangers.seen(scope)) is not None:
                raise refusal from None
            raise

    async def _known(self, scope: Scope) -> Principal:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self._check_origin(headers)
        credential = credential_in(scope)
        if credential:
            return require(await self.callers.identify(credential), Right.LIVE)
        ticket = next((p.removeprefix(_TICKET) for p in scope["subprotocols"] if p.startswith(_TICKET)), None)
        if ticket is None:
            raise errors.Unauthenticated()
        told = self.tickets.check(ticket, tickets.LIVE, "")
        if not await self.one_time.spend(told.id, told.expires_at, self.clock.now()):
            raise errors.TokenInvalid("the ticket was used already")
        self.callers.check(told.holder)
        return require(told.holder, Right.LIVE)

    def _check_origin(self, headers: dict[bytes, str]) -> None:
        """Browsers say where a page comes from; other clients say nothing, and need a token anyway."""
        origin = headers.get(b"origin")
        if origin is None or origin in self.origins:
            return
        # Behind a proxy that ends TLS the scheme we see is not the page's, so both are ours.
        host = headers.get(b"host", "").lower()
        if not host or origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise errors.OriginForbidden()


def _tell(scope: Scope, close_code: int, spent_s: float) -> None:
    """As the edge does of a request."""
    caller: Principal | None = scope.get("caller")
    who = {"user_id": caller.subject if caller else None, "tenant": caller.tenant if caller else None}
    tracing.current().set({"http.route": PATH, "cosygate.close_code": close_code})
    _log.info("live.connection", close_code=close_code, **who, cost_ms=round(spent_s * 1000, 1))


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
