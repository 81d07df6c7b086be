"""One recording's client: sends it chunk by chunk, follows its task or does not, and journals what it was told."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2

from cosygate.client import Client as Library
from cosygate.client import ClientError, Retries
from cosygate.kit.backoff import Backoff
from tests.chaos.cluster.asking import TIMEOUT_S, Client, Door, GaveUp
from tests.chaos.cluster.plan import Chunk, Recording

FOLLOW_S = 240.0  # how long a task is followed
PATIENT = Retries(attempts=80, backoff=Backoff(0.1, longest_s=3.0), longest_wait_s=15.0)
_ENDED = frozenset({"succeeded", "failed", "cancelled"})


def send(door: Door, recording: Recording, webhook_url: str | None) -> None:
    """From its first chunk to whatever its fate is. Returns when the client has given up, too."""
    sender = _Sender(door, recording, webhook_url)
    try:
        sender.run()
    except GaveUp:
        pass
    finally:
        sender.client.close()


def give_up(door: Door, who: str, what: str, error: ClientError) -> None:
    """The library has: told, and whether it was refused."""
    if error.status is not None and 400 <= error.status < 500 and not error.retryable:
        door.journal.tell(who, "refused", what=what, status=error.status, code=error.code, tries=error.tries)
    door.journal.tell(who, "gave_up", what=what, code=error.code, tries=error.tries)


class _Sender:
    def __init__(self, door: Door, recording: Recording, webhook_url: str | None) -> None:
        self.recording = recording
        self.client = Client(door, recording.who, recording.principal, random.Random(f"client {recording.session}"))
        self.sound = recording.sound()
        self.path = f"/v1/audio/{recording.session}"
        self.options = {"priority": "low"} if recording.low else {}
        if webhook_url is not None:
            self.options["callback_url"] = f"{webhook_url}/{recording.who}"
        self.task = ""
        self.tell: Callable[..., None] = self.client.tell

    def run(self) -> None:
        recording = self.recording
        self.tell(
            "asked",
            principal=recording.principal,
            session=recording.session,
            fate=recording.fate,
            texts=recording.texts(),
            sha256=hashlib.sha256(self.sound).hexdigest(),
            size=len(self.sound),
            last=recording.last,
            webhook="callback_url" in self.options,
        )
        if recording.library:
            self._by_library()
        elif recording.fate == "abort":
            self._abort()
        elif recording.fate == "lose":
            self._lose()
        else:
            self._send(recording.chunks)
        if self.task and recording.fate == "cancel":
            self._delete()
        elif self.task and recording.fate == "delete":
            if self._poll():
                self._delete()
        elif self.task and not recording.library:
            {"events": self._events, "poll": self._poll, "leave": lambda: None}[recording.follow]()

    # --- chunks

    def _send(self, chunks: Sequence[Chunk]) -> None:
        if not self.recording.parallel:
            for chunk in chunks:
                self._chunk(chunk)
            return
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(self._chunk, chunk) for chunk in chunks]:
                with contextlib.suppress(GaveUp):
                    done.result()

    def _chunk(self, chunk: Chunk) -> None:
        body = self.sound[chunk.start : chunk.end]
        ends = {"is_last": "1", **self.options} if chunk.seq == self.recording.last else {}
        if chunk.form:
            fields = {"session_id": self.recording.session, "seq": str(chunk.seq), **ends}
            answer = self.client.ask("POST", "/v1/audio", "chunk", data=fields, files={"chunk": ("a", body)})
        else:
            answer = self.client.ask("PUT", f"{self.path}/{chunk.seq}", "chunk", params=ends, content=body)
        if answer.status in (200, 202):
            told = {"task": answer.data["task_id"]} if answer.status == 202 else {}
            digest = hashlib.sha256(body).hexdigest()
            self.tell("chunk", seq=chunk.seq, sha256=digest, status=answer.status, tries=answer.tries, **told)
            self.task = told.get("task", self.task)

    def _abort(self) -> None:
        """Some chunks, never the last: nothing can have become a task."""
        self._send([chunk for chunk in self.recording.chunks if chunk.seq != self.recording.last])
        self.tell("aborting")
        answer = self.client.ask("DELETE", self.path, "abort")
        self.tell("aborted", status=answer.status, tries=answer.tries)

    def _lose(self) -> None:
        """The answer to the chunk that completes it is never read. Asks what has arrived, and sends again what has
        not."""
        *before, final = self.recording.chunks
        self._send(before)
        self._send_unheard(final)
        answer = self.client.ask("GET", self.path, "listing")
        if answer.status == 200:
            self.tell("listing", **{name: answer.data.get(name) for name in ("received", "state", "task_id")})
            self.task = answer.data.get("task_id") or ""
        if not self.task:
            self._chunk(final)

    def _send_unheard(self, chunk: Chunk) -> None:
        body, door = self.sound[chunk.start : chunk.end], self.client.door
        ends = {"is_last": "1", **self.options} if chunk.seq == self.recording.last else {}
        head = [
            f"PUT {self.path}/{chunk.seq}?{urlencode(ends)} HTTP/1.1",
            f"Host: {urlsplit(door.url).netloc}",
            f"Authorization: Bearer {door.tokens[self.recording.principal]}",
            f"Content-Length: {len(body)}",
        ]
        address = (urlsplit(door.url).hostname, urlsplit(door.url).port)
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=TIMEOUT_S) as line:
            line.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            self.tell("unheard", seq=chunk.seq)
            time.sleep(0.05)

    # --- the project's own client

    def _by_library(self) -> None:
        recording, door = self.recording, self.client.door
        with Library(door.url, door.tokens[recording.principal], timeout_s=TIMEOUT_S, retries=PATIENT) as library:
            try:
                task = library.upload(
                    io.BytesIO(self.sound),
                    options=self.options,
                    session_id=recording.session,
                    chunk_bytes=recording.chunk_bytes,
                )
                self.task = task.id
                self.tell("accepted", task=task.id)
                if recording.fate == "keep" and recording.follow != "leave":
                    library.wait(task.id, timeout_s=FOLLOW_S, on_event=lambda e: self._event(e.id, e.kind, e.data))
                    heard = library.transcript(task.id)
                    self.tell("result", task=task.id, state="succeeded", text=heard.text)
            except ClientError as error:
                give_up(door, recording.who, "library", error)

    # --- the task

    def _poll(self) -> bool:
        """Until it has ended; False when that took too long."""
        began, state = time.monotonic(), ""
        while time.monotonic() - began < FOLLOW_S:
            answer = self.client.ask("GET", f"/v1/task/{self.task}", "task")
            if answer.status != 200:
                return False  # told as refused
            if answer.data["state"] != state:
                state = answer.data["state"]
                text = (answer.data.get("result") or {}).get("text")
                self.tell("result", task=self.task, state=state, text=text)
            if state in _ENDED:
                return True
            self.client.wait(0.5)
        self.tell("gave_up", what="poll", tries=0)
        return False

    def _events(self) -> None:
        """Over as many connections as it takes, each from where the one before ended."""
        began, last, path = time.monotonic(), "0", f"/v1/task/{self.task}/events"
        while time.monotonic() - began < FOLLOW_S and not self.client.door.enough.is_set():
            headers = {"Last-Event-ID": last, "Accept": "text/event-stream"}
            try:
                with self.client.http.stream("GET", path, headers=headers, timeout=20) as told:
                    if told.status_code in (401, 403, 404):
                        self.tell("refused", what="events", status=told.status_code, code=None, tries=1)
                        return
                    if told.status_code != 200:
                        self.tell("later", what="events", status=told.status_code, tries=1)
                    else:
                        for event in httpx2.EventSource(told):
                            if event.data:
                                last = event.id or last
                                self._event(event.id, event.event, json.loads(event.data))
                                if event.event in ("done", "failed", "cancelled"):
                                    return
            except httpx2.TransportError as error:
                self.tell("cut", what="events", error=type(error).__name__, tries=1)
            self.client.wait(0.5)
        self.tell("gave_up", what="events", tries=0)

    def _event(self, number: str, kind: str, data: Any) -> None:
        self.tell("event", task=self.task, id=int(number), event=kind, text=data.get("text"), code=data.get("code"))

    def _delete(self) -> None:
        """Cancels what runs, and erases what has ended."""
        self.tell("deleting", task=self.task)
        answer = self.client.ask("DELETE", f"/v1/task/{self.task}", "delete")
        state = answer.data.get("state")
        self.tell("deleted", task=self.task, status=answer.status, state=state, tries=answer.tries)
