"""A live door to test clients against: a real WebSocket server that keeps the protocol, and breaks it on demand.

Its recogniser is the simplest that can be checked: every `utterance` samples are one final whose text names its range,
and so is what `finalize` or `end` cuts off. What it has heard is there to be compared with what was said.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

WINDOW_S = 5.0


@dataclass
class Session:
    """What the server keeps: the truth that tests look at."""

    id: str
    start: dict[str, Any]
    heard: bytearray = field(default_factory=bytearray)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)  # where finalize ended an utterance
    finals: list[dict[str, Any]] = field(default_factory=list)
    safe: int = 0
    done: bool = False
    resumes: list[dict[str, Any]] = field(default_factory=list)
    repeats: int = 0  # samples that came again

    @property
    def unit(self) -> int:
        return 2 if self.start.get("format", "s16le") == "s16le" else 1

    @property
    def samples(self) -> int:
        return len(self.heard) // self.unit


class Misbehaviour(Exception):
    """A fault to commit now: abort the connection without a goodbye."""


class LivePeer:
    """`fault(peer, connection_number, kind, message)` runs before each message is taken, where kind is its `type` or
    "audio"; it may raise Misbehaviour (a cut), return a string or dict to be sent as it is, or "" to swallow it."""

    def __init__(self, *, utterance: int = 16_000, fault: Callable[..., Any] | None = None, window_s: float = WINDOW_S):
        self.utterance = utterance
        self.fault = fault
        self.window_s = window_s
        self.sessions: dict[str, Session] = {}
        self.kinds: list[str] = []  # of every message that came
        self.connections = 0
        self.headers: list[dict[str, str]] = []
        self.fall_back: Callable[[Session], int] = lambda session: session.samples  # the offset of a resume
        self.greet: Callable[[int], tuple[int, dict[str, Any]] | None] = lambda number: None  # a refusal
        self.hold_acks = False
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def only(self) -> Session:
        [session] = self.sessions.values()
        return session

    async def handle(self, socket: ServerConnection) -> None:
        number = self.connections
        self.connections += 1
        assert socket.request is not None
        self.headers.append({k.lower(): v for k, v in socket.request.headers.raw_items()})
        try:
            if refusal := self.greet(number):
                code, error = refusal
                await self._tell(socket, "error", **error)
                await socket.close(code)
                return
            await self._serve(socket, number)
        except Misbehaviour:
            socket.transport.abort()
        except ConnectionClosed:
            pass

    async def _serve(self, socket: ServerConnection, number: int) -> None:
        session: Session | None = None
        async for message in socket:
            data = {"type": "audio"} if isinstance(message, bytes) else json.loads(message)
            self.kinds.append(data["type"])
            if self.fault:
                told = self.fault(self, number, data["type"], message)
                if told is not None:
                    if isinstance(told, tuple):
                        await socket.close(told[0])
                        return
                    if told:
                        await socket.send(told if isinstance(told, str) else json.dumps(told))
                    continue
            if data["type"] == "ping":
                await self._tell(socket, "pong")
            elif session is None:
                session = await self._begin(socket, data)
            elif isinstance(message, bytes):
                if not await self._audio(socket, session, message):
                    return
            elif not await self._told(socket, session, data):
                return
            if session is None:
                return

    async def _begin(self, socket: ServerConnection, data: dict[str, Any]) -> Session | None:
        if data["type"] == "start":
            session = Session(f"{len(self.sessions):032x}", data)
            self.sessions[session.id] = session
            await self._ready(socket, session, 0)
            return session
        found = self.sessions.get(data["session"])
        if found is None or data["resume_token"] != "t" * 32:
            await self._tell(socket, "error", code="session_not_found", detail="There is no such live session")
            await socket.close(4404)
            return None
        found.resumes.append(data)
        offset = self.fall_back(found)
        del found.heard[offset * found.unit :]
        await self._ready(socket, found, offset)
        last = -1 if data["last_final"] is None else data["last_final"]
        for final in found.finals[last + 1 :]:
            await self._tell(socket, "final", **final)
        if found.done:
            await self._done(socket, found)
            return None
        return found

    async def _ready(self, socket: ServerConnection, session: Session, offset: int) -> None:
        members = {"session": session.id, "resume_token": "t" * 32, "offset": offset, "window_s": self.window_s}
        await self._tell(socket, "ready", **members)

    async def _audio(self, socket: ServerConnection, session: Session, frame: bytes) -> bool:
        index, audio = int.from_bytes(frame[:8], "big"), frame[8:]
        if index > session.samples:
            await self._tell(socket, "error", code="gap", detail="missing", expected=session.samples)
            await socket.close(4400)
            return False
        known = session.samples - index
        session.repeats += min(known, len(audio) // session.unit)
        session.heard += audio[known * session.unit :]
        await self._tell(socket, "partial", start=session.safe / 16000, end=session.samples / 16000, text="…")
        while session.samples - session.safe >= self.utterance:
            await self._final(socket, session, session.safe + self.utterance)
        await self._ack(socket, session)
        return True

    async def _told(self, socket: ServerConnection, session: Session, data: dict[str, Any]) -> bool:
        if data["type"] == "finalize":
            if session.safe < data["samples"] <= session.samples:
                session.cuts.append(data["samples"])
                await self._final(socket, session, data["samples"])
                await self._ack(socket, session)
        elif data["type"] == "gap":
            assert data["from"] == session.samples, (data, session.samples)
            session.gaps.append((data["from"], data["to"]))
            session.heard += bytes((data["to"] - data["from"]) * session.unit)
        elif data["type"] == "end":
            if data["samples"] != session.samples:
                await self._tell(socket, "error", code="gap", detail="missing", expected=session.samples)
                await socket.close(4400)
                return False
            if session.samples > session.safe:
                await self._final(socket, session, session.samples)
            session.done = True
            await self._done(socket, session)
            return False
        return True

    async def _final(self, socket: ServerConnection, session: Session, end: int) -> None:
        start, session.safe = session.safe, end
        final = {
            "id": len(session.finals), "start": start / 16000, "end": end / 16000,
            "start_sample": start, "end_sample": end, "text": f"{start}-{end}",
        }  # fmt: skip
        session.finals.append(final)
        await self._tell(socket, "final", **final)

    async def _ack(self, socket: ServerConnection, session: Session) -> None:
        if not self.hold_acks:
            await self._tell(socket, "ack", samples=session.samples, safe=session.safe)

    async def _done(self, socket: ServerConnection, session: Session) -> None:
        members = {"task_id": session.id, "finals": len(session.finals), "samples": session.samples}
        await self._tell(socket, "done", **members)
        await socket.close(1000)

    async def _tell(self, socket: ServerConnection, kind: str, **members: Any) -> None:
        await socket.send(json.dumps({"type": kind, **members}))


@contextmanager
def playing(peer: LivePeer) -> Iterator[LivePeer]:
    """Serves `peer` on a free port, from a thread of its own."""
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        async with serve(
            peer.handle, "127.0.0.1", peer.port, compression=None, ping_interval=None, close_timeout=1
        ) as it:
            peer.port = next(iter(it.sockets)).getsockname()[1]
            started.set()
            await stop.wait()

    def work() -> None:
        asyncio.set_event_loop(loop)
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(run())
        loop.close()

    thread = threading.Thread(target=work, name="live-peer")
    thread.start()
    assert started.wait(10)
    try:
        yield peer
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive()
