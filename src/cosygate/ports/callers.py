"""Who is calling: from a credential to a principal."""

from __future__ import annotations

from typing import Protocol

from cosygate.model.principal import Principal


class Callers(Protocol):
    async def identify(self, credential: str) -> Principal:
        """The principal that a bearer credential stands for. Raises TokenInvalid, TokenExpired; which of its reasons it
        was is in the detail only where it helps an honest client."""
