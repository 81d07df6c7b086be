"""From a token and the key that it must be signed with to a principal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.types import Options

from cosygate import errors
from cosygate.model.principal import DEFAULT_SCOPES, DEFAULT_TENANT, LEEWAY_S, NAME, Principal, token_credential

MAX_TOKEN_CHARS = 8192  # an issuer's; our own are shorter
MAX_HEAD_CHARS = 2048  # of a token's header, base64


@contextmanager
def refused() -> Iterator[None]:
    """Whatever the libraries say of what somebody made up is TokenInvalid."""
    try:
        yield
    except jwt.MissingRequiredClaimError as error:
        raise errors.TokenInvalid(f"the token lacks {error.claim}") from None
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, OverflowError, RecursionError):
        raise errors.TokenInvalid() from None


def algorithm_and_key(token: str) -> tuple[str, str | None]:
    """What the token's header says of itself, `alg` and `kid`: to look a key up by, and for nothing else."""
    if len(token) > MAX_TOKEN_CHARS:
        raise errors.TokenInvalid("the token is too long")
    head, dot, _ = token.partition(".")
    if not dot or len(head) > MAX_HEAD_CHARS:
        raise errors.TokenInvalid()
    header = jwt.get_unverified_header(token)
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
        raise errors.TokenInvalid()
    return algorithm, kid


def principal_in(token: str, key: Any, algorithm: str, audience: str, issuer: str, *, now: float) -> Principal:
    """Who the token is for. Its expiry is told, not judged. Raises TokenInvalid, and what `refused` translates."""
    options: Options = {
        "require": ["exp", "sub"],
        "verify_aud": bool(audience),
        # By our own clock, below: PyJWT reads the wall clock itself.
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
    }
    claims: dict[str, Any] = jwt.decode(
        token, key, algorithms=[algorithm], audience=audience or None, issuer=issuer or None, options=options
    )
    expires_at, issued_at = _time(claims, "exp"), _time(claims, "iat")
    if _time(claims, "nbf") > now + LEEWAY_S:
        raise errors.TokenInvalid("the token is not valid yet")
    return Principal(
        *_names(claims),
        _scopes(claims),
        credential=_credential(claims),
        # One from the future counts as old: it would outlive every revocation.
        issued_at=issued_at if issued_at <= now + LEEWAY_S else 0.0,
        expires_at=expires_at,
    )


def _time(claims: dict[str, Any], name: str) -> float:
    value = float(claims.get(name, 0))
    if not math.isfinite(value):
        raise errors.TokenInvalid(f"{name} is not a time")
    return value


def _names(claims: dict[str, Any]) -> tuple[str, str]:
    subject, tenant = claims["sub"], claims.get("tenant", DEFAULT_TENANT)
    if not (isinstance(subject, str) and isinstance(tenant, str)):
        raise errors.TokenInvalid("sub and tenant are strings")
    if not (NAME.fullmatch(subject) and NAME.fullmatch(tenant)):
        raise errors.TokenInvalid("sub and tenant are 1-128 characters without / or control characters")
    return subject, tenant


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    scope = claims.get("scope")
    if scope is None:
        return DEFAULT_SCOPES
    if not isinstance(scope, str):
        raise errors.TokenInvalid("scope is a string of names separated by spaces")
    return frozenset(scope.split())


def _credential(claims: dict[str, Any]) -> str:
    jti = claims.get("jti")
    if jti is None or jti == "":
        return ""
    if not isinstance(jti, str):
        raise errors.TokenInvalid("jti is a string")
    return token_credential(jti)
