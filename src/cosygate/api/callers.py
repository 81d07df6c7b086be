"""From a request to its principal: the bearer token and the scope, before anything of the body is read."""

from __future__ import annotations

from starlette.requests import Request

from cosygate import errors
from cosygate.model.principal import Principal, Scope
from cosygate.ports.callers import Callers


async def identify(request: Request, callers: Callers, scope: Scope) -> Principal:
    """The caller of `request`. Raises Unauthenticated, TokenInvalid, TokenExpired, Forbidden."""
    header = request.headers.get("authorization", "")
    kind, _, credential = header.partition(" ")
    credential = credential.strip()
    if kind.lower() != "bearer" or not credential:
        raise errors.Unauthenticated()
    principal = await callers.identify(credential)
    request.scope["caller"] = principal
    return require(principal, scope)


def require(principal: Principal, scope: Scope) -> Principal:
    if scope not in principal.scopes:
        raise errors.Forbidden(f"the token lacks the scope {scope}", scope=str(scope))
    return principal
