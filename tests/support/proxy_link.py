"""One connection through the fault proxy (proxy.py), and the faults that may strike it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from dataclasses import dataclass, field
from enum import StrEnum

_IN_HAND = 64 * 1024  # bytes read and not yet written, each way
_GOODBYE_S = 0.5
_SLICES = 20  # writes a second of a throttled way
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger


class Way(StrEnum):
    UP = "up"  # from the client to the target
    DOWN = "down"


class Kind(StrEnum):
    CUT = "cut"  # both connections are closed (FIN)
    RESET = "reset"  # both are reset (RST)
    STALL = "stall"  # this way is not read for `seconds`
    THROTTLE = "throttle"  # this way takes at most `rate` bytes a second
    HALF_OPEN = "half_open"  # the end that this way leads to is gone; the other stays open and is told nothing
    SWALLOW = "swallow"  # what goes this way is read and dropped
    ABORT = "abort"  # not the proxy's: the client itself drops the connection (live_runs.py)


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    way: Way = Way.UP
    at: int = 0  # bytes that pass this way before it strikes; on command it strikes at once
    seconds: float = math.inf
    rate: float = math.inf


@dataclass(frozen=True, slots=True)
class LinkState:
    """One connection, as it was when asked. Links are numbered from 0 in the order of their coming."""

    number: int
    up: int  # bytes that have passed, swallowed ones too
    down: int
    open: bool
    struck: tuple[Fault, ...]


@dataclass(slots=True)
class Lane:
    """One way of one link."""

    source: socket.socket
    sink: socket.socket
    due: list[Fault]  # by position
    passed: int = 0
    swallow: bool = False
    rate: float = math.inf
    flows: asyncio.Event = field(default_factory=asyncio.Event)  # clear: stalled


class Link:
    def __init__(self, number: int, client: socket.socket, target: tuple[str, int], faults: tuple[Fault, ...]) -> None:
        self.number = number
        self.open = True
        self.struck: list[Fault] = []
        self._client = client
        self._address = target
        self._target = socket.socket()
        self._target.setblocking(False)
        self._end: asyncio.Future[Fault | None] = asyncio.get_running_loop().create_future()
        ends = {Way.UP: (client, self._target), Way.DOWN: (self._target, client)}
        self.lanes = {
            way: Lane(*ends[way], sorted((f for f in faults if f.way is way), key=lambda f: f.at)) for way in Way
        }

    def state(self) -> LinkState:
        up, down = (self.lanes[way].passed for way in Way)
        return LinkState(self.number, up, down, self.open, tuple(self.struck))

    async def run(self) -> None:
        for sock in (self._client, self._target):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pumps: list[asyncio.Task[None]] = []
        try:
            await asyncio.get_running_loop().sock_connect(self._target, self._address)
            pumps = [asyncio.create_task(self._pump(lane)) for lane in self.lanes.values()]
            fault = await self._wait_end(pumps)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            if fault is not None:
                await self._finish(fault)
        except OSError:  # nobody listens, or one end was reset: so is the other
            self._reset_both()
        finally:
            for pump in pumps:
                pump.cancel()
            self.open = False
            self._client.close()
            self._target.close()

    async def _wait_end(self, pumps: list[asyncio.Task[None]]) -> Fault | None:
        """The fault that ends it, or None when both ways have come to their end. Raises OSError."""
        left = set(pumps)
        while left:
            done, _ = await asyncio.wait({*left, self._end}, return_when=asyncio.FIRST_COMPLETED)
            if self._end.done():
                return self._end.result()
            for pump in left & done:
                left.remove(pump)
                pump.result()
        return None

    async def _finish(self, fault: Fault) -> None:
        if fault.kind is Kind.RESET:
            self._reset_both()
        elif fault.kind is Kind.HALF_OPEN:
            self.lanes[fault.way].sink.close()
            await asyncio.Event().wait()  # until the proxy stops
        else:
            await asyncio.gather(_say_goodbye(self._client), _say_goodbye(self._target))

    def _reset_both(self) -> None:
        for sock in (self._client, self._target):
            reset_on_close(sock)

    async def _pump(self, lane: Lane) -> None:
        loop = asyncio.get_running_loop()
        lane.flows.set()
        while True:
            while lane.due and lane.due[0].at <= lane.passed:
                self.strike(lane.due.pop(0))
            if self._end.done():
                return
            await lane.flows.wait()
            size = min(_IN_HAND, lane.due[0].at - lane.passed if lane.due else _IN_HAND)
            if lane.rate < math.inf:
                size = max(1, min(size, int(lane.rate / _SLICES)))
            data = await loop.sock_recv(lane.source, size)
            await lane.flows.wait()  # it may have been stalled while we waited
            lane.passed += len(data)
            if not data:
                lane.sink.shutdown(socket.SHUT_WR)
                return
            if not lane.swallow:
                await loop.sock_sendall(lane.sink, data)
            if lane.rate < math.inf:
                await asyncio.sleep(len(data) / lane.rate)

    def strike(self, fault: Fault) -> None:
        if not self.open or self._end.done():
            return
        self.struck.append(fault)
        lane = self.lanes[fault.way]
        match fault.kind:
            case Kind.STALL:
                lane.flows.clear()
                if fault.seconds < math.inf:
                    asyncio.get_running_loop().call_later(fault.seconds, lane.flows.set)
            case Kind.THROTTLE:
                lane.rate = fault.rate
            case Kind.SWALLOW:
                lane.swallow = True
            case _:
                self._end.set_result(fault)

    def heal(self) -> None:
        for lane in self.lanes.values():
            lane.due.clear()
            lane.swallow = False
            lane.rate = math.inf
            lane.flows.set()


def reset_on_close(sock: socket.socket) -> None:
    """A peer that vanishes, not one that says goodbye."""
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)


async def _say_goodbye(sock: socket.socket) -> None:
    """FIN, and a moment to take what is still under way: closing a socket that has unread bytes would reset it."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, TimeoutError):
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(_GOODBYE_S):
            while await loop.sock_recv(sock, _IN_HAND):
                pass
