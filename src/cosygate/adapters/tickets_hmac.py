"""Tickets that carry their own proof: HMAC-SHA256 (RFC 2104) over what they are good for. No state, so every gateway
process can check what another issued."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

from cosygate import errors
from cosygate.kit.clock import Clock
from cosygate.model.principal import Principal

_LONGEST = 2048  # characters


class HmacTickets:
    def __init__(self, secret: str, clock: Clock) -> None:
        # A key of their own: a ticket is never a token, nor the other way round.
        self._key = hmac.digest(secret.encode(), b"cosygate tickets v1", hashlib.sha256)
        self._clock = clock

    def issue(self, purpose: str, resource: str, holder: Principal, ttl_s: float) -> str:
        body = json.dumps(
            [purpose, resource, holder.tenant, holder.subject, sorted(holder.scopes), int(self._clock.now() + ttl_s)]
        ).encode()
        return f"{_b64(body)}.{_b64(self._sign(body))}"

    def check(self, ticket: str, purpose: str, resource: str) -> Principal:
        body, _, signature = ticket.partition(".")
        try:
            if len(ticket) > _LONGEST:
                raise ValueError
            raw = _unb64(body)
            if not hmac.compare_digest(_unb64(signature), self._sign(raw)):
                raise ValueError
            for_what, of, tenant, subject, scopes, expires = json.loads(raw)
        except ValueError:
            raise errors.TokenInvalid("the ticket is not valid") from None
        if (for_what, of) != (purpose, resource):
            raise errors.TokenInvalid("the ticket is for something else")
        if self._clock.now() > expires:
            raise errors.TokenExpired("the ticket has expired")
        return Principal(subject, tenant, frozenset(scopes))

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
