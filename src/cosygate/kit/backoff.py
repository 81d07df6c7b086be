"""How long to wait before trying again."""

from __future__ import annotations

from dataclasses import dataclass

from cosygate.kit.clock import Randomness


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015), in seconds."""

    first_s: float = 0.2
    factor: float = 2.0
    longest_s: float = 30.0

    def delay(self, attempt: int, randomness: Randomness) -> float:
        """Seconds before try number `attempt` + 1; attempts count from 0. Never below a tenth of the ceiling."""
        ceiling = min(self.longest_s, self.first_s * self.factor ** min(attempt, 63))
        return randomness.uniform(ceiling / 10, ceiling)
