"""Callers by JWT (RFC 7519), HS256 with a shared secret. Asymmetric keys by JWKS join here as a second adapter.

A default, short or well-known secret refuses to start: whoever knows the secret is everybody.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import jwt

from cosygate import errors
from cosygate.kit.clock import Clock
from cosygate.model.principal import DEFAULT_SCOPES, DEFAULT_TENANT, Principal

ALGORITHM = "HS256"
MIN_SECRET_BYTES = 32  # RFC 7518 §3.2: at least as long as the hash
MAX_TOKEN_CHARS = 4096
LEEWAY_S = 5.0  # between the issuer's clock and ours
_NAME = re.compile(r"[^\x00-\x1f\x7f/]{1,128}")
# Secrets that stand in tutorials (the article's among them) and so in every attacker's list.
WELL_KNOWN = (
    *("change-me", "changeme", "your-secret-key", "your-256-bit-secret", "supersecret", "super-secret", "secret"),
    *("password", "cosyvoice", "jwt-secret", "mysecret", "example", "replace-me"),
)


def check_secret(secret: str) -> str:
    """Raises ValueError with the reason when the secret must not be used."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"the JWT secret is shorter than {MIN_SECRET_BYTES} bytes")
    plain = re.sub(r"[^a-z]", "", secret.lower())
    if len(set(secret)) < 10 or any(plain.replace(re.sub(r"[^a-z]", "", w), "") == "" for w in WELL_KNOWN):
        raise ValueError("the JWT secret is a default or too simple; leave it empty to have one generated")
    return secret


def issue(secret: str, *, subject: str, now: float, ttl_s: float, tenant: str | None = None,
          scopes: Iterable[str] | None = None, audience: str = "", issuer: str = "") -> str:  # fmt: skip
    """A token for `subject`, valid for `ttl_s` seconds from `now` (seconds since the epoch)."""
    if not _NAME.fullmatch(subject) or (tenant is not None and not _NAME.fullmatch(tenant)):
        raise ValueError("sub and tenant are 1-128 characters without / or control characters")
    claims: dict[str, Any] = {"sub": subject, "iat": int(now), "exp": int(now + ttl_s)}
    optional = {"tenant": tenant, "scope": " ".join(scopes) if scopes is not None else None,
                "aud": audience or None, "iss": issuer or None}  # fmt: skip
    return jwt.encode(claims | {k: v for k, v in optional.items() if v is not None}, secret, algorithm=ALGORITHM)


class JwtCallers:
    """Verified tokens are remembered (a bounded number, until they expire): a client sends the same one with each
    chunk, and checking it costs as much as the rest of a small request."""

    def __init__(
        self, secret: str, clock: Clock, *, audience: str = "", issuer: str = "", remembered: int = 4096
    ) -> None:
        self._secret = check_secret(secret)
        self._clock = clock
        self._audience = audience or None
        self._issuer = issuer or None
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        self._remembered = remembered

    async def identify(self, credential: str) -> Principal:
        known = self._known.get(credential)
        if known is None:
            known = self._verify(credential)
            self._known[credential] = known
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)
        principal, expires = known
        if self._clock.now() > expires + LEEWAY_S:
            self._known.pop(credential, None)
            raise errors.TokenExpired()
        return principal

    def _verify(self, token: str) -> tuple[Principal, float]:
        if len(token) > MAX_TOKEN_CHARS:
            raise errors.TokenInvalid("the token is too long")
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],  # fixed: the token's own header never chooses
                audience=self._audience,
                issuer=self._issuer,
                options={
                    "require": ["exp", "sub"],
                    "verify_aud": self._audience is not None,
                    # By our own clock, below: PyJWT reads the wall clock itself.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            return self._principal(claims), self._expiry(claims)
        except jwt.MissingRequiredClaimError as error:
            raise errors.TokenInvalid(f"the token lacks {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise errors.TokenInvalid() from None

    def _expiry(self, claims: dict[str, Any]) -> float:
        expires, not_before = float(claims["exp"]), float(claims.get("nbf", 0))
        if not math.isfinite(expires):
            raise errors.TokenInvalid("exp is not a time")
        if not_before > self._clock.now() + LEEWAY_S:
            raise errors.TokenInvalid("the token is not valid yet")
        return expires

    @staticmethod
    def _principal(claims: dict[str, Any]) -> Principal:
        subject, tenant = claims["sub"], claims.get("tenant", DEFAULT_TENANT)
        if not (isinstance(subject, str) and isinstance(tenant, str)):
            raise errors.TokenInvalid("sub and tenant are strings")
        if not (_NAME.fullmatch(subject) and _NAME.fullmatch(tenant)):
            raise errors.TokenInvalid("sub and tenant are 1-128 characters without / or control characters")
        scope = claims.get("scope")
        if scope is None:
            return Principal(subject, tenant, DEFAULT_SCOPES)
        if not isinstance(scope, str):
            raise errors.TokenInvalid("scope is a string of names separated by spaces")
        return Principal(subject, tenant, frozenset(scope.split()))
