"""Requests without a valid token, counted by address. Whoever has a valid one is never refused here, whatever others
behind the same address do: that the token is not valid is found out first, and what is refused is only the answer."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cosygate import errors
from cosygate.api.addresses import Proxies
from cosygate.api.problems import problem
from cosygate.flows.limiting import Limiting


@dataclass(frozen=True, slots=True)
class Strangers:
    limiting: Limiting
    proxies: Proxies

    async def seen(self, scope: Scope) -> errors.Refused | None:
        """A request turned out to have no valid token: what to answer instead, when there were too many."""
        return await self.limiting.stranger(self.proxies.key(scope))


class StrangerLane:
    """Counts every 401 on its way out, of whichever door."""

    def __init__(self, app: ASGIApp, strangers: Strangers) -> None:
        self._app = app
        self._strangers = strangers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def told(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == errors.Unauthenticated.status:
                refusal = await self._strangers.seen(scope)
                if refusal is not None:
                    refused = True
                    await problem(refusal, scope["trace_id"])(scope, receive, send)
                    return
            if not refused:
                await send(message)

        await self._app(scope, receive, told)
