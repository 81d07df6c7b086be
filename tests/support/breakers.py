"""Breakers of a test's own engines, and how they come to be open."""

from __future__ import annotations

from cosygate.adapters.breaker_memory import MemoryBreakers
from cosygate.flows.breakers import Breakers
from cosygate.kit.clock import Clock
from tests.support.clock import SeededRandomness


def breakers(clock: Clock, engines: int = 1, open_s: float = 60.0) -> Breakers:
    """Known to nobody else."""
    return Breakers(MemoryBreakers(engines), clock, SeededRandomness(), engines=engines, open_s=open_s)
