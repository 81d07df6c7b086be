"""Short-lived rights for what cannot carry a bearer token, such as a browser's <audio> element, or must not, such as
the audience of a meeting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cosygate.model.principal import Principal

AUDIO = "audio"  # of one task, by its id
LIVE = "live"  # one connection to the live door; resource: ""
SHARE = "share"  # reading one live session, by its id


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket that holds says."""

    holder: Principal  # with the credential that it was got with: it ends with that
    id: str  # no two tickets have the same: what OneTime.spend remembers
    expires_at: float  # seconds since the epoch


class Tickets(Protocol):
    """A ticket is good for one purpose and one resource, for its holder, until it expires. Any gateway process can
    check what another one issued. It consists of letters, digits and `-_.`, begins with its purpose and a dot, and has
    at most 2048 characters."""

    def issue(self, purpose: str, resource: str, holder: Principal, ttl_s: float) -> str:
        """No two are equal. The holder of a SHARE has no scopes when it is checked, whatever the issuer has: it says
        whose session may be read, and lets its bearer do nothing else. It does not expire with its holder's credential,
        as the others do."""

    def check(self, ticket: str, purpose: str, resource: str) -> Ticket:
        """Raises TokenInvalid, TokenExpired."""
