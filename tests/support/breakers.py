"""Breakers of a test's own engines, and how they come to be open."""

from __future__ import annotations

from cosygate.adapters.breaker_memory import MemoryBreakers
from cosygate.flows.breakers import Breakers
from cosygate.kit.clock import Clock
from cosygate.ports.engine import Engine
from tests.support.clock import SeededRandomness


def breakers(clock: Clock, open_s: float = 60.0) -> Breakers:
    """Known to nobody else."""
    return Breakers(MemoryBreakers(), clock, SeededRandomness(), open_s=open_s)


def numbered(*engines: Engine) -> dict[str, Engine]:
    """By the names that they have on one machine."""
    return {str(number): engine for number, engine in enumerate(engines)}
