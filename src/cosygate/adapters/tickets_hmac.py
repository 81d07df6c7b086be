"""Tickets that carry their own proof: HMAC-SHA256 (RFC 2104) over what they are good for. No state, so every gateway
process can check what another issued. `PURPOSE.BODY.SIGNATURE`, the latter two in base64url without padding."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math

from cosygate import errors
from cosygate.kit.clock import Clock, Randomness
from cosygate.model.principal import Principal, Scope
from cosygate.ports.tickets import SHARE, Ticket

_LONGEST = 2048  # characters
_NONCE_BYTES = 16


class HmacTickets:
    def __init__(self, secret: str, clock: Clock, randomness: Randomness) -> None:
        # A key of their own: a ticket is never a token, nor the other way round.
        self._key = hmac.digest(secret.encode(), b"cosygate tickets v3", hashlib.sha256)
        self._clock = clock
        self._randomness = randomness

    def issue(self, purpose: str, resource: str, holder: Principal, ttl_s: float) -> str:
        # Only scopes that mean something: a token may carry more than a ticket has room for.
        scopes = () if purpose == SHARE else sorted(holder.scopes & frozenset(Scope))
        nonce, expires = _b64(self._randomness.token(_NONCE_BYTES)), int(self._clock.now() + ttl_s)
        # By what the ticket ends with its holder's credential. A share outlives it, as it is meant to.
        until = None if purpose == SHARE or math.isinf(holder.expires_at) else holder.expires_at
        told = [resource, holder.tenant, holder.subject, scopes, holder.credential, holder.issued_at, until]
        body = json.dumps([*told, expires, nonce], ensure_ascii=False)
        signed = f"{purpose}.{_b64(body.encode())}"
        return f"{signed}.{self._sign(signed)}"

    def check(self, ticket: str, purpose: str, resource: str) -> Ticket:
        signed, _, signature = ticket.rpartition(".")
        try:
            # The texts are compared, not what they stand for: base64 has several for the same bytes.
            if len(ticket) > _LONGEST or not hmac.compare_digest(signature.encode(), self._sign(signed).encode()):
                raise ValueError
            for_what, _, body = signed.partition(".")
            of, tenant, subject, scopes, credential, issued_at, until, expires, nonce = json.loads(_unb64(body))
        except ValueError:
            raise errors.TokenInvalid("the ticket is not valid") from None
        if (for_what, of) != (purpose, resource):
            raise errors.TokenInvalid("the ticket is for something else")
        if self._clock.now() > expires:
            raise errors.TokenExpired("the ticket has expired")
        ends = math.inf if until is None else until
        return Ticket(Principal(subject, tenant, frozenset(scopes), credential, issued_at, ends), nonce, float(expires))

    def _sign(self, text: str) -> str:
        return _b64(hmac.digest(self._key, text.encode(), hashlib.sha256))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
