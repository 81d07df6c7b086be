"""From a request to its principal: the credential and the scope, before anything of the body is read."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from cosygate import errors
from cosygate.model.api_key import PREFIX
from cosygate.model.principal import Principal, Scope
from cosygate.ports.callers import Callers


async def identify(request: Request, callers: Callers, scope: Scope) -> Principal:
    """The caller of `request`. Raises Unauthenticated, TokenInvalid, TokenExpired, TokenRevoked, Forbidden; Unavailable
    when it cannot be known now."""
    credential = credential_in(request.scope)
    if not credential:
        raise errors.Unauthenticated()
    principal = await callers.identify(credential)
    request.scope["caller"] = principal
    return require(principal, scope)


def credential_in(scope: Any) -> str:
    """What `Authorization: Bearer …` carries, or, of an API key, `Token …` as well; empty: nothing, or another scheme.
    Raises TokenInvalid when there are two: which one counts, a proxy may see otherwise than we do."""
    header: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            if header is not None:
                raise errors.TokenInvalid("there are two Authorization headers")
            header = value
    if header is None:
        return ""
    scheme, _, credential = header.decode("latin-1").partition(" ")
    credential, scheme = credential.strip(), scheme.lower()
    if scheme == "bearer" or (scheme == "token" and credential.startswith(PREFIX)):
        return credential
    return ""


def require(principal: Principal, scope: Scope) -> Principal:
    if scope not in principal.scopes:
        raise errors.Forbidden(f"the token lacks the scope {scope}", scope=str(scope))
    return principal
