"""The least that a Python ASGI server can do with a chunk: check the token, write the body to a new file in a thread,
answer. No temporary name, no link, no listing, no limits, no log, no metrics: the ceiling for what CosyGate does.

Run by uvicorn (uvloop, httptools) with BARE_SECRET and BARE_DATA in its environment.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt

SECRET = os.environ["BARE_SECRET"]
DATA = os.environ["BARE_DATA"]
_writer = ThreadPoolExecutor(1)
_known: set[bytes] = set()


def _write(name: str, pieces: list[bytes]) -> None:
    fd = os.open(f"{DATA}/{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        os.writev(fd, pieces)
    finally:
        os.close(fd)


def _authorised(headers: list[tuple[bytes, bytes]]) -> bool:
    token = next((value for name, value in headers if name == b"authorization"), b"").removeprefix(b"Bearer ")
    if token not in _known:
        try:
            jwt.decode(token, SECRET, ["HS256"])
        except jwt.PyJWTError:
            return False
        _known.add(token)
    return True


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    status = 200 if _authorised(scope["headers"]) else 401
    pieces = []
    while True:
        message = await receive()
        pieces.append(message["body"])
        if not message["more_body"]:
            break
    if status == 200 and scope["method"] == "PUT":
        name = scope["path"].strip("/").replace("/", "-")
        await asyncio.get_running_loop().run_in_executor(_writer, _write, name, pieces)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
