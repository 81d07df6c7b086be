"""Transcripts that are corrected: through a real server, in every format, beside the recogniser's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.api.conftest import code_of
from tests.api.test_tasks import done_task

Send = Callable[..., httpx2.Response]


@pytest.fixture
def url(send: Send, alice: httpx2.Client, session_id: str) -> str:
    """Of a finished transcript with three segments."""
    task_id = done_task(send, alice, session_id, 25.0)
    url = f"/v1/task/{task_id}/transcript"
    assert len(alice.get(url).json()["segments"]) == 3
    return url


def patch(http: httpx2.Client, url: str, base: int, **body: Any) -> httpx2.Response:
    return http.patch(url, json={"base": base, **body})


def test_a_correction_is_a_version_beside_the_recognisers(alice: httpx2.Client, url: str) -> None:
    before = alice.get(url)
    assert before.json()["version"] == 1
    answer = patch(alice, url, 1, segments=[{"id": 1, "text": "Corrected <b>text</b>", "speaker": "Ann"}])
    assert answer.status_code == 200, answer.text
    saved = answer.json()
    assert (saved["version"], saved["by"]) == (2, "alice") and saved["created_at"].endswith("Z")
    assert "restores" not in saved
    after = alice.get(url).json()
    assert after["version"] == 2
    assert after["segments"][1]["text"] == "Corrected <b>text</b>" and after["segments"][1]["speaker"] == "Ann"
    assert after["segments"][0] == before.json()["segments"][0]
    assert "Corrected" in after["text"]
    for fmt in ("txt", "srt", "vtt", "vtt-karaoke", "ttml", "tsv"):
        assert "Corrected" in alice.get(url, params={"format": fmt}).text
        old = alice.get(url, params={"format": fmt, "version": 1}).text
        assert "Corrected" not in old and len(old) > 10
    assert alice.get(url, params={"version": 1}).json() == before.json()
    assert patch(alice, url, 2, speakers={"Ann": "Anna"}).json()["version"] == 3
    assert alice.get(url).json()["segments"][1]["speaker"] == "Anna"
    restored = patch(alice, url, 3, restore=1).json()
    assert (restored["version"], restored["restores"]) == (4, 1)
    assert alice.get(url).json() == before.json() | {"version": 4}
    listed = alice.get(f"{url}/versions").json()["versions"]
    assert [(v["version"], v.get("by"), v.get("restores")) for v in listed] == [
        (1, None, None), (2, "alice", None), (3, "alice", None), (4, "alice", 1),
    ]  # fmt: skip


def test_of_two_who_save_at_once_one_is_told(alice: httpx2.Client, url: str) -> None:
    def save(number: int) -> httpx2.Response:
        return patch(alice, url, 1, segments=[{"id": 0, "text": f"by {number}"}])

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(save, range(6)))
    assert sorted(a.status_code for a in answers) == [200, 409, 409, 409, 409, 409]
    won = next(n for n, a in enumerate(answers) if a.status_code == 200)
    assert alice.get(url).json()["segments"][0]["text"] == f"by {won}"
    lost = next(a for a in answers if a.status_code == 409)
    assert code_of(lost) == (409, "version_conflict") and lost.json()["version"] == 2
    stale = patch(alice, url, 1, restore=1)
    assert code_of(stale) == (409, "version_conflict") and stale.json()["version"] == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"base": 1}, 422, "invalid_request"),
        ({"base": 0, "restore": 1}, 422, "invalid_request"),
        ({"base": 1, "restore": 1}, 422, "invalid_request"),
        ({"base": 1, "segments": [{"id": 0}]}, 422, "invalid_request"),
        ({"base": 7, "restore": 1}, 404, "version_not_found"),
        ({"base": "1", "speakers": {"a": "b"}}, 422, "invalid_request"),
        ({"base": 1, "speakers": {"nobody": "b"}}, 422, "invalid_request"),
        ({"base": 1, "speakers": {"a": 5}}, 422, "invalid_request"),
        ({"base": 1, "segments": [{"id": 99, "text": "x"}]}, 422, "invalid_request"),
        ({"base": 1, "segments": [{"id": -1, "text": "x"}]}, 422, "invalid_request"),
        ({"base": 1, "segments": [{"id": 0, "start": 3.0}]}, 422, "invalid_request"),
        ({"base": 1, "segments": [{"id": 0, "text": "a\u0000b"}]}, 422, "invalid_request"),
        ({"base": 1, "segments": [{"id": 0, "text": "x" * 2_001}]}, 422, "invalid_request"),
        ({"base": 1, "segments": [{"id": 0, "text": "x"}], "restore": 1}, 422, "invalid_request"),
        ([], 422, "invalid_request"),
        (b"{", 400, "body_malformed"),
        (b'{"base": 1, "segments": [{"id": 0, "text": "\\ud800"}]}', 400, "body_malformed"),
        (b"[" * 100_000, 400, "body_malformed"),
        (b'{"base": 1, "x": "' + b"x" * (1 << 20) + b'"}', 413, "too_large"),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(
    alice: httpx2.Client, url: str, body: object, status: int, code: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert code_of(alice.patch(url, content=content)) == (status, code)
    assert len(alice.get(f"{url}/versions").json()["versions"]) == 1


def test_a_transcript_does_not_grow_without_end(send: Send, alice: httpx2.Client, session_id: str) -> None:
    url = f"/v1/task/{done_task(send, alice, session_id, 70.0)}/transcript"
    segments = alice.get(url).json()["segments"]
    assert len(segments) >= 6
    answer = patch(alice, url, 1, segments=[{"id": n, "text": "x" * 2_000} for n in range(len(segments))])
    assert code_of(answer) == (413, "too_large") and answer.json()["limit"] < 12_000
    assert patch(alice, url, 1, segments=[{"id": n, "text": "x" * 2_000} for n in range(4)]).status_code == 200


def test_a_version_that_is_not_there(alice: httpx2.Client, url: str) -> None:
    assert code_of(alice.get(url, params={"version": 2})) == (404, "version_not_found")
    assert alice.get(url, params={"version": 0}).status_code == 422


def test_nobody_else_sees_or_corrects_it(alice: httpx2.Client, bob: httpx2.Client, url: str) -> None:
    patch(alice, url, 1, segments=[{"id": 0, "text": "mine"}])
    assert code_of(patch(bob, url, 2, restore=1)) == (404, "task_not_found")
    assert code_of(bob.get(f"{url}/versions")) == (404, "task_not_found")
    assert code_of(bob.get(url, params={"version": 2})) == (404, "task_not_found")
    assert code_of(httpx2.patch(f"{alice.base_url}{url}", json={"base": 2, "restore": 1})) == (401, "token_missing")


def test_a_reader_does_not_correct(server: Any, alice: httpx2.Client, url: str) -> None:
    with server.http("alice", scopes=["task:read"]) as reader:
        assert reader.get(f"{url}/versions").status_code == 200
        assert code_of(patch(reader, url, 1, segments=[{"id": 0, "text": "x"}])) == (403, "scope_missing")


def test_it_goes_with_its_task(alice: httpx2.Client, url: str) -> None:
    patch(alice, url, 1, segments=[{"id": 0, "text": "x"}])
    assert alice.delete(url.removesuffix("/transcript")).status_code == 204
    assert code_of(alice.get(f"{url}/versions")) == (404, "task_not_found")
    assert code_of(patch(alice, url, 2, restore=1)) == (404, "task_not_found")
