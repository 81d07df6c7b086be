"""Tasks: state, events, transcripts, sound, lists, deletion."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.api.conftest import code_of, wav
from tests.support.server import Server, wait_task

Send = Callable[..., httpx2.Response]


def done_task(send: Send, http: httpx2.Client, session_id: str, seconds: float = 1.0, **query: str) -> str:
    task_id = send(session_id, 0, wav(seconds), is_last="1", **query).json()["task_id"]
    assert wait_task(http, task_id)["state"] == "succeeded"
    return str(task_id)


def sse(http: httpx2.Client, path: str, after: int | None = None) -> list[tuple[int, str, dict[str, object]]]:
    """All events of a stream until it ends."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with http.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        text = "".join(answer.iter_text())
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def test_a_finished_task(send: Send, alice: httpx2.Client, session_id: str) -> None:
    task_id = done_task(send, alice, session_id, filename="call.wav")
    task = alice.get(f"/v1/task/{task_id}").json()
    assert task["percent"] == 100
    assert task["file"] == task["result"]["file"] == "call.wav"
    assert task["session_id"] == session_id
    assert task["created_at"] <= task["started_at"] <= task["finished_at"]
    assert task["result"]["transcript_url"] == f"/v1/task/{task_id}/transcript"
    assert "error" not in task


def test_every_format(send: Send, alice: httpx2.Client, session_id: str) -> None:
    task_id = done_task(send, alice, session_id, 25.0)
    url = f"/v1/task/{task_id}/transcript"
    whole = alice.get(url).json()
    assert whole["task_id"] == task_id
    assert [s["id"] for s in whole["segments"]] == list(range(len(whole["segments"])))
    assert whole["duration"] == 25.0
    assert "speaker" not in whole["segments"][0]  # what an engine cannot tell is absent
    assert alice.get(url, params={"format": "txt"}).text == whole["text"] + "\n"
    srt = alice.get(url, params={"format": "srt"}).text
    assert srt.startswith("1\n00:00:00,")
    shown = [line for line in srt.splitlines() if line and " --> " not in line and not line.isdigit()]
    assert " ".join(shown) == whole["text"]
    for form in ("vtt", "vtt-karaoke"):
        assert alice.get(url, params={"format": form}).text.startswith("WEBVTT\n\n00:00:00.")
    ttml = alice.get(url, params={"format": "ttml"})
    assert ttml.headers["content-type"] == "application/ttml+xml; charset=utf-8"
    assert ttml.text.startswith('<?xml version="1.0" encoding="UTF-8"?>')
    assert alice.get(url, params={"format": "tsv"}).text.splitlines()[0] == "start\tend\ttext"
    assert code_of(alice.get(url, params={"format": "docx"})) == (422, "invalid_request")


def test_events_tell_the_story_and_resume(send: Send, alice: httpx2.Client, session_id: str) -> None:
    task_id = send(session_id, 0, wav(25.0), is_last="1").json()["task_id"]
    events = sse(alice, f"/v1/task/{task_id}/events")
    ids = [number for number, _, _ in events]
    assert ids == sorted(set(ids))
    kinds = [kind for _, kind, _ in events]
    assert kinds[-1] == "done"
    assert kinds.count("done") == 1
    told = [data for _, kind, data in events if kind == "segment"]
    assert told == alice.get(f"/v1/task/{task_id}/transcript").json()["segments"]
    middle = ids[len(ids) // 2]
    assert sse(alice, f"/v1/task/{task_id}/events", after=middle) == [e for e in events if e[0] > middle]
    assert sse(alice, f"/v1/task/{task_id}/events", after=ids[-1]) == []
    bad = alice.get(f"/v1/task/{task_id}/events", headers={"Last-Event-ID": "x"})
    assert code_of(bad) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("header", "status", "span"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=31990-32010", 206, slice(31_990, 32_011)),  # across two parts
        ("bytes=-4", 206, slice(-4, None)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=0-99999999", 206, slice(0, None)),
        ("bytes=0-1,5-6", 200, slice(0, None)),
        ("lines=1-2", 200, slice(0, None)),
    ],
)
def test_ranges(send: Send, alice: httpx2.Client, session_id: str, header: str, status: int, span: slice) -> None:
    body = wav(2.0)
    send(session_id, 0, body[:32_000])
    task_id = send(session_id, 1, body[32_000:], is_last="1").json()["task_id"]
    answer = alice.get(f"/v1/task/{task_id}/audio", headers={"Range": header})
    assert (answer.status_code, answer.content) == (status, body[span])
    assert answer.headers["content-type"] == "audio/wav"
    beyond = alice.get(f"/v1/task/{task_id}/audio", headers={"Range": "bytes=99999999-"})
    assert code_of(beyond) == (416, "range_not_satisfiable")


def test_lists_page_by_page(server: Server) -> None:
    with server.http("lister") as http:
        made = []
        for n in range(5):
            answer = http.put(f"/v1/audio/l{n}/0", content=wav(), params={"is_last": "1"})
            made.append(answer.json()["task_id"])
            wait_task(http, made[-1])
        seen, cursor = [], None
        while True:
            page = http.get("/v1/tasks", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
            seen += [t["task_id"] for t in page["tasks"]]
            cursor = page.get("next_cursor")
            if cursor is None:
                break
        assert seen == made[::-1]
        assert len(http.get("/v1/tasks", params={"state": "succeeded"}).json()["tasks"]) == 5
        assert http.get("/v1/tasks", params={"state": "failed"}).json()["tasks"] == []
        assert code_of(http.get("/v1/tasks", params={"state": "odd"})) == (422, "invalid_request")
        assert code_of(http.get("/v1/tasks", params={"limit": 0})) == (422, "invalid_request")
        assert code_of(http.get("/v1/tasks", params={"cursor": "x"})) == (422, "invalid_request")


def test_a_deleted_task_is_gone_with_its_bytes(
    server: Server, send: Send, alice: httpx2.Client, session_id: str
) -> None:
    before = _stored(server.data_dir)
    task_id = done_task(send, alice, session_id)
    assert _stored(server.data_dir) > before
    assert alice.delete(f"/v1/task/{task_id}").status_code == 204
    for path in ("", "/events", "/transcript", "/audio"):
        assert code_of(alice.get(f"/v1/task/{task_id}{path}")) == (404, "task_not_found")
    assert code_of(alice.delete(f"/v1/task/{task_id}")) == (404, "task_not_found")
    assert _stored(server.data_dir) == before
    assert send(session_id, 0, b"other bytes").status_code == 200  # its name is free


def _stored(data_dir: Path) -> set[str]:
    return {
        str(p.relative_to(data_dir))
        for folder in ("uploads", "results")
        for p in (data_dir / "blobs" / folder).rglob("*")
        if p.is_file()
    }


@pytest.mark.parametrize("task_id", ["0" * 31, "0" * 33, "../../etc", "x" * 300, "%00", "ABCDEF" * 5 + "AB"])
def test_ids_that_cannot_be(alice: httpx2.Client, task_id: str) -> None:
    answer = alice.get(f"/v1/task/{task_id}")
    assert code_of(answer) in ((404, "task_not_found"), (404, "not_found"))


@pytest.fixture
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("slow")
    script = data / "script.json"
    script.write_text(json.dumps({"texts": ["slowly"], "delay_s": 30}))
    with Server(data, recogniser="scripted", script=script) as server:
        yield server


def test_cancelling_a_running_task(slow: Server) -> None:
    with slow.http() as http:
        task_id = http.put("/v1/audio/c/0", content=wav(), params={"is_last": "1"}).json()["task_id"]
        while http.get(f"/v1/task/{task_id}").json()["state"] != "running":
            pass
        unfinished = http.get(f"/v1/task/{task_id}/transcript")
        assert code_of(unfinished) == (409, "task_unfinished")
        assert unfinished.json()["state"] == "running"
        answer = http.delete(f"/v1/task/{task_id}")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        assert sse(http, f"/v1/task/{task_id}/events")[-1][1] == "cancelled"
        assert code_of(http.get(f"/v1/task/{task_id}/audio")) == (410, "audio_gone")
        assert not _stored(slow.data_dir)
        assert http.put("/v1/audio/c/0", content=b"new").status_code == 200  # the name is free
        assert http.delete(f"/v1/task/{task_id}").status_code == 204
        assert code_of(http.get(f"/v1/task/{task_id}")) == (404, "task_not_found")
