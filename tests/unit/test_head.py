"""The bounds on a request's head, over real sockets and uvicorn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from cosygate.api.head import BoundedHead


class Impatient(BoundedHead):
    head_max_bytes = 16 * 1024
    head_max_s = 0.3


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.5)  # longer than a head may take: that clock must have stopped
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(hello, http=Impatient, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    await_end = asyncio.create_task(server._serve([listener]))
    yield listener.getsockname()[1]
    server.should_exit = True
    await await_end


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
