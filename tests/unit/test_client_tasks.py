"""Following a task, waiting for it, reading its transcript: over connections that break."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from cosygate.client import (
    BadAnswer,
    Client,
    Conflict,
    Event,
    NotFound,
    Retries,
    Task,
    TaskFailed,
    Unreachable,
    WaitTimeout,
)
from tests.support.scripted_http import Answer, Request, ok, problem, serving, sse

STORY: list[tuple[int, str, dict[str, Any]]] = [
    (1, "progress", {"percent": 0}),
    (2, "segment", {"id": 0, "start": 0.0, "end": 1.5, "text": "Hello\u2028there."}),
    (3, "progress", {"percent": 60}),
    (4, "done", {"percent": 100}),
]
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DONE = {
    "task_id": "t1",
    "state": "succeeded",
    "percent": 100,
    "created_at": "2026-01-02T03:04:05Z",
    "result": {"text": "Hello there.", "file": "a.wav", "duration": 2.5, "language": "en", "transcript_url": "/…"},
}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, stop: object, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@contextmanager
def client_of(answer: Any, clock: Clock | None = None, attempts: int = 4) -> Iterator[Client]:
    clock = clock or Clock()
    retries = Retries(attempts=attempts, wait=clock.wait, monotonic=lambda: clock.now)
    with serving(answer) as url, Client(url, "t", retries=retries) as client:
        yield client


def test_events_continue_where_a_cut_connection_broke() -> None:
    """Each connection carries one event and breaks, half of them in the middle of an answer."""
    asked: list[str | None] = []

    def answer(request: Request) -> Answer:
        after = request.headers.get("last-event-id")
        asked.append(after)
        seq = int(after or 0)
        return sse(STORY[seq : seq + 1], cut=seq % 2 == 0)

    with client_of(answer) as client:
        events = list(client.events("t1"))
    assert [(int(e.id), e.kind, e.data) for e in events] == STORY
    assert asked == [None, "1", "2", "3"]
    assert [e.percent for e in events] == [0, None, 60, 100]


def test_reconnecting_is_bounded_but_counts_anew_after_an_event() -> None:
    connections = itertools.count()

    def answer(request: Request) -> Answer:
        turn = next(connections)
        if turn in (3, 6):
            return sse(STORY[turn // 3 - 1 : turn // 3], cut=True)
        return Answer(0)

    clock = Clock()
    with client_of(answer, clock) as client:
        events = client.events("t1")
        assert [next(events).kind, next(events).kind] == ["progress", "segment"]
        with pytest.raises(Unreachable) as gone:
            next(events)
    assert gone.value.tries == 4
    assert next(connections) == 10
    assert all(wait <= 30 for wait in clock.waits)


def test_following_a_finished_task_from_its_end_ends() -> None:
    def answer(request: Request) -> Answer:
        return sse([]) if request.path.endswith("/events") else ok(DONE)

    with client_of(answer) as client:
        assert list(client.events("t1", after="4")) == []


def test_wait_returns_the_finished_task_and_shows_events_on_the_way() -> None:
    seen: list[Event] = []

    def answer(request: Request) -> Answer:
        return sse(STORY) if request.path.endswith("/events") else ok(DONE)

    with client_of(answer) as client:
        task = client.wait("t1", on_event=seen.append)
    assert task == Task("t1", "succeeded", 100, "a.wav", "Hello there.", 2.5, "en", None, CREATED)
    assert [e.kind for e in seen] == ["progress", "segment", "progress", "done"]


def test_wait_raises_how_a_failed_task_ended() -> None:
    failed = {"task_id": "t1", "state": "failed", "percent": 3, "error": {"code": "media_no_audio", "detail": "none"}}

    def answer(request: Request) -> Answer:
        return sse([(1, "failed", {})]) if request.path.endswith("/events") else ok(failed)

    with client_of(answer) as client, pytest.raises(TaskFailed) as ended:
        client.wait("t1")
    assert (ended.value.code, ended.value.detail, ended.value.task.state) == ("media_no_audio", "none", "failed")


def test_wait_ends_at_its_time_though_comments_keep_the_connection_alive() -> None:
    """The clock moves on with every look at the stream; the server sends nothing but comments."""
    clock = Clock()

    def tick() -> float:
        clock.now += 1.0
        return clock.now

    def answer(request: Request) -> Answer:
        return Answer(200, b": still here\n\n" * 200_000, "text/event-stream")

    retries = Retries(attempts=100, wait=clock.wait, monotonic=tick)
    with serving(answer) as url, Client(url, "t", retries=retries) as client, pytest.raises(WaitTimeout):
        client.wait("t1", timeout_s=20)
    assert clock.now < 25
    assert clock.waits == []


def test_the_transcript_as_records_and_as_text() -> None:
    words = [{"text": "Hello", "start": 0.0, "end": 0.4, "confidence": 0.9}]
    body = {
        "task_id": "t1", "duration": 2.5, "language": "en", "text": "Hello there.",
        "segments": [{"id": 0, "start": 0.0, "end": 1.5, "text": "Hello there.", "speaker": "S1", "words": words}],
        "engine": {"name": "scripted", "model": "m", "version": "1"}, "timings": {"total": 0.1}, "later": "unknown",
    }  # fmt: skip

    def answer(request: Request) -> Answer:
        if request.query["format"] == "json":
            return ok(body | ({"text": "Hallo there."} if request.query.get("version") == "1" else {}))
        return Answer(200, "1\n00:00:00,000 --> 00:00:01,500\nHällo\n".encode(), "application/x-subrip; charset=utf-8")

    with client_of(answer) as client:
        transcript = client.transcript("t1")
        assert (transcript.text, client.transcript("t1", version=1).text) == ("Hello there.", "Hallo there.")
        assert "Hällo" in client.transcript_text("t1", "srt")
        with pytest.raises(ValueError, match="json, txt"):
            client.transcript_text("t1", "docx")
    [segment] = transcript.segments
    assert (segment.speaker, segment.emotion, segment.words[0].confidence) == ("S1", None, 0.9)
    assert transcript.engine["name"] == "scripted"


def test_problems_become_the_error_of_their_kind() -> None:
    answers = iter([problem(409, "task_unfinished", state="running"), problem(404, "task_not_found"), ok({"odd": 1})])
    with client_of(lambda request: next(answers)) as client:
        with pytest.raises(Conflict) as unfinished:
            client.transcript("t1")
        assert unfinished.value.extra == {"state": "running"}
        assert "trace" in str(unfinished.value)
        with pytest.raises(NotFound):
            client.task("t1")
        with pytest.raises(BadAnswer):
            client.task("t1")


def test_deleting_again_after_a_lost_answer_is_no_error() -> None:
    answers = iter([Answer(0), problem(404, "task_not_found"), problem(404, "task_not_found")])
    with client_of(lambda request: next(answers)) as client:
        client.delete("t1")
        with pytest.raises(NotFound):
            client.delete("t1")


def test_ids_cannot_leave_their_place_in_the_path() -> None:
    paths: list[str] = []

    def answer(request: Request) -> Answer:
        paths.append(request.path)
        return problem(404, "task_not_found")

    with client_of(answer) as client, pytest.raises(NotFound):
        client.task("../usage?x=1")
    assert paths == ["/v1/task/..%2Fusage%3Fx%3D1"]


def test_tasks_are_fetched_page_by_page() -> None:
    def answer(request: Request) -> Answer:
        assert request.query["state"] == "queued"
        first = "cursor" not in request.query
        task = {"task_id": "b" if first else "a", "state": "queued", "percent": 0}
        return ok({"tasks": [task], "next_cursor": "b" if first else None})

    with client_of(answer) as client:
        assert [t.id for t in client.tasks(state="queued")] == ["b", "a"]


def test_the_token_travels_in_the_header_alone() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Answer:
        seen.append(request)
        return ok({"engines": [{"name": "moonshine", "version": "2", "models": [
            {"name": "tiny-en", "languages": ["en"], "words": False, "live": True}]}]})  # fmt: skip

    with client_of(answer) as client:
        [engine] = client.models()
    assert engine.models[0].abilities == {"live"}
    assert seen[0].headers["authorization"] == "Bearer t"
    assert seen[0].query == {}
