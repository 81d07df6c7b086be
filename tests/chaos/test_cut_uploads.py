"""Connections that end, stall or race in the middle of an upload. No process is harmed here."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.support.faults import RawRequest, Victim, cut, put_chunk, recording, together
from tests.support.server import wait_task

IDLE_S = 1.5


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Two gateways: who races may race over processes too."""
    with Victim(tmp_path_factory.mktemp("cut"), workers=2, body_idle_s=IDLE_S, open_uploads=1000) as running:
        yield running


@pytest.fixture(scope="module")
def http(victim: Victim) -> Iterator[httpx2.Client]:
    with victim.http() as client:
        yield client


def sound_of(http: httpx2.Client, task_id: str) -> bytes:
    response = http.get(f"/v1/task/{task_id}/audio")
    assert response.status_code == 200
    return response.content


def test_a_lost_answer_to_the_last_chunk_never_makes_a_second_task(victim: Victim, http: httpx2.Client) -> None:
    """Cut at every stage: in the body, just before its end, with the answer on its way."""
    tried = seen_complete = 0
    for seed, (unsent, wait_s) in enumerate(
        [(10_000, 0.0), (1, 0.0), (1, 0.02), *((0, 0.0005 * n**2) for n in range(12)), (0, 0.15), (0, 0.3)]
    ):
        session = f"lost-{seed}"
        first, last = cut(recording(seed), 30_000)
        assert put_chunk(http, session, 0, first).status_code == 200
        request = RawRequest(victim, f"/v1/audio/{session}/1?is_last=1", last)
        request.send(len(last) - unsent)
        time.sleep(wait_s)
        request.vanish()
        before = http.get(f"/v1/audio/{session}").json()
        assert set(before["received"]) in ({0}, {0, 1})

        answers = [put_chunk(http, session, 1, last, last=True) for _ in range(2)]
        assert [a.status_code for a in answers] == [202, 202]
        [task_id] = {a.json()["task_id"] for a in answers}
        assert before.get("task_id", task_id) == task_id
        assert victim.jobs_of(session) == [task_id]
        assert sound_of(http, task_id) == first + last
        tried += 1
        seen_complete += "task_id" in before
    assert 0 < seen_complete < tried, "no cut fell on both sides of the completion"


def test_completions_at_the_same_time_make_one_task(victim: Victim) -> None:
    for seed in range(8):
        session = f"same-{seed}"
        chunks = cut(recording(seed), 20_000, 20_000)
        requests = [RawRequest(victim, f"/v1/audio/{session}/{seq}", chunks[seq]) for seq in (0, 1)]
        requests += [RawRequest(victim, f"/v1/audio/{session}/2?is_last=1", chunks[2]) for _ in range(3)]
        together(*(request.send for request in requests))
        answers = [request.answer() for request in requests]
        assert {status for status, _, _ in answers} <= {200, 202}
        [task_id] = {body["task_id"] for status, _, body in answers if status == 202}
        assert victim.jobs_of(session) == [task_id]


def test_a_second_client_does_not_wait_for_a_first_that_hangs(victim: Victim, http: httpx2.Client) -> None:
    data = recording(1, seconds=40)  # more than is kept in memory
    first = RawRequest(victim, "/v1/audio/half-open/0", data)
    first.send(len(data) - 10)
    began = time.monotonic()
    others = [RawRequest(victim, "/v1/audio/half-open/0", data) for _ in range(5)]  # some reach the same gateway
    together(*(other.send for other in others))
    assert [other.answer()[0] for other in others] == [200] * len(others)
    assert time.monotonic() - began < IDLE_S - 0.2  # before the first is cut off
    first.send()  # it was not dead after all, and sends the same
    status, _, body = first.answer()
    assert (status, body["missing"]) == (200, [])
    done = put_chunk(http, "half-open", 1, b"\0\0", last=True)
    assert sound_of(http, done.json()["task_id"]) == data + b"\0\0"


def test_other_bytes_for_the_same_part_have_one_winner(victim: Victim, http: httpx2.Client) -> None:
    for seed in range(8):
        session = f"clash-{seed}"
        ours, theirs = recording(seed), recording(seed + 100)
        requests = {data: RawRequest(victim, f"/v1/audio/{session}/0", data) for data in (ours, theirs)}
        for data, request in requests.items():
            request.send(len(data) // 2)
        together(*(request.send for request in requests.values()))
        answers = {data: request.answer() for data, request in requests.items()}
        statuses = {data: status for data, (status, _, _) in answers.items()}
        assert sorted(statuses.values()) == [200, 409]
        [winner] = [data for data, status in statuses.items() if status == 200]
        [refusal] = [body for status, _, body in answers.values() if status == 409]
        assert refusal["code"] == "part_conflict"
        done = put_chunk(http, session, 1, b"\0\0", last=True)
        assert sound_of(http, done.json()["task_id"]) == winner + b"\0\0"


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="session_id"\r\n\r\nstalled-form\r\n'
    b'--x\r\nContent-Disposition: form-data; name="seq"\r\n\r\n0\r\n'
    b'--x\r\nContent-Disposition: form-data; name="chunk"; filename="c"\r\n\r\n' + bytes(20_000) + b"\r\n--x--\r\n"
)


@pytest.mark.parametrize("door", ["raw", "form"])
def test_a_body_that_stalls_is_cut_off(victim: Victim, http: httpx2.Client, door: str) -> None:
    if door == "raw":
        request = RawRequest(victim, "/v1/audio/stalled-raw/0", bytes(20_000))
    else:
        kind = "multipart/form-data; boundary=x"
        request = RawRequest(victim, "/v1/audio", FORM, method="POST", Content_Type=kind)
    request.send(10_000)
    began = time.monotonic()
    status, headers, body = request.answer()
    took = time.monotonic() - began
    assert (status, body["code"]) == (408, "body_stalled")
    assert headers["content-type"] == "application/problem+json"
    assert IDLE_S - 0.1 <= took < IDLE_S + 1.0
    assert headers["connection"] == "close"
    assert http.get(f"/v1/audio/stalled-{door}").status_code == 404  # nothing of it is kept


def test_a_body_that_trickles_is_not_cut_off(victim: Victim, http: httpx2.Client) -> None:
    data = recording(5)
    request = RawRequest(victim, "/v1/audio/trickle/0?is_last=1", data)
    began = time.monotonic()
    for at in range(8):
        request.send(at * 5_000)
        time.sleep(IDLE_S / 5)
    request.send()
    status, _, body = request.answer()
    assert time.monotonic() - began > IDLE_S
    assert status == 202
    assert wait_task(http, body["task_id"])["state"] == "succeeded"
    assert hashlib.sha256(sound_of(http, body["task_id"])).digest() == hashlib.sha256(data).digest()
