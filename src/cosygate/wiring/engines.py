"""The engines, and the breakers that gateways which call the same ones share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from cosygate.adapters.breaker_file import FileBreakers
from cosygate.adapters.breaker_memory import MemoryBreakers
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.adapters.engine_grpc.tls import Certificates, Tls
from cosygate.adapters.names_dns import DnsNames
from cosygate.flows.breakers import Breakers
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.fleet import Fleet
from cosygate.kit.clock import Clock, Randomness
from cosygate.model.engine_addresses import parse_addresses
from cosygate.ports.breaker import BreakerBoard
from cosygate.ports.names import Names
from cosygate.settings import Settings

_FIRST_OF = 1 << 16  # processes on other hosts: each begins with an engine of its own where several are as busy


def engine_room(
    settings: Settings,
    addresses: Sequence[str],
    shared: Path | None,
    clock: Clock,
    randomness: Randomness,
    stack: AsyncExitStack,
    *,
    index: int,
    board: BreakerBoard | None = None,
    names: Names | None = None,
) -> EngineRoom:
    """`addresses`: of the engines that `serve` started, which are known as "0", "1", …; without any, those of the
    settings, known by their addresses. `shared`: the folder of breakers, the same for every gateway with these engines;
    None: its own; `board`: instead of it, one that other hosts' gateways share. `index`: which gateway this is;
    `names`: who looks names up. For the event loop that runs. Raises ValueError for what the operator has to mend."""
    if board is None:
        board = MemoryBreakers()
        if shared is not None:
            board = files = FileBreakers(shared, clock)
            stack.callback(files.close)
    breakers = Breakers(board, clock, randomness, open_s=settings.breaker_open_s)
    if addresses or not settings.engine_addresses:
        engines = [GrpcEngine(address) for address in addresses]
        for engine in engines:
            stack.push_async_callback(engine.close)
        first = index * len(engines) // settings.workers  # as far apart as there are engines for it
        return EngineRoom({str(n): engine for n, engine in enumerate(engines)}, clock, breakers, first=first)
    room = EngineRoom({}, clock, breakers, first=int(randomness.uniform(0, _FIRST_OF)))
    certificates = _certificates(settings)

    def connect(address: str, name: str) -> GrpcEngine:
        return GrpcEngine(address, tls=Tls(certificates, name) if certificates else None)

    found = parse_addresses(settings.engine_addresses)
    fleet = Fleet(room, found, names or DnsNames(), connect, clock, every_s=settings.engine_lookup_s)
    stack.push_async_callback(fleet.close)
    fleet.begin()
    return room


def _certificates(settings: Settings) -> Certificates | None:
    if settings.engine_tls_ca is None:
        return None
    return Certificates(settings.engine_tls_ca, settings.engine_tls_cert, settings.engine_tls_key)
