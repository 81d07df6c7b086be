"""The article door and its raw twin: order, repeats, conflicts, completion."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.api.conftest import code_of, wav
from tests.support.server import wait_task

Send = Callable[..., httpx2.Response]
WAV = wav()
PARTS = [WAV[:10_000], WAV[10_000:20_000], WAV[20_000:]]


def test_chunks_in_order_end_in_a_task(send: Send, alice: httpx2.Client, session_id: str) -> None:
    first = send(session_id, 0, PARTS[0])
    assert (first.status_code, first.json()) == (
        200,
        {"status": "chunk_ok", "session_id": session_id, "seq": 0, "missing": [], "missing_count": 0},
    )
    assert send(session_id, 1, PARTS[1]).status_code == 200
    last = send(session_id, 2, PARTS[2], is_last="1")
    assert last.status_code == 202
    assert last.json()["status_url"] == f"/v1/task/{last.json()['task_id']}" == last.headers["location"]
    task = wait_task(alice, last.json()["task_id"])
    assert task["state"] == "succeeded"
    assert task["result"]["duration"] == 1.0
    assert alice.get(f"/v1/task/{task['task_id']}/audio").content == WAV


def test_the_completing_chunk_answers_202_whatever_its_seq(send: Send, session_id: str) -> None:
    last = send(session_id, 2, PARTS[2], is_last="1")
    assert (last.status_code, last.json()["missing"], last.json()["missing_count"]) == (200, [0, 1], 2)
    assert send(session_id, 0, PARTS[0]).json()["missing"] == [1]
    assert send(session_id, 1, PARTS[1]).status_code == 202


def test_parallel_chunks_make_one_task(send: Send, alice: httpx2.Client, session_id: str) -> None:
    body = wav(3.0)
    step = len(body) // 40 + 1
    pieces = [body[i : i + step] for i in range(0, len(body), step)]

    def put(seq: int) -> httpx2.Response:
        last = {"is_last": "1"} if seq == len(pieces) - 1 else {}
        return send(session_id, seq, pieces[seq], **last)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(put, reversed(range(len(pieces)))))
    tasks = {a.json()["task_id"] for a in answers if a.status_code == 202}
    assert len(tasks) == 1
    assert {a.status_code for a in answers} == {200, 202}
    assert alice.get(f"/v1/task/{tasks.pop()}/audio").content == body


def test_the_articles_form_with_the_file_first(alice: httpx2.Client, session_id: str) -> None:
    boundary = "b0undary"
    parts = [
        b'Content-Disposition: form-data; name="chunk"; filename="blob"\r\nContent-Type: audio/wav\r\n\r\n' + WAV,
        b'Content-Disposition: form-data; name="is_last"\r\n\r\n1',
        b'Content-Disposition: form-data; name="language"\r\n\r\nen',
        b'Content-Disposition: form-data; name="seq"\r\n\r\n0',
        b'Content-Disposition: form-data; name="session_id"\r\n\r\n' + session_id.encode(),
    ]
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + p + b"\r\n" for p in parts) + b"--b0undary--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = alice.post("/v1/audio", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert alice.get(f"/v1/task/{answer.json()['task_id']}/audio").content == WAV


def test_the_articles_form_chunk_by_chunk(alice: httpx2.Client, session_id: str) -> None:
    for seq, part in enumerate(PARTS):
        fields = {"session_id": session_id, "seq": str(seq), "is_last": "1" if seq == 2 else "0"}
        answer = alice.post("/v1/audio", data=fields, files={"chunk": ("c", part)})
        assert answer.status_code == (202 if seq == 2 else 200), answer.text
    assert answer.json()["task_id"]


def test_a_repeat_is_fine_and_other_bytes_are_not(send: Send, session_id: str) -> None:
    assert send(session_id, 0, PARTS[0]).status_code == 200
    assert send(session_id, 0, PARTS[0]).status_code == 200
    assert code_of(send(session_id, 0, PARTS[1])) == (409, "part_conflict")


def test_after_completion_a_repeat_answers_with_the_task(send: Send, session_id: str) -> None:
    send(session_id, 0, PARTS[0])
    done = send(session_id, 1, PARTS[1], is_last="1").json()["task_id"]
    assert send(session_id, 0, PARTS[0]).json()["task_id"] == done
    assert send(session_id, 1, PARTS[1], is_last="1").json()["task_id"] == done
    assert code_of(send(session_id, 0, PARTS[2])) == (409, "part_conflict")
    assert code_of(send(session_id, 2, PARTS[2])) == (409, "last_conflict")
    assert code_of(send(session_id, 5, PARTS[2], is_last="1")) == (409, "last_conflict")


def test_resume_from_what_is_there(send: Send, alice: httpx2.Client, session_id: str) -> None:
    send(session_id, 0, PARTS[0])
    send(session_id, 2, PARTS[2], is_last="1")
    seen = alice.get(f"/v1/audio/{session_id}").json()
    assert seen == {
        "received": [0, 2],
        "missing": [1],
        "missing_count": 1,
        "bytes": len(PARTS[0]) + len(PARTS[2]),
        "state": "open",
    }
    task = send(session_id, 1, PARTS[1]).json()["task_id"]
    seen = alice.get(f"/v1/audio/{session_id}").json()
    assert (seen["state"], seen["task_id"], seen["missing"]) == ("complete", task, [])


def test_an_aborted_upload_is_gone_and_its_name_free(send: Send, alice: httpx2.Client, session_id: str) -> None:
    send(session_id, 0, PARTS[0])
    assert alice.delete(f"/v1/audio/{session_id}").status_code == 204
    assert code_of(alice.get(f"/v1/audio/{session_id}")) == (404, "upload_not_found")
    assert code_of(alice.delete(f"/v1/audio/{session_id}")) == (404, "upload_not_found")
    assert send(session_id, 0, PARTS[1]).status_code == 200  # other bytes: a new upload


def test_a_complete_upload_is_not_aborted(send: Send, alice: httpx2.Client, session_id: str) -> None:
    send(session_id, 0, WAV, is_last="1")
    assert code_of(alice.delete(f"/v1/audio/{session_id}")) == (409, "upload_closed")


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
def test_content_digest_is_checked(send: Send, session_id: str, algorithm: str) -> None:
    def header(data: bytes) -> dict[str, str]:
        digest = hashlib.new(algorithm.replace("-", ""), data).digest()
        return {"Content-Digest": f"{algorithm}=:{base64.b64encode(digest).decode()}:"}

    assert code_of(send(session_id, 0, PARTS[0], header(PARTS[1]))) == (422, "digest_mismatch")
    assert send(session_id, 0, PARTS[0], header(PARTS[0])).status_code == 200


def test_raw_pcm_needs_its_format(send: Send, alice: httpx2.Client, session_id: str) -> None:
    pcm = WAV[44:]
    assert code_of(send(session_id, 0, pcm, is_last="1")) == (415, "media_unsupported")
    answer = send(f"{session_id}-raw", 0, pcm, is_last="1", audio_format="s16le;rate=16000;channels=1")
    assert wait_task(alice, answer.json()["task_id"])["result"]["duration"] == 1.0


def test_a_trace_is_continued(send: Send, session_id: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = send(session_id, 0, PARTS[0], {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert answer.headers["x-trace-id"] == trace
    other = send(session_id, 1, PARTS[0], {"traceparent": "00-xyz-1-1"})
    assert len(other.headers["x-trace-id"]) == 32
    assert other.headers["x-trace-id"] != trace
