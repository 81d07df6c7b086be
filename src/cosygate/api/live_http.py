"""Beside the live door, over HTTP:

POST /v1/live/tickets              a one-time ticket, for browsers: they cannot send a token with a WebSocket
POST /v1/live/{session}/shares     a ticket that lets others read the captions
GET  /v1/live/{session}/events     the captions as they come (server-sent events)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from cosygate import errors
from cosygate.api.callers import credential_in, identify
from cosygate.api.described import problem_responses
from cosygate.flows.identifying import Identifying
from cosygate.flows.live.desk import Live
from cosygate.flows.live.watching import Watching
from cosygate.model.live import LiveSession
from cosygate.model.principal import Principal, Scope
from cosygate.ports import tickets
from cosygate.ports.tickets import Tickets

TICKET_S = 30.0
SHARE_S, SHARE_MAX_S = 12 * 3600.0, 7 * 24 * 3600.0
_SESSION_ID = re.compile(r"[0-9a-f]{32}")
_MAX_WATCHERS, _MAX_WATCHERS_EACH = 2000, 500  # per process, and of one session
_KEEPALIVE_LOOKS = 15  # of a second each


class TicketView(BaseModel):
    ticket: str
    expires_in: float = Field(description="Seconds.")


class ShareView(TicketView):
    captions_url: str = Field(description="The audience's page; the ticket stands in its fragment, which is not sent.")


class ShareWish(BaseModel):
    ttl_s: float = Field(SHARE_S, gt=0, le=SHARE_MAX_S, description="Seconds for which the captions may be read.")


_SSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `final` (with their id), `partial`, `speech_started`, `speech_ended`, `gap`, then "
        "`done`. `Last-Event-ID` continues after a final seen already.",
        "content": {"text/event-stream": {"example": 'id: 0\nevent: final\ndata: {"id":0,"text":"Good morning."}\n\n'}},
    }
}


def router(
    live: Live, watching: Watching, callers: Identifying, issuer: Tickets, draining: Callable[[], bool]
) -> APIRouter:
    desk = _Desk(live, watching, callers, issuer, draining)
    routes = APIRouter(tags=["Live"], responses=problem_responses(401, 403, 503))
    routes.post("/v1/live/tickets", status_code=201)(desk.ticket)
    one, known = "/v1/live/{session}", problem_responses(404, 422)
    routes.post(f"{one}/shares", status_code=201, responses=known)(desk.share)
    routes.get(f"{one}/events", responses=_SSE | known | problem_responses(429), response_class=StreamingResponse)(
        desk.events
    )
    return routes


class _Desk:
    def __init__(
        self, live: Live, watching: Watching, callers: Identifying, issuer: Tickets, draining: Callable[[], bool]
    ) -> None:
        self._live = live
        self._watching = watching
        self._callers = callers
        self._tickets = issuer
        self._draining = draining
        self._watchers: Counter[str] = Counter()  # session → open event streams

    async def ticket(self, request: Request) -> TicketView:
        """Good for one connection to the live door, within 30 seconds."""
        caller = await identify(request, self._callers, Scope.LIVE)
        return TicketView(ticket=self._tickets.issue(tickets.LIVE, "", caller, TICKET_S), expires_in=TICKET_S)

    async def share(self, request: Request, session: str, wish: ShareWish | None = None) -> ShareView:
        """A ticket that lets whoever has it read this session's captions, and do nothing else."""
        caller = await identify(request, self._callers, Scope.LIVE)
        row = await self._of(session, caller)
        ttl_s = wish.ttl_s if wish else SHARE_S
        ticket = self._tickets.issue(tickets.SHARE, row.id, caller, ttl_s)
        return ShareView(ticket=ticket, expires_in=ttl_s, captions_url=f"/captions#{row.id}/{ticket}")

    async def events(self, request: Request, session: str) -> Response:
        """A session's captions as server-sent events, from its first final or after `Last-Event-ID`. The owner's token
        or a share ticket, as bearer."""
        last_seen = request.headers.get("last-event-id", "")
        if last_seen and (not (last_seen.isascii() and last_seen.isdigit()) or len(last_seen) > 18):
            raise errors.Invalid("Last-Event-ID is the id of a final")
        row, reader = await self._readable(request, session)
        if self._watchers.total() >= _MAX_WATCHERS:
            raise errors.Unavailable("too many event streams are open")
        if self._watchers[row.id] >= _MAX_WATCHERS_EACH:
            raise errors.TooManyStreams(f"at most {_MAX_WATCHERS_EACH} may watch a session in one process")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        stream = self._captions(row.id, reader, int(last_seen) if last_seen else -1)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def _readable(self, request: Request, session: str) -> tuple[LiveSession, Principal]:
        credential = credential_in(request.scope)
        if credential.startswith("share."):
            reader = self._tickets.check(credential, tickets.SHARE, _checked(session)).holder
            request.scope["caller"] = reader
            self._callers.check(reader)
        else:
            reader = await identify(request, self._callers, Scope.TASK_READ)
        return await self._of(session, reader), reader

    async def _of(self, session: str, caller: Principal) -> LiveSession:
        row = await self._live.find(_checked(session))
        if row.owner != caller.owner:
            raise errors.SessionNotFound()
        return row

    async def _captions(self, session: str, reader: Principal, after: int) -> AsyncIterator[bytes]:
        self._watchers[session] += 1
        quiet = 0
        try:
            yield b": \n\n"  # the answer begins now, whatever the session does
            async for event in self._watching.watch(session, after):
                if self._draining() or not self._callers.holds(reader):
                    return
                if event is not None:
                    quiet = 0
                    yield _sse(event)
                    continue
                quiet += 1
                if quiet >= _KEEPALIVE_LOOKS:
                    quiet = 0
                    yield b": \n\n"
        finally:
            self._watchers[session] -= 1
            if not self._watchers[session]:
                del self._watchers[session]


def _checked(session: str) -> str:
    if not _SESSION_ID.fullmatch(session):
        raise errors.SessionNotFound()
    return session


def _sse(event: dict[str, Any]) -> bytes:
    data = {k: v for k, v in event.items() if k != "type"}
    head = b"id: %d\n" % event["id"] if event["type"] == "final" else b""
    return head + b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(data))
