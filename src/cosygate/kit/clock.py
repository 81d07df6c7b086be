"""Time and randomness as arguments: production passes SystemClock, tests pass one they can move."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch; may jump. For showing and for retention, never for leases."""

    def monotonic(self) -> float:
        """Seconds from an unknown start; never goes back."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Randomness(Protocol):
    def uniform(self, low: float, high: float) -> float: ...

    def token(self, nbytes: int) -> bytes:
        """Unguessable."""

    def trace_id(self) -> str:
        """32 lower-case hex digits, unique but no secret; cheap."""


class SystemRandomness:
    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)  # noqa: S311 - jitter, not a secret

    def token(self, nbytes: int) -> bytes:
        return secrets.token_bytes(nbytes)

    def trace_id(self) -> str:
        return f"{random.getrandbits(128):032x}"


def time_ordered_id(clock: Clock, randomness: Randomness) -> str:
    """A UUIDv7 as 32 hex digits (RFC 9562 §5.7): sorts by time of creation, cannot be guessed."""
    millis = int(clock.now() * 1000) & ((1 << 48) - 1)
    rand = int.from_bytes(randomness.token(10), "big")
    value = millis << 80 | 0x7 << 76 | (rand >> 68 & 0xFFF) << 64 | 0b10 << 62 | rand & ((1 << 62) - 1)
    return f"{value:032x}"
