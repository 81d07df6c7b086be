"""The gateway's end of the fork-server: starting it, asking for children, hearing how they ended."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_START_TIMEOUT_S = 30.0
_SEND_TRIES, _SEND_WAIT_S = 500, 0.01  # the socket takes hundreds of messages; it is full when the server is stopped
_STOP_TIMEOUT_S = 5.0
_MAX_MESSAGE = 16 * 1024
# Nothing of the gateway's environment, which may hold secrets. One thread: a process with more cannot fork safely.
_ENVIRONMENT = {"LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}


class ServerGone(Exception):
    """The fork-server ended, hangs or did not start."""


@dataclass(eq=False, slots=True)
class Child:
    """One decoding's process. `ended` resolves to its exit status (negative: the signal; None: the server went)."""

    id: int
    ended: asyncio.Future[int | None] = field(repr=False)


class ServerLink:
    """One running fork-server. Made by `start`; when `alive` turns False it is closed and another one started."""

    def __init__(self, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self._control = control
        self._process = process
        self._children: dict[int, Child] = {}
        self._next_id = 0
        self._ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self.layers: dict[str, str] = {}
        self.alive = True
        asyncio.get_running_loop().add_reader(control.fileno(), self._on_message)

    @classmethod
    async def start(cls, cpu_s: int, memory_bytes: int) -> ServerLink:
        """Raises ServerGone, OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        module = "cosygate.adapters.decoder_sandbox.forkserver"
        command = [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(cpu_s), str(memory_bytes)]
        try:
            # Not in a thread: it takes a millisecond, as in asyncio itself, and cannot be cancelled half done.
            process = _spawn(command, theirs.fileno())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        link = cls(ours, process)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                link.layers = await link._ready
        except (ServerGone, TimeoutError):
            process.kill()
            _, said = await asyncio.to_thread(process.communicate)
            await link.close()
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise ServerGone(f"the fork-server does not start: {last or 'it said nothing'}") from None
        except BaseException:
            await link.close()
            raise
        return link

    async def begin(self, recording: int, pipe: int, task: dict[str, Any]) -> Child:
        """Starts a child; both descriptors stay the caller's. Raises ServerGone."""
        self._next_id += 1
        child = Child(self._next_id, asyncio.get_running_loop().create_future())
        self._children[child.id] = child
        await self._send({"op": "decode", "id": child.id, "task": task}, [recording, pipe])
        return child

    async def end(self, child: Child) -> None:
        """Kills the child if it runs and waits for its end."""
        if child.ended.done():
            return
        try:
            await self._send({"op": "kill", "id": child.id})
        except ServerGone:
            return
        await asyncio.wait([child.ended], timeout=_STOP_TIMEOUT_S)

    async def close(self) -> None:
        """Ends the server and with it every child. Idempotent."""
        self._lost()
        self._control.close()
        self._process.kill()
        if self._process.stderr is not None:
            self._process.stderr.close()
        await asyncio.to_thread(self._process.wait)

    async def _send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        data = json.dumps(message).encode()
        for _ in range(_SEND_TRIES):
            if not self.alive:
                break
            try:
                socket.send_fds(self._control, [data], list(fds))
                return
            except BlockingIOError:
                await asyncio.sleep(_SEND_WAIT_S)
            except OSError:
                break
        self._lost()
        raise ServerGone("the fork-server does not listen")

    def _on_message(self) -> None:
        try:
            data = self._control.recv(_MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        message = json.loads(data)
        if message["op"] == "ready":
            self._ready.set_result(message["layers"])
        elif child := self._children.pop(message["id"], None):
            _resolve(child.ended, message["status"])

    def _lost(self) -> None:
        if not self.alive:
            return
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        for child in self._children.values():
            _resolve(child.ended, None)
        self._children.clear()
        if not self._ready.done():
            self._ready.set_exception(ServerGone("the fork-server ended while starting"))


def _resolve(future: asyncio.Future[int | None], status: int | None) -> None:
    if not future.done():
        future.set_result(status)


def _spawn(command: list[str], control: int) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL  # a server that came up writes nothing to its stderr either
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, pass_fds=(control,), env=_ENVIRONMENT, cwd="/", stdin=null, stdout=null, stderr=subprocess.PIPE
    )
