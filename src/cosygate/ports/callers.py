"""Who is calling: from a credential to a principal."""

from __future__ import annotations

from typing import Protocol

from cosygate.model.principal import Principal


class Callers(Protocol):
    async def identify(self, credential: str) -> Principal:
        """The principal that a bearer credential (a JWT, an API key) stands for. Raises TokenInvalid, TokenExpired,
        TokenRevoked; KeysUnavailable, DatabaseBusy when it cannot be known now. Which reason it was is in the detail
        only where it helps an honest client. An adapter may leave expiry to its caller: the principal tells it."""
