"""A TCP proxy in front of the object store that can cut it off: then open connections are reset, and new ones, too,
until it is healed. It is a process of its own, so that it costs the program that drives a test no time.

    python -m deploy.local_cluster.store_proxy --listen PORT --control PORT --target PORT

A connection to the control port says `cut` or `heal`, and is answered `ok` once it is so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.local_cluster.services import HOST, Service, answers, free_port

_PIECE = 64 * 1024
_CONTROL_S = 10.0
_CONNECT_S = 5.0


class StoreProxy(Service):
    name = "store-proxy"

    def __init__(self, folder: Path, target: int, port: int = 0) -> None:
        super().__init__(folder, port)
        self._target = target
        self._control = free_port()
        self._is_cut = False

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        ports = {"--listen": self.port, "--control": self._control, "--target": self._target}
        program = [sys.executable, "-m", "deploy.local_cluster.store_proxy"]
        return [*program, *(str(part) for option in ports.items() for part in option)]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(Path(__file__).absolute().parents[2])}

    def ready(self) -> bool:
        return answers(self._control)

    def start(self) -> StoreProxy:
        super().start()
        if self._is_cut:
            self.cut()
        return self

    def cut(self) -> None:
        """The store is away. Idempotent; holds over a restart of the proxy. Raises OSError when it does not run."""
        self._say("cut")
        self._is_cut = True

    def heal(self) -> None:
        """And back. Idempotent. Raises OSError when it does not run."""
        self._say("heal")
        self._is_cut = False

    def _say(self, word: str) -> None:
        with socket.create_connection((HOST, self._control), timeout=_CONTROL_S) as asked:
            asked.sendall(f"{word}\n".encode())
            if asked.recv(16) != b"ok\n":
                raise OSError(f"the store's proxy did not understand {word}")


class _Relay:
    def __init__(self, target: int) -> None:
        self._target = target
        self._cut = False
        self._open: set[asyncio.StreamWriter] = set()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        word = (await reader.readline()).strip()
        if word in (b"cut", b"heal"):
            self._cut = word == b"cut"
            for link in list(self._open) if self._cut else ():
                _reset(link)
            writer.write(b"ok\n")
        writer.close()

    async def link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self._cut:
                return
            async with asyncio.timeout(_CONNECT_S):
                there, onward = await asyncio.open_connection(HOST, self._target)
            self._open.add(onward)
            try:
                if not self._cut:
                    await asyncio.gather(_pass(reader, onward), _pass(there, writer))
            finally:
                self._open.discard(onward)
                _reset(onward)
        except OSError:
            pass  # one side is gone, and so is the link
        finally:
            self._open.discard(writer)
            _reset(writer)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """What was not sent yet is thrown away, and the other side meets a reset (SO_LINGER of 0, socket(7)); harmless for
    a connection that both sides had ended."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _serve(listen: int, control: int, target: int) -> None:
    relay = _Relay(target)
    async with (
        await asyncio.start_server(relay.link, HOST, listen, backlog=1024) as links,
        await asyncio.start_server(relay.control, HOST, control),
    ):
        await links.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--listen", "--control", "--target"):
        parser.add_argument(name, type=int, required=True)
    asked = parser.parse_args()
    asyncio.run(_serve(asked.listen, asked.control, asked.target))


if __name__ == "__main__":
    main()
