"""The bounds on a request's head, over real sockets and uvicorn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect

from cosygate.api.head import BoundedHead


class Impatient(BoundedHead):
    head_max_bytes = 16 * 1024
    head_max_s = 0.3
    answer_max_s = 0.5


class House:
    """A server, its connections, and the headers of the last request."""

    def __init__(self) -> None:
        self.port = 0
        self.state: Any = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.goes_on = asyncio.Event()  # an endless answer ends
        self.callers: list[Caller] = []

    async def connect(self) -> Caller:
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
        self.callers.append(caller)
        return caller

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        self.headers = scope["headers"]
        if scope["path"] == "/large":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"50000000")]})
            for _ in range(500):
                await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["path"] == "/endless":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await self.goes_on.wait()
            await send({"type": "http.response.body", "body": b"hi"})
            return
        if scope["path"] == "/reads":
            while (await receive()).get("more_body"):
                pass
        else:
            await asyncio.sleep(0.5)  # longer than a head may take: that clock must have stopped
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"hi"})

    async def is_alone(self) -> None:
        """Soon: TimeoutError."""
        async with asyncio.timeout(3):
            while self.connections:
                await asyncio.sleep(0.01)

    @property
    def connections(self) -> list[BoundedHead]:
        return list(self.state.connections)

    @property
    def held(self) -> int:
        """Bytes of the headers that connections hold."""
        return sum(len(n) + len(v) for one in self.connections for n, v in one.headers or ())


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    listener = socket.create_server(("127.0.0.1", 0))
    house.port = listener.getsockname()[1]
    config = uvicorn.Config(
        house.app, interface="asgi3", http=Impatient, ws=WebSocketsSansIOProtocol, lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    house.state = server.server_state
    await_end = asyncio.create_task(server._serve([listener]))
    yield house
    house.goes_on.set()
    for caller in house.callers:
        caller.writer.transport.abort()
    server.should_exit = True
    await await_end


@pytest.fixture
def port(house: House) -> int:
    return house.port


async def said(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What the server says to these bytes until it closes, or has said hello."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(5):
            while not heard.endswith(b"hi") and (part := await reader.read(4096)):
                heard += part
    except ConnectionError:
        pass  # it was closed while we still wrote: what it said may be lost
    finally:
        writer.close()
    return heard


async def test_a_head_that_stalls_is_cut_off(port: int) -> None:
    assert b" 408 " in await said(port, b"GET / HTTP/1.1\r\nHost: x\r\n")
    assert b" 408 " in await said(port)  # not a byte


async def test_a_slow_head_is_cut_off_however_often_it_shows_life(port: int) -> None:
    drops = [b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * 20]
    assert b" 200 " not in await said(port, *drops, b"\r\n", pause_s=0.05)


@pytest.mark.parametrize("piece", [b"X: " + b"y" * 1000 + b"\r\n", b"y" * 1000])
async def test_an_endless_head_is_cut_off(port: int, piece: bytes) -> None:
    heard = await said(port, b"GET / HTTP/1.1\r\nHost: x\r\nX: ", *[piece] * 40, b"\r\n\r\n", pause_s=0.001)
    assert heard == b"" or b" 431 " in heard


async def test_a_decent_head_in_pieces_is_served_and_the_next_one_too(port: int) -> None:
    assert b" 200 " in await said(port, b"GET / HT", b"TP/1.1\r\nHost: x\r\n", b"\r\n", pause_s=0.05)
    both = await said(port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"b" * 60_000)
    assert b" 200 " in both


# --- the rest of a connection -----------------------------------------------------------------------------------------

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


class Caller:
    """A connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def hear(self, end: bytes = b"hi") -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readuntil(end)

    async def is_left(self) -> bytes:
        """What still comes until the server closes; TimeoutError when it does not."""
        async with asyncio.timeout(3):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def floods(self, piece: bytes, most: int = 20_000_000) -> int:
        """How many bytes it can send; fewer than `most` when it is cut off."""
        sent = 0
        try:
            async with asyncio.timeout(5):
                while sent < most:
                    self.writer.write(piece)
                    await self.writer.drain()
                    await asyncio.sleep(0)
                    sent += len(piece)
        except (ConnectionError, TimeoutError):
            pass
        return sent


LINES = (b"X: " + b"y" * 997 + b"\r\n") * 50


@pytest.mark.parametrize("piece", [LINES, b"y" * 50_000])
@pytest.mark.parametrize("answered", [True, False])
async def test_endless_trailers_are_cut_off_and_kept_nowhere(house: House, piece: bytes, answered: bool) -> None:
    caller = await house.connect()
    path = b"/" if answered else b"/reads"
    await caller.say(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ")
    if answered:
        await caller.hear()
    for _ in range(40):
        await caller.floods(piece, 50_000)
        assert house.held < 1_000
    await house.is_alone()


async def test_trailers_are_no_headers(house: House) -> None:
    caller = await house.connect()
    await caller.say(
        b"POST /reads HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\nAuthorization: Bearer evil\r\nHost: y\r\n\r\n"
    )
    await caller.hear()
    assert [n for n, _ in house.headers] == [b"host", b"x-forwarded-for", b"transfer-encoding"]
    await caller.say(GET + b"\r\n")  # and the connection lives on
    await caller.hear()


@pytest.mark.parametrize("stray", [b"\r\n", b"\r\n\r\n", b"G", b"GET / HT"])
async def test_what_begins_nothing_ends_the_connection_in_time(house: House, stray: bytes) -> None:
    caller = await house.connect()
    await caller.say(GET + b"\r\n")
    await caller.hear()
    await caller.say(stray)
    assert b" 408 " in await caller.is_left()
    await house.is_alone()


async def test_the_rest_of_a_body_that_nobody_reads_ends_it_too(house: House) -> None:
    caller = await house.connect()
    await caller.say(GET + b"Content-Length: 9\r\n\r\n")
    await caller.hear()
    await caller.say(b"x")
    assert b" 200 " not in await caller.is_left()
    await house.is_alone()


async def test_endless_empty_lines_are_cut_off(house: House) -> None:
    caller = await house.connect()
    await caller.say(GET + b"\r\n")
    await caller.hear()
    assert await caller.floods(b"\r\n" * 10_000) < 20_000_000


async def test_an_endless_head_behind_an_answer_that_goes_on_is_not_kept(house: House) -> None:
    caller = await house.connect()
    await caller.say(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", GET)
    for _ in range(40):
        await caller.floods(LINES, 50_000)
        assert house.held < 200_000
    await asyncio.sleep(0.05)
    assert house.held < 200_000
    house.goes_on.set()
    heard = await caller.is_left()
    assert heard.count(b"HTTP/1.1 ") == 1, "it is answered, and then it ends"
    assert b"hi" in heard


async def test_a_reader_who_takes_nothing_is_cut_off(house: House) -> None:
    caller = await house.connect()
    await caller.say(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        while not house.connections:
            await asyncio.sleep(0.01)
        while house.connections:
            await asyncio.sleep(0.05)


async def test_a_slow_reader_who_takes_something_is_not(house: House) -> None:
    caller = await house.connect()
    await caller.say(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    taken = 0
    async with asyncio.timeout(20):
        while taken < 50_000_000:
            part = await caller.reader.read(2_000_000)
            assert part, "cut off"
            taken += len(part)
            await asyncio.sleep(0.002)


async def test_what_has_become_a_websocket_is_bounded_as_one(house: House) -> None:
    async with connect(f"ws://127.0.0.1:{house.port}/", proxy=None) as talk:
        for _ in range(10):  # three times as long as a head may take
            await talk.send("hello")
            assert await talk.recv() == "hello"
            await asyncio.sleep(0.1)
