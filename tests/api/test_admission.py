"""A queue that is full: who is refused, before a byte of the body; who gets in all the same; and that it ends."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.api.conftest import code_of, wav
from tests.api.test_live import START, Line
from tests.support.faults import Victim

# One job runs, and for ever; what comes after it waits.
SCRIPT = {"delay_s": 3600}
BOUND_S = 10.0
SETTINGS: dict[str, Any] = {
    "engine_slots": 1,
    "runner_jobs": 1,
    "queue_max_s": BOUND_S,
    "queue_tenant_share": 0.6,
    "queue_low_share": 0.3,
    "drain_s": 0,
}
_names = (f"r{n}" for n in range(100_000))


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with Victim(tmp_path_factory.mktemp("busy"), script=SCRIPT, **SETTINGS) as running:
        with running.http("first") as http:
            assert record(http, 1.0).status_code == 202
            until(lambda: running.rows("SELECT id FROM jobs WHERE state = 'running'"))
        yield running
    assert "Traceback" not in running.log()


@pytest.fixture
def ann(busy: Victim) -> Iterator[httpx2.Client]:
    """Of tenant a. Afterwards nothing waits any more."""
    with busy.http("ann", tenant="a") as client:
        yield client
    for tenant, user in (("a", "ann"), ("b", "bob"), ("c", "cid")):
        with busy.http(user, tenant=tenant) as http:
            for task in http.get("/v1/tasks", params={"state": "queued", "limit": 100}).json()["tasks"]:
                http.delete(f"/v1/task/{task['task_id']}")
    time.sleep(0.8)  # a look that was just made is believed for 0.7 s


@pytest.fixture
def bob(busy: Victim) -> Iterator[httpx2.Client]:
    with busy.http("bob", tenant="b") as client:
        yield client


def until(true: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.06)


def record(http: httpx2.Client, seconds: float, **query: str) -> httpx2.Response:
    """A whole recording in one chunk."""
    return http.put(f"/v1/audio/{next(_names)}/0", params={"is_last": "1", **query}, content=wav(seconds))


def figure(server: Victim, name: str) -> float:
    told = httpx2.get(f"{server.url}/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", told, re.MULTILINE)
    assert found, name
    return float(found[1])


def full(http: httpx2.Client, other: httpx2.Client) -> None:
    """Both tenants fill the queue together."""
    assert [record(http, 5.5).status_code, record(other, 5.5).status_code] == [202, 202]


def test_beyond_the_bound_new_recordings_get_503_and_when_to_come_again(
    busy: Victim, ann: httpx2.Client, bob: httpx2.Client
) -> None:
    full(ann, bob)
    refused = record(bob, 1.0)
    assert code_of(refused) == (503, "queue_full")
    assert 1 <= int(refused.headers["retry-after"]) == refused.json()["retry_after"] <= 360
    form = {"session_id": "form", "seq": "0", "is_last": "1"}
    assert code_of(bob.post("/v1/audio", data=form, files={"chunk": ("c", wav(1.0))})) == (503, "queue_full")
    assert figure(busy, 'cv_rejected_total{reason="queue_full"}') >= 2
    assert figure(busy, "cv_engine_queue_len") == 2
    assert figure(busy, "cv_engine_queue_seconds") == 11.0
    assert 0 < figure(busy, "cv_engine_queue_age_seconds") < 60


def test_no_byte_of_the_body_is_waited_for(busy: Victim, ann: httpx2.Client, bob: httpx2.Client) -> None:
    full(ann, bob)
    with socket.create_connection(("127.0.0.1", busy.port), timeout=10) as wire:
        lines = [f"PUT /v1/audio/{next(_names)}/0?is_last=1 HTTP/1.1", "Host: x", "Content-Length: 5000000"]
        lines += [f"Authorization: Bearer {busy.token('ann', tenant='a')}"]
        wire.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head and (more := wire.recv(4096)):
            head += more
        status, *fields = head.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
        assert status.startswith(b"http/1.1 503 ")
        assert b"connection: close" in fields, "what is still to come of the body is no request"


def test_recordings_that_were_begun_before_complete_and_queue(
    busy: Victim, ann: httpx2.Client, bob: httpx2.Client
) -> None:
    body, name = wav(2.0), next(_names)
    assert ann.put(f"/v1/audio/{name}/0", content=body[:20_000]).status_code == 200
    full(ann, bob)
    assert code_of(record(ann, 1.0)) == (503, "queue_full")
    last = ann.put(f"/v1/audio/{name}/1", params={"is_last": "1"}, content=body[20_000:])
    assert last.status_code == 202
    again = ann.put(f"/v1/audio/{name}/1", params={"is_last": "1"}, content=body[20_000:])
    assert (again.status_code, again.json()["task_id"]) == (202, last.json()["task_id"]), "and a repeat is none"
    assert busy.rows("SELECT count(*) FROM jobs WHERE state = 'queued'")[0]["count(*)"] == 3


def test_what_has_arrived_of_recordings_that_are_not_whole_yet_counts(
    busy: Victim, ann: httpx2.Client, bob: httpx2.Client
) -> None:
    for sender in (ann, bob):
        for _ in range(10):
            name = next(_names)
            first = sender.put(f"/v1/audio/{name}/0", content=wav(1.0))
            if first.status_code != 200:
                break
            last = name
        assert code_of(first) == (503, "tenant_queue_full" if sender is ann else "queue_full")
    assert busy.rows("SELECT count(*) FROM uploads WHERE state = 'open'")[0]["count(*)"] == 10
    assert bob.put(f"/v1/audio/{last}/1", params={"is_last": "1"}, content=bytes(32_000)).status_code == 202
    for row in busy.rows("SELECT owner, session_id FROM uploads WHERE state = 'open'"):
        with busy.http(row["owner"].partition("/")[2], tenant=row["owner"].partition("/")[0]) as http:
            assert http.delete(f"/v1/audio/{row['session_id']}").status_code == 204
    assert record(ann, 1.0).status_code == 202, "what was given up makes room at once"


def test_there_is_room_again_once_something_has_left(busy: Victim, ann: httpx2.Client, bob: httpx2.Client) -> None:
    first = record(ann, 5.5).json()["task_id"]
    assert record(bob, 5.5).status_code == 202
    assert code_of(record(bob, 1.0)) == (503, "queue_full")
    assert ann.delete(f"/v1/task/{first}").status_code == 200
    until(lambda: record(ann, 1.0).status_code == 202)


def test_one_tenant_fills_its_share_and_the_others_still_get_in(ann: httpx2.Client, bob: httpx2.Client) -> None:
    assert record(ann, 6.5).status_code == 202
    assert code_of(record(ann, 1.0)) == (503, "tenant_queue_full")
    assert record(bob, 1.0).status_code == 202


def test_low_priority_is_refused_first(ann: httpx2.Client, bob: httpx2.Client) -> None:
    assert record(ann, 1.0, priority="low").status_code == 202
    assert record(bob, 3.0).status_code == 202
    assert code_of(record(ann, 1.0, priority="low")) == (503, "queue_full")
    form = {"session_id": "low", "seq": "0", "is_last": "1", "priority": "low"}
    refused = ann.post("/v1/audio", data=form, files={"chunk": ("c", wav(1.0))})
    assert code_of(refused) == (503, "queue_full"), "where only the body tells, it is refused after it"
    assert ann.get("/v1/audio/low").status_code == 404, "and nothing is left of it"
    assert record(ann, 1.0).status_code == 202


def test_a_hundred_first_chunks_at_once_get_the_last_place(ann: httpx2.Client, bob: httpx2.Client) -> None:
    assert record(bob, 5.5).status_code == 202
    assert record(ann, 4.0).status_code == 202  # half a second is left
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: record(bob, 1.0).status_code, range(100)))
    assert sorted(answers) == [202, *[503] * 99]


def test_live_speech_is_not_queued_and_not_refused(busy: Victim, ann: httpx2.Client, bob: httpx2.Client) -> None:
    full(ann, bob)
    with Line(busy) as line:
        line.say(START).hear("ready")
        line.say({"type": "end", "samples": 0}).hear("done")


def test_tenants_take_turns(tmp_path: Path) -> None:
    """Whoever queued a crowd first, the other does not wait for all of it."""
    settings = SETTINGS | {"queue_max_s": 1_000.0, "queue_tenant_share": 1.0}
    with Victim(tmp_path, script={"delay_s": 0.1}, **settings) as running:
        with running.http("ann", tenant="a") as ann, running.http("bob", tenant="b") as bob:
            crowd = [record(ann, 1.0).status_code for _ in range(12)]
            assert crowd + [record(bob, 1.0).status_code for _ in range(2)] == [202] * 14
        done = "SELECT tenant FROM jobs WHERE state = 'succeeded' ORDER BY started_at"
        until(lambda: len(running.rows(done)) == 14, 60.0)
        order = "".join(row["tenant"] for row in running.rows(done))
    first, last = order.index("b"), order.rindex("b")
    assert last - first <= 2, f"between two of b's at most one of a's: {order}"
    assert not order.endswith("b"), "not behind everything"
