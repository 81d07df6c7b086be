"""Keeps the room's engines those that there are: the ones of fixed addresses, and one at each address of a name, which
is looked up again and again. A look-up that fails, or finds nothing, changes nothing: engines are more likely to be
where they were than to be gone all at once.

An engine that is there no more gets no more calls; its connections are closed once those that it has have ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cosygate.flows.choose_engine import EngineRoom
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.engine_addresses import ENGINES_MAX, EngineAddress, join
from cosygate.ports.engine import EngineConnection
from cosygate.ports.names import LookupFailed, Names

_log = logger()
_TELL_EVERY_S = 60.0  # how often a look-up that goes on failing is told

Connect = Callable[[str, str], EngineConnection]


@dataclass
class _Source:
    """One of the addresses that were given, and what it stands for."""

    address: EngineAddress
    found: tuple[str, ...] = ()
    tell_at: float = float("-inf")  # monotonic


class Fleet:
    def __init__(
        self,
        room: EngineRoom,
        addresses: Sequence[EngineAddress],
        names: Names,
        connect: Connect,
        clock: Clock,
        *,
        every_s: float,
    ) -> None:
        """`connect` makes the connection to an engine at host:port, whose certificate is for the name; `every_s`: time
        between look-ups."""
        self._room = room
        self._names = names
        self._connect = connect
        self._clock = clock
        self._every_s = every_s
        self._sources = [_Source(a, () if a.each else (str(a),)) for a in addresses]
        self._engines: dict[str, EngineConnection] = {}
        self._leaving: dict[asyncio.Task[None], EngineConnection] = {}
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Engines of fixed addresses are there when it returns."""
        self._settle()
        if any(source.address.each for source in self._sources):
            self._looking = asyncio.create_task(self._run())

    async def look(self) -> None:
        """Looks all names up once."""
        await asyncio.gather(*(self._look(source) for source in self._sources if source.address.each))
        self._settle()

    async def close(self) -> None:
        """Ends all calls and connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        leaving = list(self._leaving.items())
        for task, _ in leaving:
            task.cancel()
        await asyncio.gather(*(task for task, _ in leaving), return_exceptions=True)
        engines, self._engines = self._engines, {}
        await asyncio.gather(*(engine.close() for engine in (*engines.values(), *(engine for _, engine in leaving))))

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # or nobody would look again
                _log.error("engine.lookup_crashed", exc_info=error)
            await self._clock.sleep(self._every_s)

    async def _look(self, source: _Source) -> None:
        name, port = source.address.host, source.address.port
        try:
            found = await self._names.addresses(name)
            if not found:
                raise LookupFailed("it has no address")
        except LookupFailed as error:
            now = self._clock.monotonic()
            if now >= source.tell_at:
                _log.warning("engine.lookup_failed", name=name, detail=str(error), kept=len(source.found))
                source.tell_at = now + _TELL_EVERY_S
            return
        source.tell_at = float("-inf")
        source.found = tuple(join(host, port) for host in sorted(found)[:ENGINES_MAX])

    def _settle(self) -> None:
        """The room's engines are those that were found."""
        wanted: dict[str, str] = {}  # by name; what its certificate has to be for
        for source in self._sources:
            for key in source.found:
                wanted.setdefault(key, source.address.host)
        for key in [key for key in self._engines if key not in wanted]:
            engine = self._engines.pop(key)
            _log.info("engine.left", engine=key, engines=len(self._engines))
            self._leaving[asyncio.create_task(self._part(self._room.leave(key), engine))] = engine
        for key, name in wanted.items():
            if key not in self._engines:
                self._engines[key] = engine = self._connect(key, name)
                self._room.join(key, engine)
                _log.info("engine.joined", engine=key, engines=len(self._engines))

    async def _part(self, ended: Awaitable[object], engine: EngineConnection) -> None:
        await ended
        await engine.close()
        me = asyncio.current_task()
        if me is not None:
            self._leaving.pop(me, None)
