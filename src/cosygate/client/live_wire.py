"""One connection of a live session, from its handshake to its end: a WebSocket (RFC 6455) on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidProxy, InvalidStatus

from cosygate.client.errors import BadAnswer, ClientError, Unreachable, from_response
from cosygate.client.transport import loopback

MAX_MESSAGE = 1024 * 1024  # a final with its words is far below
CUT = 1006


@dataclass(frozen=True, slots=True)
class Door:
    """Where to connect, and as whom."""

    url: str  # ws:// or wss://
    headers: Mapping[str, str]
    tls: ssl.SSLContext | None
    direct: bool  # no proxy from the environment

    @classmethod
    def of(cls, url: str, token: str, verify: bool | str | Path | ssl.SSLContext) -> Door:
        """The live door of the gateway at `url` (http or https)."""
        base = httpx2.URL(url.rstrip("/"))
        tls = None
        if base.scheme == "https":
            if isinstance(verify, str | Path):
                tls = ssl.create_default_context(cafile=verify)
            else:
                tls = httpx2.create_ssl_context(verify=verify)
        scheme = "ws" if tls is None else "wss"
        # A proxy from the environment cannot reach this machine's own server.
        direct = loopback(base.host)
        return cls(f"{base.copy_with(scheme=scheme)}/v1/live", {"Authorization": f"Bearer {token}"}, tls, direct)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds."""

    open_s: float = 10.0  # until the handshake is done
    answer_s: float = 10.0  # until something is heard after something that is always answered
    ping_s: float = 10.0  # of silence, then a ping says that we are here
    close_s: float = 2.0  # for saying goodbye


class Talk(Protocol):
    """What a connection carries. All are called on the loop; `wake` says that `message` may have something."""

    wake: asyncio.Event
    chunk_s: float  # so long an unfinished frame may wait

    def hello(self) -> str: ...
    def message(self, *, flush: bool) -> str | bytes | None: ...
    def holds_back(self) -> bool: ...
    def unanswered(self) -> bool: ...
    def received(self, text: str | bytes) -> bool:
        """True: that was the last one. Raises ClientError: the session is over."""


class _Direct(connect):
    """Follows no redirect: the token is for the address that the user gave."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def converse(door: Door, patience: Patience, talk: Talk) -> int | None:
    """The close code of the connection (1006: cut), None when the last message has come. Raises ClientError when there
    was no connection, or what `talk` raised."""
    socket = await _open(door, patience)
    line = _Line(socket, patience, talk)
    writing = asyncio.create_task(line.write())
    try:
        return await line.read()
    finally:
        writing.cancel()
        line.quiet()
        await asyncio.gather(writing, return_exceptions=True)
        with contextlib.suppress(OSError):
            async with asyncio.timeout(2 * patience.close_s):
                await socket.close(1000)
        if not writing.cancelled() and (broken := writing.exception()) and not isinstance(broken, ConnectionClosed):
            raise broken


async def _open(door: Door, patience: Patience) -> ClientConnection:
    try:
        return await _Direct(
            door.url,
            additional_headers=door.headers,
            user_agent_header="cosygate-client",
            compression=None,  # speech does not get smaller, and both ends save the memory
            proxy=None if door.direct else True,
            ssl=door.tls,
            open_timeout=patience.open_s,
            close_timeout=patience.close_s,
            ping_interval=None,  # the protocol has a ping of its own
            max_size=MAX_MESSAGE,
        )
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(f"the server's certificate is not trusted: {error.verify_message}") from error
    except InvalidStatus as error:
        raise _refused(door, error) from error
    except (OSError, InvalidMessage) as error:  # refused, cut, timed out
        raise Unreachable(str(error) or type(error).__name__, retryable=True) from error
    except InvalidProxy as error:
        raise Unreachable(str(error)) from error
    except InvalidHandshake as error:
        raise BadAnswer(f"{error}: is this a CosyGate server?") from error


def _refused(door: Door, error: InvalidStatus) -> ClientError:
    answer = error.response
    if answer.status_code < 300:
        return BadAnswer(f"status {answer.status_code}, and no WebSocket: is this a CosyGate server?")
    asked = httpx2.Request("GET", door.url)
    headers = [(k, v) for k, v in answer.headers.raw_items() if k.lower() not in ("content-encoding",)]
    return from_response(
        httpx2.Response(answer.status_code, headers=headers, content=bytes(answer.body or b""), request=asked)
    )


class _Line:
    """The two directions of an open connection, and the alarm that notices when nobody is at the other end."""

    def __init__(self, socket: ClientConnection, patience: Patience, talk: Talk) -> None:
        self._socket = socket
        self._patience = patience
        self._talk = talk
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        self._said_at = self._loop.time()
        self._held_since: float | None = None  # when the unfinished frame began to wait

    async def read(self) -> int | None:
        try:
            while True:
                message = await self._socket.recv()
                self.quiet()
                if self._talk.received(message):
                    return None
                if self._talk.unanswered():
                    self._expect()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else CUT

    async def write(self) -> None:
        """Until it is cancelled. An error of ours cuts the connection, so that `read` ends as well."""
        try:
            await self._say(self._talk.hello(), asks=True)
            flush = False
            while True:
                self._talk.wake.clear()
                message = self._talk.message(flush=flush)
                flush = False
                if message is not None:
                    await self._say(message, asks=isinstance(message, bytes))
                elif not await self._woken():
                    flush = self._talk.holds_back()
                    if not flush:
                        await self._say('{"type":"ping"}', asks=True)
        except Exception:
            self._socket.transport.abort()
            raise

    async def _woken(self) -> bool:
        """False: nothing to send for so long that something has to be done about it."""
        if self._talk.holds_back():
            self._held_since = self._held_since or self._loop.time()
            until = self._held_since + self._talk.chunk_s
        else:
            until = self._said_at + self._patience.ping_s
        try:
            async with asyncio.timeout_at(until):
                await self._talk.wake.wait()
        except TimeoutError:
            return False
        return True

    async def _say(self, message: str | bytes, *, asks: bool) -> None:
        """`asks`: the server always answers such a message, so silence afterwards means that it is gone."""
        if asks:
            self._expect()
        self._held_since = None
        await self._socket.send(message)
        self._said_at = self._loop.time()

    def _expect(self) -> None:
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._patience.answer_s, self._suspect)

    def _suspect(self) -> None:
        """Not yet a verdict: a callback of the user may have kept us from reading what is there."""
        self._alarm = self._loop.call_later(self._patience.answer_s / 100, self._socket.transport.abort)

    def quiet(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
