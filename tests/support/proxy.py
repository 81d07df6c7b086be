"""A TCP proxy on loopback that does to connections what networks do: cut, reset, stall, throttle, half-open, swallow.

    client ──up──► FaultProxy ──up──► target
           ◄─down─            ◄─down─

It runs in a thread of its own, so a blocking test and an asyncio test drive it alike: its methods may be called from
any thread, and return when it has happened. A fault strikes on command, or when exactly `at` bytes have passed one way.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeVar

from tests.support.proxy_link import Fault, Kind, Link, LinkState, Way, reset_on_close

__all__ = ["Fault", "FaultProxy", "Kind", "LinkState", "Way"]

_LINKS = 1024  # open at once; beyond it, connections are refused
_KEPT = 10_000  # links remembered
_STOP_S = 10.0

T = TypeVar("T")


class FaultProxy:
    """Listens on `port` from `start` (or entering) to `stop` (or leaving), which ends all its links."""

    def __init__(self, target_port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, target_port)
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._armed: deque[tuple[Fault, ...]] = deque()
        self._links: deque[Link] = deque(maxlen=_KEPT)
        self._count = 0
        self._refusing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fault proxy", daemon=True)
        self._started = threading.Event()

    def start(self) -> Self:
        self._listener.listen(256)
        self._listener.setblocking(False)
        self._thread.start()
        assert self._started.wait(_STOP_S)
        return self

    def stop(self) -> None:
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_STOP_S)
            assert not self._thread.is_alive(), "the proxy did not stop"
        self._listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def arm(self, *faults: Fault) -> None:
        """For one connection to come: the next, or, called n times before it, the nth. Without faults: a good one."""
        self._do(lambda: self._armed.append(faults))

    def strike(self, fault: Fault) -> None:
        """At once, on every open link."""
        self._do(lambda: [link.strike(fault) for link in self._links])

    def cut(self) -> None:
        self.strike(Fault(Kind.CUT))

    def refuse(self) -> None:
        """The network is gone: open links are cut, and new ones are reset until `heal`."""
        self._do(lambda: setattr(self, "_refusing", True))
        self.cut()

    def heal(self) -> None:
        """Nothing stalls, throttles, swallows or refuses any more, and nothing is armed; closed links stay closed."""

        def heal() -> None:
            self._refusing = False
            self._armed.clear()
            for link in self._links:
                link.heal()

        self._do(heal)

    def lead_to(self, port: int) -> None:
        """Connections to come have another target, as when a name gets another address; those there are stay."""
        self._do(lambda: setattr(self, "_target", (self._target[0], port)))

    def links(self) -> list[LinkState]:
        """The latest ones, oldest first; also once it has stopped."""

        def look() -> list[LinkState]:
            return [link.state() for link in self._links]

        return self._do(look) if self._thread.is_alive() else look()

    def _do(self, action: Callable[[], T]) -> T:
        """In the proxy's thread."""
        assert self._loop is not None and self._thread.is_alive(), "the proxy does not run"
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(action())
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_STOP_S)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._started.set()
        tasks: set[asyncio.Task[None]] = set()
        accepting = asyncio.create_task(self._accept(tasks))
        await self._stopping.wait()
        for task in (accepting, *tasks):
            task.cancel()
        await asyncio.gather(accepting, *tasks, return_exceptions=True)

    async def _accept(self, tasks: set[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            if self._refusing or len(tasks) >= _LINKS:
                reset_on_close(client)
                client.close()
                continue
            client.setblocking(False)
            faults = self._armed.popleft() if self._armed else ()
            link = Link(self._count, client, self._target, faults)
            self._count += 1
            self._links.append(link)
            task = loop.create_task(link.run())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
