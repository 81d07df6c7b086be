"""Short-lived rights for what cannot carry a bearer token, such as a browser's <audio> element."""

from __future__ import annotations

from typing import Protocol

from cosygate.model.principal import Principal


class Tickets(Protocol):
    """A ticket is good for one purpose and one resource, for its holder, until it expires. Any gateway process can
    check what another one issued."""

    def issue(self, purpose: str, resource: str, holder: Principal, ttl_s: float) -> str: ...

    def check(self, ticket: str, purpose: str, resource: str) -> Principal:
        """The holder. Raises TokenInvalid, TokenExpired."""
