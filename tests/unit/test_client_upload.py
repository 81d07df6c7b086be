"""The client's upload against a door that refuses, forgets and cuts: what it sends, what it sends again, what not."""

from __future__ import annotations

import base64
import hashlib
import io
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cosygate.client import (
    BadAnswer,
    Client,
    Conflict,
    Denied,
    Rejected,
    Retries,
    ServerBusy,
    SourceChanged,
    Unreachable,
)
from tests.support.scripted_http import Answer, Request, ok, problem, serving

DATA = bytes(range(256)) * 40  # 10,240 bytes: 11 parts of 1,000
Fault = Callable[[Request], Answer | None]


class Door:
    """The article's raw door in memory, with faults in front."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[int, bytes]] = {}
        self.tasks: dict[str, str] = {}  # session → task id
        self.states: dict[str, str] = {}
        self.puts: Counter[tuple[str, int]] = Counter()
        self.options: dict[str, str] = {}
        self.aborted: list[str] = []
        self.fault: Fault = lambda request: None
        self.lock = threading.Lock()

    def answer(self, request: Request) -> Answer:
        with self.lock:
            return self.fault(request) or self.serve(request)

    def serve(self, request: Request) -> Answer:
        match request.method, request.path.split("/")[2:]:
            case "PUT", ["audio", session, seq]:
                return self.put(request, session, int(seq))
            case "GET", ["audio", session] if session in self.parts:
                return ok({"received": sorted(self.parts[session]), "task_id": self.tasks.get(session)})
            case "DELETE", ["audio", session]:
                self.aborted.append(session)
                return ok({})
            case "GET", ["task", task_id]:
                return ok({"task_id": task_id, "state": self.states.get(task_id, "queued"), "percent": 0})
        return problem(404, "upload_not_found")

    def put(self, request: Request, session: str, seq: int) -> Answer:
        digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
        assert request.headers["content-digest"] == f"sha-256=:{digest}:"
        self.puts[session, seq] += 1
        self.parts.setdefault(session, {})[seq] = request.body
        if request.query.get("is_last") != "1":
            return ok({"status": "chunk_ok", "session_id": session, "seq": seq})
        assert len(self.parts[session]) == seq + 1
        self.options = dict(request.query)
        self.tasks[session] = f"task-of-{session}"
        return ok({"task_id": self.tasks[session]}, 202)

    def recording(self, session: str) -> bytes:
        return b"".join(self.parts[session][seq] for seq in sorted(self.parts[session]))


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def waits() -> list[float]:
    return []


@contextmanager
def client_of(door: Door, waits: list[float], attempts: int = 8) -> Iterator[Client]:
    retries = Retries(attempts=attempts, wait=lambda stop, seconds: waits.append(seconds))
    with serving(door.answer) as url, Client(url, "t0ken", retries=retries) as client:
        yield client


def test_every_byte_arrives_in_parts_with_its_digest_and_the_options(
    door: Door, waits: list[float], tmp_path: Path
) -> None:
    path = tmp_path / "meeting.wav"
    path.write_bytes(DATA)
    seen: list[tuple[int, int]] = []
    with client_of(door, waits) as client:
        task = client.upload(
            path,
            chunk_bytes=1000,
            options={"language": "en"},
            on_progress=lambda sent, total: seen.append((sent, total)),
        )
    [session] = door.parts
    assert task.id == f"task-of-{session}"
    assert door.recording(session) == DATA
    assert door.options == {"is_last": "1", "language": "en", "filename": "meeting.wav"}
    assert seen[-1] == (len(DATA), len(DATA))
    assert [sent for sent, _ in seen] == sorted(sent for sent, _ in seen)
    assert waits == []


def test_what_is_there_is_not_sent_again_but_for_the_last_part(door: Door, waits: list[float]) -> None:
    def broken(request: Request) -> Answer | None:
        return problem(403, "scope_missing") if request.path.endswith("/7") else None

    door.fault = broken
    with client_of(door, waits) as client:
        with pytest.raises(Denied) as denied:
            client.upload(io.BytesIO(DATA), chunk_bytes=1000, connections=2)
        assert (denied.value.code, denied.value.status, denied.value.trace_id) == ("scope_missing", 403, "f" * 32)
        [session] = door.parts
        have = set(door.parts[session])
        assert 7 not in have
        assert len(have) >= 6
        door.fault = lambda request: None
        client.upload(io.BytesIO(DATA), chunk_bytes=1000, connections=2)
    assert list(door.parts) == [session]
    assert door.recording(session) == DATA
    assert set(door.puts.values()) == {1}


def test_a_repeated_upload_answers_with_its_task_and_sends_nothing(door: Door, waits: list[float]) -> None:
    with client_of(door, waits) as client:
        first = client.upload(io.BytesIO(DATA), chunk_bytes=1000)
        before = door.puts.total()
        assert client.upload(io.BytesIO(DATA), chunk_bytes=1000).id == first.id
        assert door.puts.total() == before


def test_other_bytes_options_or_chunk_sizes_are_other_uploads(door: Door, waits: list[float]) -> None:
    with client_of(door, waits) as client:
        tasks = [
            client.upload(io.BytesIO(DATA), chunk_bytes=1000),
            client.upload(io.BytesIO(DATA), chunk_bytes=2000),
            client.upload(io.BytesIO(DATA), chunk_bytes=1000, options={"channels": "split"}),
            client.upload(io.BytesIO(DATA[:-1] + b"x"), chunk_bytes=1000),
        ]
    assert len({task.id for task in tasks}) == 4


def test_a_failed_task_is_done_anew(door: Door, waits: list[float]) -> None:
    with client_of(door, waits) as client:
        failed = client.upload(io.BytesIO(DATA), chunk_bytes=1000)
        door.states[failed.id] = "failed"
        again = client.upload(io.BytesIO(DATA), chunk_bytes=1000)
        assert again.id == failed.id + ".2"
        assert client.upload(io.BytesIO(DATA), chunk_bytes=1000).id == again.id


def test_busy_answers_and_cut_connections_are_tried_again(door: Door, waits: list[float]) -> None:
    """Each part meets a lost answer (stored, but the connection breaks), then 503 with Retry-After, then succeeds."""
    tries: Counter[str] = Counter()

    def flaky(request: Request) -> Answer | None:
        if request.method != "PUT":
            return None
        tries[request.path] += 1
        if tries[request.path] == 1:
            door.serve(request)
            return Answer(0)
        return problem(503, "storage_full", {"Retry-After": "3"}) if tries[request.path] == 2 else None

    door.fault = flaky
    with client_of(door, waits) as client:
        client.upload(io.BytesIO(DATA), chunk_bytes=1000)
    [session] = door.parts
    assert door.recording(session) == DATA
    assert len([w for w in waits if w >= 3]) == 11
    assert len([w for w in waits if w < 3]) == 11


def test_retries_end(door: Door, waits: list[float]) -> None:
    door.fault = lambda request: problem(503, "draining", {"Retry-After": "1"})
    with client_of(door, waits, attempts=4) as client, pytest.raises(ServerBusy) as busy:
        client.upload(io.BytesIO(DATA))
    assert (busy.value.code, busy.value.retryable, busy.value.retry_after) == ("draining", True, 1.0)
    assert busy.value.tries == 4
    assert len(waits) == 3


def test_a_server_that_asks_for_an_hour_is_not_waited_for(door: Door, waits: list[float]) -> None:
    door.fault = lambda request: problem(
        429, "rate_limited", {"Date": "Mon, 01 Jan 2024 10:00:00 GMT", "Retry-After": "Mon, 01 Jan 2024 11:00:00 GMT"}
    )
    with client_of(door, waits) as client, pytest.raises(ServerBusy) as busy:
        client.upload(io.BytesIO(DATA))
    assert busy.value.retry_after == 3600
    assert waits == []


def test_no_server_is_unreachable_after_the_bounded_tries(waits: list[float]) -> None:
    retries = Retries(attempts=3, wait=lambda stop, seconds: waits.append(seconds))
    with serving(lambda request: Answer()) as url:
        pass
    with Client(url, "t", retries=retries) as client, pytest.raises(Unreachable) as gone:
        client.upload(io.BytesIO(DATA))
    assert (gone.value.tries, gone.value.status, gone.value.retryable) == (3, None, True)
    assert len(waits) == 2


def test_a_refused_recording_is_told_at_once_and_does_not_stay_open(door: Door, waits: list[float]) -> None:
    door.fault = lambda r: problem(415, "media_unsupported") if r.query.get("is_last") else None
    with client_of(door, waits) as client, pytest.raises(Rejected) as refused:
        client.upload(io.BytesIO(DATA), chunk_bytes=1000)
    assert refused.value.code == "media_unsupported"
    assert waits == []
    assert door.aborted == list(door.parts)


def test_a_named_session_is_the_callers_own_business(door: Door, waits: list[float]) -> None:
    with client_of(door, waits) as client:
        task = client.upload(io.BytesIO(DATA), session_id="my.session", chunk_bytes=1000)
        assert list(door.parts) == ["my.session"]
        door.states[task.id] = "failed"
        assert client.upload(io.BytesIO(DATA), session_id="my.session", chunk_bytes=1000).state == "failed"
        door.tasks.clear()
        with pytest.raises(Conflict):
            client.upload(io.BytesIO(DATA), session_id="my.session", chunk_bytes=5000)


class Growing(io.BytesIO):
    """A file that somebody writes to while it is being sent: other bytes at the second reading of a place."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: Counter[int] = Counter()

    def read(self, size: int | None = -1) -> bytes:
        place = self.tell()
        self.reads[place] += 1
        data = super().read(size)
        return data if self.reads[place] == 1 else data[::-1]


def test_a_file_that_changes_is_noticed_before_its_bytes_are_sent(door: Door, waits: list[float]) -> None:
    with client_of(door, waits) as client, pytest.raises(SourceChanged):
        client.upload(Growing(DATA), chunk_bytes=1000)
    assert door.parts == {}


def test_an_empty_file_is_one_empty_part_for_the_server_to_judge(door: Door, waits: list[float]) -> None:
    door.fault = lambda r: problem(422, "recording_empty") if r.method == "PUT" and not r.body else None
    with client_of(door, waits) as client, pytest.raises(Rejected) as empty:
        client.upload(io.BytesIO(b""))
    assert empty.value.code == "recording_empty"


def test_an_interrupt_leaves_at_once_and_the_next_run_continues(door: Door) -> None:
    """Ctrl-C during a long backoff: the waiting senders end, and nothing is lost."""

    def wait(stop: threading.Event, seconds: float) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        stop.wait(60)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    door.fault = lambda request: problem(503, "draining") if request.path.endswith("/5") else None
    try:
        with serving(door.answer) as url, Client(url, "t", retries=Retries(wait=wait)) as client:
            started = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                client.upload(io.BytesIO(DATA), chunk_bytes=500, connections=2)
            assert time.monotonic() - started < 20
            senders = [t for t in threading.enumerate() if t.name.startswith("cosygate-send")]
            for thread in senders:
                thread.join(10)
            assert not any(thread.is_alive() for thread in senders)
            door.fault = lambda request: None
            client.upload(io.BytesIO(DATA), chunk_bytes=500)
    finally:
        signal.signal(signal.SIGUSR1, before)
    [session] = door.parts
    assert door.recording(session) == DATA


def test_something_that_is_not_cosygate_says_so() -> None:
    def answer(request: Request) -> Answer:
        return Answer(404, b"<h1>nginx</h1>", "text/html")

    with serving(answer) as url, Client(url, "t") as client, pytest.raises(BadAnswer) as odd:
        client.upload(io.BytesIO(DATA))
    assert odd.value.status == 404
    with pytest.raises(ValueError, match="not an http"):
        Client("localhost:8000", "t")
