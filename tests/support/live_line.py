"""One live connection, driven by hand: for tests that decide themselves when to speak, when to leave, and for good.

LiveCaller (live.py) always comes back; this one does what it is told, and keeps all that it hears.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.faults import Victim
from tests.support.live import Message
from tests.support.live_recordings import LiveRecording

SCRIPT = {"hear": "digest", "segment_s": 1.0}
_NOT_THERE = (OSError, EOFError, TimeoutError, ConnectionClosed, InvalidHandshake)
_TOLD = ("id", "start", "end", "text")


class Line:
    def __init__(self, ws: ClientConnection, recording: LiveRecording) -> None:
        self.ws = ws
        self.recording = recording
        self.ready: Message = {}
        self.heard: list[Message] = []  # everything, in order
        self.code = 0  # of its close, once it is closed

    @property
    def session(self) -> str:
        return str(self.ready["session"])

    @property
    def finals(self) -> list[Message]:
        return [message for message in self.heard if message["type"] == "final"]

    def resume(self, last_final: int | None) -> Message:
        """What continues this session; -1 is as good as None."""
        last = None if last_final == -1 else last_final
        return {"type": "resume", "last_final": last} | {k: self.ready[k] for k in ("session", "resume_token")}

    async def say(self, message: Mapping[str, Any]) -> None:
        await self.ws.send(json.dumps(message))

    async def play(self, start: int = 0, end: int | None = None) -> None:
        for first, behind in self.recording.frames(start):
            if end is not None and first >= end:
                return
            behind = behind if end is None else min(behind, end)
            await self.ws.send(first.to_bytes(8, "big") + self.recording.bytes_of(first, behind))
            if behind in self.recording.finalizes:
                await self.say({"type": "finalize", "samples": behind})

    async def until(self, kind: str, timeout_s: float = 20.0, **least: int) -> Message:
        """The next message of that kind whose members are at least `least`."""
        async with asyncio.timeout(timeout_s):
            while True:
                message: Message = json.loads(await self.ws.recv())
                self.heard.append(message)
                if message["type"] == kind and all(message[k] >= v for k, v in least.items()):
                    return message

    async def end(self) -> Message:
        """Says that it was all, and waits for the task."""
        await self.say({"type": "end", "samples": self.recording.samples})
        return await self.until("done")

    async def closed(self, timeout_s: float = 20.0) -> int:
        """Listens to the end; the close code, 1006 when there was none."""
        try:
            await self.until("no such message", timeout_s)
        except ConnectionClosed as error:
            self.code = error.rcvd.code if error.rcvd else 1006
        return self.code

    def vanish(self) -> None:
        self.ws.transport.abort()


@asynccontextmanager
async def call(
    server: Victim, recording: LiveRecording, first: Message | None = None, open_s: float = 5.0
) -> AsyncIterator[Line]:
    """A connection that has got its `ready` (with `first`, None: to start). Raises ConnectionClosed when it gets none,
    TimeoutError after `open_s`."""
    async with connect(
        f"ws://127.0.0.1:{server.port}/v1/live",
        additional_headers={"Authorization": f"Bearer {server.token()}"},
        compression=None,
        proxy=None,
        ping_interval=None,
        open_timeout=open_s,
        close_timeout=1,
        max_queue=None,
    ) as ws:
        line = Line(ws, recording)
        try:
            await line.say(first or recording.start())
            line.ready = await line.until("ready", open_s)
            yield line
        finally:
            line.vanish()


@asynccontextmanager
async def call_until_answered(
    server: Victim, recording: LiveRecording, first: Message, open_s: float = 0.5, give_up_s: float = 20.0
) -> AsyncIterator[Line]:
    """As above, again and again: the kernel gives every new connection to any of the workers, dead ones too."""
    deadline = time.monotonic() + give_up_s
    while True:
        calling = call(server, recording, first, open_s)
        try:
            line = await calling.__aenter__()
            break
        except _NOT_THERE:
            assert time.monotonic() < deadline, "nobody answers"
            await asyncio.sleep(0.02)
    try:
        yield line
    finally:
        await calling.__aexit__(None, None, None)


def holder(server: Victim, session: str) -> psutil.Process:
    """The gateway that holds it: its holder's name begins with its number."""
    [row] = server.rows("SELECT holder FROM live_sessions WHERE id = ?", session)
    return server.gateway(int(row["holder"].partition("/")[0]))


async def wait_finished(server: Victim, session: str, timeout_s: float = 20.0) -> None:
    """Until its row says so, or is gone; asks the database, so no gateway needs to answer."""
    deadline = time.monotonic() + timeout_s
    while [r["state"] for r in server.rows("SELECT state FROM live_sessions WHERE id = ?", session)] == ["open"]:
        assert time.monotonic() < deadline, "the session did not end"
        await asyncio.sleep(0.05)


def check_transcript(http: httpx2.Client, task_id: str, finals: list[Message]) -> None:
    """The task says what the finals said."""
    segments = http.get(f"/v1/task/{task_id}/transcript", params={"format": "json"}).json()["segments"]
    assert [[part[name] for name in _TOLD] for part in segments] == [
        [final[name] for name in _TOLD] for final in finals
    ]
