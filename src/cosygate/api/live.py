"""The live door: WS /v1/live (docs/live.md). Bytes in and out; what they mean is the session's to say.

This file says who may come in; live_connection.py is what happens then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from cosygate import errors
from cosygate.api.callers import require
from cosygate.api.edge import trace_id_of
from cosygate.api.live_connection import Connection, Left
from cosygate.flows.live.desk import Live
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import bound
from cosygate.model.principal import Principal
from cosygate.model.principal import Scope as Right
from cosygate.ports import tickets
from cosygate.ports.callers import Callers
from cosygate.ports.live import OneTime
from cosygate.ports.tickets import Tickets

PATH = "/v1/live"
PROTOCOL = "cosygate.v1"
MESSAGE_BYTES = 64 * 1024  # largest message; the WebSocket library closes with 1009 beyond it
_TICKET = "ticket."


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
            connection = Connection(self.live, self.idle_s, scope, receive, send, trace_id)
            with contextlib.suppress(Left):
                await connection.run(self.identify)

    async def identify(self, scope: Scope) -> Principal:
        """Raises OriginForbidden, Unauthenticated, TokenInvalid, TokenExpired, Forbidden."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self._check_origin(headers)
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

    def _check_origin(self, headers: dict[bytes, str]) -> None:
        """Browsers say where a page comes from; other clients say nothing, and need a token anyway."""
        origin = headers.get(b"origin")
        if origin is None or origin in self.origins:
            return
        # Behind a proxy that ends TLS the scheme we see is not the page's, so both are ours.
        host = headers.get(b"host", "").lower()
        if not host or origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise errors.OriginForbidden()


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
