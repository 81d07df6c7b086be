"""The short way for the one request that comes a thousand times a second: a raw chunk. It goes from the edge straight
to its door, past a router and five framework layers that cost as much CPU as storing the chunk (docs/adr/0004). The
same function serves it, and the framework's own route to it remains for the API's description."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cosygate import errors
from cosygate.api.problems import problem

CHUNK_ROUTE = "/v1/audio/{session_id}/{seq}"
_CHUNK = re.compile(r"/v1/audio/([^/]+)/([^/]+)")
_ROUTE = SimpleNamespace(path=CHUNK_ROUTE)  # what the edge reads the metric's label from


class ChunkLane:
    def __init__(self, app: ASGIApp, put_chunk: Callable[[Request], Awaitable[Response]]) -> None:
        self._app = app
        self._put_chunk = put_chunk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _CHUNK.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        if match is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        scope["path_params"] = {"session_id": match[1], "seq": match[2]}
        try:
            response = await self._put_chunk(Request(scope, receive))
        except errors.CosyGateError as error:
            response = problem(error, scope["trace_id"])
        await response(scope, receive, send)
