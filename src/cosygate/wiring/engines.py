"""The engines, and the breakers that this machine's gateways share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from cosygate.adapters.breaker_file import FileBreakers
from cosygate.adapters.breaker_memory import MemoryBreakers
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.flows.breakers import Breakers
from cosygate.flows.choose_engine import EngineRoom
from cosygate.kit.clock import Clock, Randomness
from cosygate.ports.breaker import BreakerBoard
from cosygate.settings import Settings


def engine_room(
    settings: Settings,
    addresses: Sequence[str],
    shared: Path | None,
    clock: Clock,
    randomness: Randomness,
    stack: AsyncExitStack,
    *,
    index: int,
) -> EngineRoom:
    """`shared`: the folder of breakers, the same for every gateway with these addresses; None: its own. `index`: which
    gateway this is."""
    engines = [GrpcEngine(address) for address in addresses]
    for engine in engines:
        stack.push_async_callback(engine.close)
    board: BreakerBoard = MemoryBreakers(len(engines))
    if shared is not None:
        board = FileBreakers(shared, len(engines), clock)
        stack.callback(board.close)
    breakers = Breakers(board, clock, randomness, engines=len(engines), open_s=settings.breaker_open_s)
    first = index * len(engines) // settings.workers  # as far apart as there are engines for it
    return EngineRoom(engines, clock, breakers, first=first)
