"""What an operator has told the whole installation, whichever gateway heard it."""

from __future__ import annotations

from typing import Protocol


class Switches(Protocol):
    async def set(self, name: str, value: str, now: float) -> None:
        """From now on. Raises DatabaseBusy, changing nothing."""

    async def read(self) -> dict[str, tuple[str, float]]:
        """Every switch that was ever set: its value, and since when (seconds since the epoch). Raises DatabaseBusy."""
