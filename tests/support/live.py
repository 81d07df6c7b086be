"""A live client for tests, on `websockets` alone: the simplest correct resume, and a record of all that happened.

Independent of cosygate.client, so that the tests do not share its faults. It keeps all of the audio, sends from the
`offset` it is told, and holds the server to its promises while it listens: whatever breaks one raises AssertionError.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.live_recordings import LiveRecording

Message = Mapping[str, Any]
FATAL = frozenset({4400, 4401, 4404, 4409, 4429})
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.5
_LOST = (OSError, EOFError, TimeoutError, ConnectionClosed, InvalidHandshake)


class LiveRefused(Exception):
    """A close that says: do not come back."""

    def __init__(self, code: int, errors: Sequence[Message]) -> None:
        super().__init__(f"closed with {code}: {errors}")
        self.code = code
        self.errors = list(errors)


@dataclass(frozen=True, slots=True)
class Contact:
    """One connection. Times are time.monotonic()."""

    began: float  # when connecting began
    ready: float | None = None  # when the server said ready
    offset: int | None = None
    frames: int = 0  # sent on it
    closed: int = 0  # the server's close code; 1006: none came


@dataclass(slots=True)
class Story:
    """All that a session's client saw."""

    session: str = ""
    finals: list[Message] = field(default_factory=list)
    events: list[tuple[float, Message]] = field(default_factory=list)  # everything but acks and pongs
    sent: dict[int, float] = field(default_factory=dict)  # index behind a frame → when it was first sent
    acks: int = 0
    contacts: list[Contact] = field(default_factory=list)
    aborted: int = 0  # connections that the client itself dropped
    done: Message | None = None

    def of(self, kind: str) -> list[tuple[float, Message]]:
        return [(at, message) for at, message in self.events if message["type"] == kind]


class LiveCaller:
    """`run` plays the recording until the server is done with it."""

    def __init__(
        self,
        port: int,
        token: str,
        recording: LiveRecording,
        *,
        speed: float | None = None,
        breaks: Sequence[int | None] = (),
        silence_s: float = 4.0,
        give_up_s: float = 60.0,
        seed: object = 0,
        connected: Callable[[], None] = lambda: None,
    ) -> None:
        """`speed`: times real time, None: as fast as it goes. `breaks`: the nth connection is dropped by the client
        after so many frames. `silence_s`: without any word from the server for so long, the line is dead. `give_up_s`:
        without contact for so long, it fails."""
        self.story = Story()
        self._url = f"ws://127.0.0.1:{port}/v1/live"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._recording = recording
        self._speed = speed
        self._breaks = list(breaks)
        self._silence_s = silence_s
        self._give_up_s = give_up_s
        self._random = random.Random(f"caller {seed}")
        self._connected = connected
        self._resume_token = ""
        self._safe = 0
        self._sent = 0  # samples, on any connection
        self._frames = 0  # on this connection
        self._pause_s = 0.0
        self._errors: list[Message] = []

    async def run(self) -> Story:
        """Raises LiveRefused, AssertionError, TimeoutError (after give_up_s)."""
        last, wait = time.monotonic(), _FIRST_WAIT_S
        while self.story.done is None:
            contact = await self._connection()
            self.story.contacts.append(contact)
            if contact.ready is not None:
                last, wait = time.monotonic(), _FIRST_WAIT_S
            gap = bool(self._errors) and self._errors[-1].get("code") == "gap"
            own = contact.closed == 4409 and self._unanswered(contact)
            if contact.closed in FATAL and not gap and not own:
                raise LiveRefused(contact.closed, self._errors)
            if time.monotonic() - last > self._give_up_s:
                raise TimeoutError(f"no contact for {self._give_up_s} s; {self._errors}")
            if self.story.done is None:
                await asyncio.sleep(self._pause_s or self._random.uniform(wait / 2, wait))
                self._pause_s, wait = 0.0, min(2 * wait, _LONGEST_WAIT_S)
        return self.story

    def _unanswered(self, contact: Contact) -> bool:
        """Whether an earlier connection of our own got no answer lately: it may be what took over (docs/live.md)."""
        return any(c.ready is None and contact.began - c.began < 30 for c in self.story.contacts[:-1])

    async def _connection(self) -> Contact:
        """From connecting to the end of the connection, whatever ends it."""
        began, ready, offset, self._frames = time.monotonic(), None, None, 0
        number = len(self.story.contacts)
        limit = self._breaks[number] if number < len(self._breaks) else None
        closed = 1006
        try:
            async with connect(
                self._url,
                additional_headers=self._headers,
                compression=None,
                proxy=None,
                ping_interval=None,
                open_timeout=max(3.0, self._silence_s),
                close_timeout=1,
                max_queue=None,
            ) as ws:
                await ws.send(json.dumps(self._first()))
                offset = self._on_ready(await self._answer(ws))
                ready = time.monotonic()
                self._connected()
                await self._converse(ws, offset, limit)
        except ConnectionClosed as error:
            closed = error.rcvd.code if error.rcvd else 1006
        except _LOST:
            pass
        return Contact(began, ready, offset, self._frames, closed)

    def _first(self) -> Message:
        if not self.story.session:
            return self._recording.start()
        last = len(self.story.finals) - 1
        resume = {"session": self.story.session, "resume_token": self._resume_token}
        return {"type": "resume", **resume, "last_final": last if last >= 0 else None}

    async def _answer(self, ws: ClientConnection) -> Message:
        """To start or resume: ready, or an error and then ConnectionClosed."""
        while (message := await self._next(ws))["type"] != "ready":
            self._on(message)
        return message

    def _on_ready(self, message: Message) -> int:
        """Where to send from."""
        offset: int = message["offset"]
        if self.story.session:
            assert message["session"] == self.story.session, "another session"
            assert self._safe <= offset <= self._sent, (self._safe, offset, self._sent)
        else:
            assert offset == 0
        self.story.session, self._resume_token = message["session"], message["resume_token"]
        return offset

    async def _converse(self, ws: ClientConnection, offset: int, limit: int | None) -> None:
        """Until the connection ends: raises. What had arrived before its end is taken in."""
        reading = asyncio.create_task(self._read(ws))
        sending = asyncio.create_task(self._send(ws, offset, limit))
        keeping = asyncio.create_task(self._keep(ws))
        try:
            await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_EXCEPTION)
            if sending.done() and (fault := sending.exception()) and not isinstance(fault, _LOST):
                raise fault
            await reading
        finally:
            for task in (reading, sending, keeping):
                task.cancel()
            await asyncio.gather(reading, sending, keeping, return_exceptions=True)
            ws.transport.abort()

    async def _send(self, ws: ClientConnection, offset: int, limit: int | None) -> None:
        recording, began = self._recording, time.monotonic()
        for at in recording.finalizes:
            if self._safe <= at <= offset:  # perhaps it never arrived
                await ws.send(json.dumps({"type": "finalize", "samples": at}))
        for start, end in recording.frames(offset):
            if limit is not None and self._frames >= limit:
                break
            if self._speed is not None:
                # A frame can be sent once its last sample has been spoken.
                due = began + (end - offset) / recording.rate / self._speed
                await asyncio.sleep(due - time.monotonic())
            self.story.sent.setdefault(end, time.monotonic())
            self._sent = max(self._sent, end)
            await ws.send(start.to_bytes(8, "big") + recording.bytes_of(start, end))
            self._frames += 1
            if end in recording.finalizes:
                await ws.send(json.dumps({"type": "finalize", "samples": end}))
        if limit is not None:
            self.story.aborted += 1
            ws.transport.abort()
            return
        await ws.send(json.dumps({"type": "end", "samples": recording.samples}))

    async def _keep(self, ws: ClientConnection) -> None:
        """The server answers pings, so silence means that the line is dead."""
        while True:
            await asyncio.sleep(self._silence_s / 3)
            await ws.send('{"type":"ping"}')

    async def _read(self, ws: ClientConnection) -> None:
        """Until the connection ends, one way or the other: raises."""
        while True:
            self._on(await self._next(ws))

    async def _next(self, ws: ClientConnection) -> Message:
        async with asyncio.timeout(self._silence_s):
            text = await ws.recv()
        assert isinstance(text, str), "a binary message"
        message: Message = json.loads(text)
        return message

    def _on(self, message: Message) -> None:
        kind = message["type"]
        if kind not in ("ack", "pong"):
            self.story.events.append((time.monotonic(), message))
        match kind:
            case "ack":
                self.story.acks += 1
                assert message["safe"] <= message["samples"] <= self._sent, (message, self._sent)
                assert message["safe"] >= self._safe, (message, self._safe)
                self._safe = message["safe"]
            case "final":
                self._on_final(message)
            case "moved":
                self._pause_s = message["reconnect_in_ms"] / 1000
            case "error":
                self._errors.append(message)
            case "done":
                assert message["finals"] == len(self.story.finals), (message, len(self.story.finals))
                assert message["samples"] == self._recording.samples
                self.story.done = message

    def _on_final(self, final: Message) -> None:
        finals = self.story.finals
        assert final["id"] == len(finals), f"final {final['id']} after {len(finals)} of them: a repeat, or a gap"
        assert final["start_sample"] < final["end_sample"]
        assert not finals or finals[-1]["end_sample"] <= final["start_sample"], "finals overlap"
        finals.append(final)


async def undisturbed(port: int, token: str, recording: LiveRecording, speed: float | None = None) -> list[Message]:
    """The finals of the recording when nothing happens to its one connection."""
    story = await LiveCaller(port, token, recording, speed=speed, silence_s=20).run()
    assert [contact.closed for contact in story.contacts] == [1000], story.contacts
    assert story.finals, "it heard nothing: that would compare well with anything"
    return story.finals


def differences(finals: Sequence[Message], reference: Sequence[Message]) -> Iterator[str]:
    """What is not the same, one line each, without any text."""
    if len(finals) != len(reference):
        yield f"{len(finals)} finals instead of {len(reference)}"
    for got, wanted in zip(finals, reference, strict=False):
        names = [name for name in {**wanted, **got} if got.get(name) != wanted.get(name)]
        if names:
            where = {name: (got.get(name), wanted.get(name)) for name in names if name.endswith("sample")}
            yield f"final {wanted['id']} differs in {', '.join(names)} {where or ''}"


def compare(story: Story, reference: Sequence[Message], what: object = "") -> None:
    """Raises AssertionError unless the transcript is the undisturbed one in every member of every final."""
    found = list(differences(story.finals, reference))
    assert not found, f"{what}: {'; '.join(found)}; connections: {story.contacts}"
