"""What a name stands for."""

from __future__ import annotations

from typing import Protocol


class LookupFailed(Exception):
    """Why, in a few words."""


class Names(Protocol):
    async def addresses(self, name: str) -> tuple[str, ...]:
        """The IP addresses of a host's name, each once, as they are now; none when it has none. Raises LookupFailed,
        after a bounded time."""
