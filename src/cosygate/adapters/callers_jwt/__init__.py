"""Callers by JWT (RFC 7519): HS256 with a shared secret here, the public keys of an issuer in `issued`.

`claims` says what a token must say, `key_set` which public keys are used and for what, `issuer` how they are fetched.
A default, short or well-known secret refuses to start: whoever knows the secret is everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import jwt

from cosygate import errors
from cosygate.adapters.callers_jwt.claims import algorithm_and_key, principal_in, refused
from cosygate.kit.clock import Clock
from cosygate.model.principal import NAME, Principal
from cosygate.ports.callers import Callers

ALGORITHM = "HS256"
MIN_SECRET_BYTES = 32  # RFC 7518 §3.2: at least as long as the hash
MAX_TOKEN_CHARS = 4096
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
          scopes: Iterable[str] | None = None, audience: str = "", issuer: str = "", jti: str = "") -> str:  # fmt: skip
    """A token for `subject`, valid for `ttl_s` seconds from `now` (seconds since the epoch); with `jti` it can be
    revoked alone."""
    if not NAME.fullmatch(subject) or (tenant is not None and not NAME.fullmatch(tenant)):
        raise ValueError("sub and tenant are 1-128 characters without / or control characters")
    # `iat` with its fraction: a token made right after a revocation is not one of those before it.
    claims: dict[str, Any] = {"sub": subject, "iat": round(now, 6), "exp": int(now + ttl_s)}
    optional = {"tenant": tenant, "scope": " ".join(scopes) if scopes is not None else None,
                "aud": audience or None, "iss": issuer or None, "jti": jti or None}  # fmt: skip
    return jwt.encode(claims | {k: v for k, v in optional.items() if v is not None}, secret, algorithm=ALGORITHM)


class JwtCallers:
    """ports/callers.py, Callers: tokens signed with the secret."""

    def __init__(
        self, secret: str, clock: Clock, *, audience: str = "", issuer: str = "", otherwise: Callers | None = None
    ) -> None:
        """`otherwise` is asked about tokens of another algorithm."""
        self._secret = check_secret(secret)
        self._clock = clock
        self._audience = audience
        self._issuer = issuer
        self._otherwise = otherwise

    async def identify(self, credential: str) -> Principal:
        with refused():
            if self._otherwise is not None and algorithm_and_key(credential)[0] != ALGORITHM:
                return await self._otherwise.identify(credential)
            if len(credential) > MAX_TOKEN_CHARS:
                raise errors.TokenInvalid("the token is too long")
            # The algorithm is fixed by the key: what the token's own header says never chooses it.
            return principal_in(
                credential, self._secret, ALGORITHM, self._audience, self._issuer, now=self._clock.now()
            )
