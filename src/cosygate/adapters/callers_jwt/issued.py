"""Tokens of an identity provider: RS256, ES256 and EdDSA by its public keys. Loaded only where there is one: it needs
an HTTP client."""

from __future__ import annotations

from dataclasses import replace

import jwt

from cosygate import errors
from cosygate.adapters.callers_jwt.claims import algorithm_and_key, principal_in, refused
from cosygate.adapters.callers_jwt.issuer import Issuer
from cosygate.adapters.callers_jwt.key_set import ALGORITHMS
from cosygate.kit.clock import Clock
from cosygate.model.principal import LEEWAY_S, Principal


class IssuedCallers:
    """ports/callers.py, Callers."""

    def __init__(self, keys: Issuer, clock: Clock, *, audience: str = "", issuer: str = "") -> None:
        self._keys = keys
        self._clock = clock
        self._audience = audience
        self._issuer = issuer

    async def identify(self, credential: str) -> Principal:
        """Verifying (some 50 µs) happens on the event loop: a thread would cost as much."""
        with refused():
            algorithm, kid = algorithm_and_key(credential)
            if algorithm not in ALGORITHMS:
                raise errors.TokenInvalid()
            for key in await self._keys.find(kid, algorithm):
                try:
                    caller = principal_in(
                        credential, key, algorithm, self._audience, self._issuer, now=self._clock.now()
                    )
                except jwt.InvalidSignatureError:
                    continue
                # The issuer's clock may be ahead of the one that a revocation is dated by.
                return replace(caller, issued_at=max(0.0, caller.issued_at - LEEWAY_S))
            raise errors.TokenInvalid()
