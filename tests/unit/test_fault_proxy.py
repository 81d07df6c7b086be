"""The fault proxy does what it says, byte for byte, to real connections with a real echo server behind it."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.support.proxy import Fault, FaultProxy, Kind, Way

WAIT_S = 5.0
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not look():
            await asyncio.sleep(0.005)


@dataclass
class Echo:
    """What the server behind the proxy has got, and how each of its connections ended."""

    port: int = 0
    got: bytearray = field(default_factory=bytearray)
    ends: list[str] = field(default_factory=list)

    async def ended(self) -> str:
        await until(lambda: bool(self.ends))
        return self.ends[-1]


@asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    state = Echo()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                state.got += data
                writer.write(data)
                await writer.drain()
            state.ends.append("eof")
        except ConnectionError:
            state.ends.append("reset")
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    async with server:
        yield state


@asynccontextmanager
async def through(proxy: FaultProxy) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def rest(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """All that still comes, and how it ends."""
    got = b""
    try:
        while data := await asyncio.wait_for(reader.read(65536), WAIT_S):
            got += data
        return got, "eof"
    except ConnectionError:
        return got, "reset"


async def test_without_faults_every_byte_passes_and_half_closes_too() -> None:
    data = random.Random(1).randbytes(3_000_000)
    async with echo() as server:
        with FaultProxy(server.port) as proxy:
            async with through(proxy) as (reader, writer):

                async def send() -> None:
                    writer.write(data)
                    await writer.drain()
                    writer.write_eof()

                _, (got, end) = await asyncio.gather(send(), rest(reader))
            assert (got == data, end) == (True, "eof")
            await until(lambda: not proxy.links()[0].open)
            [link] = proxy.links()
            assert (link.up, link.down, link.struck) == (len(data), len(data), ())


@pytest.mark.parametrize("at", [0, 1, 777, 100_000])
@pytest.mark.parametrize("kind", [Kind.CUT, Kind.RESET])
async def test_it_ends_a_connection_when_exactly_so_many_bytes_went_up(kind: Kind, at: int) -> None:
    at = max(at, 1) if kind is Kind.RESET else at  # a reset at once may meet the client while it still connects
    async with echo() as server:
        with FaultProxy(server.port) as proxy:
            proxy.arm(Fault(kind, Way.UP, at))
            async with through(proxy) as (reader, writer):
                writer.write(bytes(200_000))
                got, end = await rest(reader)
                assert len(got) <= at
                ending = "reset" if kind is Kind.RESET else "eof"
                assert (end, await server.ended()) == (ending, ending)
            if kind is Kind.CUT:
                assert len(server.got) == at
            assert proxy.links()[0].up == at
            assert [fault.kind for fault in proxy.links()[0].struck] == [kind]


@pytest.mark.parametrize("at", [0, 5, 30_000])
async def test_it_cuts_when_exactly_so_many_bytes_came_down(at: int) -> None:
    async with echo() as server:
        with FaultProxy(server.port) as proxy:
            proxy.arm(Fault(Kind.CUT, Way.DOWN, at))
            async with through(proxy) as (reader, writer):
                writer.write(bytes(40_000))
                got, end = await rest(reader)
            assert (len(got), end) == (at, "eof")


async def test_each_connection_takes_the_faults_that_were_armed_for_it() -> None:
    async with echo() as server:
        with FaultProxy(server.port) as proxy:
            proxy.arm(Fault(Kind.CUT, Way.DOWN, 3))
            proxy.arm()
            proxy.arm(Fault(Kind.CUT, Way.DOWN, 7))
            lengths = []
            for _ in range(4):
                async with through(proxy) as (reader, writer):
                    writer.write(bytes(50))
                    writer.write_eof()
                    lengths.append(len((await rest(reader))[0]))
            assert lengths == [3, 50, 7, 50]


async def test_a_stall_holds_one_way_for_its_time_and_loses_nothing() -> None:
    async with echo() as server:
        with FaultProxy(server.port) as proxy:
            proxy.arm(Fault(Kind.STALL, Way.DOWN, 4, seconds=0.3))
            async with through(proxy) as (reader, writer):
                began = time.monotonic()
                writer.write(b"12345678")
                assert await reader.readexactly(4) == b"1234"
                assert time.monotonic() - began < 0.25
                assert server.got == b"12345678"  # the other way flows
                assert await reader.readexactly(4) == b"5678"
                assert time.monotonic() - began >= 0.3


async def test_a_stalled_sender_is_stopped_by_tcp_not_by_our_memory() -> None:
    async with echo() as server:
        with FaultProxy(server.port) as proxy:
            async with through(proxy) as (reader, writer):
                writer.write(b"x")
                await reader.readexactly(1)
                proxy.strike(Fault(Kind.STALL, Way.UP))
                writer.write(bytes(30_000_000))
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(writer.drain(), 0.3)
                assert len(server.got) == 1
                proxy.heal()
                while len(server.got) < 30_000_001:  # the test's timeout bounds it
                    await reader.read(65536)


async def test_a_throttle_lets_so_many_bytes_a_second_pass() -> None:
    async with echo() as server:
        with FaultProxy(server.port) as proxy:
            proxy.arm(Fault(Kind.THROTTLE, Way.UP, rate=100_000))
            async with through(proxy) as (reader, writer):
                began = time.monotonic()
                writer.write(bytes(40_000))
                await reader.readexactly(40_000)
                assert 0.3 < time.monotonic() - began < 2.0
                proxy.heal()
                began = time.monotonic()
                writer.write(bytes(400_000))
                await reader.readexactly(400_000)
                assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("way", [Way.UP, Way.DOWN])
async def test_half_open_one_end_is_gone_and_the_other_is_told_nothing(way: Way) -> None:
    async with echo() as server:
        with FaultProxy(server.port) as proxy:
            async with through(proxy) as (reader, writer):
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                proxy.strike(Fault(Kind.HALF_OPEN, way))
                if way is Way.UP:
                    assert await server.ended() == "eof"
                    writer.write(b"anybody there?")
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(reader.read(1), 0.2)
                else:
                    assert await asyncio.wait_for(reader.read(1), WAIT_S) == b""
                    await asyncio.sleep(0.2)
                    assert server.ends == []
                assert proxy.links()[0].open
        if way is Way.DOWN:
            assert await server.ended() == "eof"  # the proxy has stopped


@pytest.mark.parametrize("way", [Way.UP, Way.DOWN])
async def test_swallowed_bytes_are_read_and_dropped_from_the_position_on(way: Way) -> None:
    async with echo() as server:
        with FaultProxy(server.port) as proxy:
            proxy.arm(Fault(Kind.SWALLOW, way, 3))
            async with through(proxy) as (reader, writer):
                writer.write(b"abcdef")
                await writer.drain()
                await until(lambda: [getattr(link, way) for link in proxy.links()] == [6])
                assert await reader.readexactly(3) == b"abc"
                assert server.got == (b"abc" if way is Way.UP else b"abcdef")
                proxy.heal()
                writer.write(b"again")
                assert await asyncio.wait_for(reader.readexactly(5), WAIT_S) == b"again"


async def test_a_network_that_is_gone_comes_back() -> None:
    async with echo() as server:
        with FaultProxy(server.port) as proxy:
            async with through(proxy) as (reader, writer):
                writer.write(b"x")
                await reader.readexactly(1)
                proxy.refuse()
                assert (await rest(reader))[0] == b""
            with pytest.raises(ConnectionResetError):  # when it connects, or when it reads
                async with through(proxy) as (reader, _):
                    await reader.readexactly(1)
            proxy.heal()
            async with through(proxy) as (reader, writer):
                writer.write(b"y")
                assert await reader.readexactly(1) == b"y"


def test_where_nobody_listens_the_client_is_reset() -> None:
    def first_byte(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), WAIT_S) as sock:
            return sock.recv(1)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with FaultProxy(probe.getsockname()[1]) as proxy, pytest.raises(ConnectionResetError):
            first_byte(proxy.port)


async def test_a_target_that_resets_resets_the_client() -> None:
    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    async with await asyncio.start_server(rude, "127.0.0.1", 0) as server:
        with FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
            async with through(proxy) as (reader, _):
                assert await rest(reader) == (b"", "reset")


async def test_stopping_ends_every_link_and_frees_the_port() -> None:
    async with echo() as server:
        proxy = FaultProxy(server.port).start()
        async with through(proxy) as (reader, writer), through(proxy) as (other, _):
            writer.write(b"x")
            await reader.readexactly(1)
            proxy.stop()
            assert (await rest(reader))[0] == (await rest(other))[0] == b""
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        assert not any(link.open for link in proxy.links())
